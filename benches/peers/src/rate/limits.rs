//! The limits of all contestants, with the same rate.

use governor::{
    Quota,
    clock::Clock,
    middleware::NoOpMiddleware,
    state::{InMemoryState, NotKeyed},
};
use rate_net::DirectLimiter;
use std::{
    hint::black_box,
    num::NonZeroU32,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use steadfast::rate_limit::TokenBucket;
use throttle_net::Throttle;

pub const SECOND: Duration = Duration::from_secs(1);
pub const HOUR: Duration = Duration::from_secs(3600);

/// One token per nanosecond: more than any thread can take.
pub const PLENTY: u64 = 1_000_000_000;

/// A clock that was read before, to measure a mechanism alone. The compiler cannot see that the reading is constant, so
/// it cannot precompute results. A limiter is made at one instant and asked at a later one, so that each must compute
/// the elapsed time.
#[derive(Clone)]
pub struct AlreadyRead {
    made: std::time::Instant,
    asked: std::time::Instant,
    is_made: Arc<AtomicBool>,
}

impl AlreadyRead {
    pub fn new() -> Self {
        let made = std::time::Instant::now();
        Self { made, asked: made + SECOND, is_made: Arc::default() }
    }

    /// Advances from the instant at which limiters are made to the later one.
    pub fn go_on(&self) {
        self.is_made.store(true, Ordering::Relaxed);
    }

    #[inline]
    fn read(&self) -> std::time::Instant {
        black_box(if self.is_made.load(Ordering::Relaxed) { self.asked } else { self.made })
    }
}

impl Clock for AlreadyRead {
    type Instant = std::time::Instant;

    #[inline]
    fn now(&self) -> Self::Instant {
        self.read()
    }
}

impl clock_lib::Clock for AlreadyRead {
    #[inline]
    fn now(&self) -> clock_lib::Monotonic {
        self.read().into()
    }

    fn wall(&self) -> clock_lib::Wall {
        clock_lib::Wall::now()
    }
}

impl ratelimit::Clock for AlreadyRead {
    #[inline]
    fn elapsed(&self) -> Duration {
        black_box(self.asked).saturating_duration_since(black_box(self.made))
    }
}

/// One token per nanosecond, and governor's largest burst, four seconds' worth. `Quota::per_second` divides a second by
/// its count in whole nanoseconds: a rate above one per nanosecond gives an interval of zero, and no limit.
pub fn plenty_for_governor() -> Quota {
    Quota::with_period(Duration::from_nanos(1)).expect("a period").allow_burst(NonZeroU32::MAX)
}

/// The same quota for our limits.
pub fn plenty() -> steadfast::rate_limit::Quota {
    steadfast::rate_limit::Quota::new(PLENTY, SECOND).with_burst(4 * PLENTY)
}

pub fn bucket() -> TokenBucket {
    TokenBucket::with_quota(plenty()).build().expect("a valid bucket")
}

/// A bucket that has spent its one token of this hour.
pub fn empty_bucket() -> TokenBucket {
    let bucket = TokenBucket::builder(1, HOUR).build().expect("a valid bucket");
    assert!(bucket.try_acquire(1).is_ok());
    bucket
}

pub type Governor<C> = governor::RateLimiter<NotKeyed, InMemoryState, C, NoOpMiddleware<<C as Clock>::Instant>>;

pub fn governor<C: Clock>(clock: C) -> Arc<Governor<C>> {
    Arc::new(governor::RateLimiter::direct_with_clock(plenty_for_governor(), clock))
}

pub fn empty_governor<C: Clock>(clock: C) -> Arc<Governor<C>> {
    let quota = Quota::with_period(HOUR).expect("a period");
    let limiter = governor::RateLimiter::direct_with_clock(quota, clock);
    assert!(limiter.check().is_ok());
    Arc::new(limiter)
}

/// The same rate and burst for rate-net and throttle-net, whose counts have 32 bits.
pub const PLENTY_32: u32 = PLENTY as u32;

pub fn plenty_for_rate_net() -> rate_net::Quota {
    rate_net::Quota::per_second(PLENTY_32).with_burst(4 * PLENTY_32)
}

/// Its token bucket.
pub fn rate_net<C: clock_lib::Clock + Clone>(clock: C) -> Arc<DirectLimiter<C>> {
    Arc::new(DirectLimiter::with_quota(plenty_for_rate_net()).with_clock(clock))
}

pub fn empty_rate_net() -> Arc<DirectLimiter> {
    let limiter = DirectLimiter::with_quota(rate_net::Quota::rate(1, HOUR).expect("a valid quota"));
    assert!(limiter.check().is_allow());
    Arc::new(limiter)
}

pub fn throttle_net<C: clock_lib::Clock>(clock: C) -> Arc<Throttle<C>> {
    let builder = Throttle::builder().per_second(PLENTY_32).burst(4 * PLENTY_32);
    Arc::new(builder.clock(clock).try_build().expect("a valid throttle"))
}

pub fn empty_throttle_net() -> Arc<Throttle> {
    let throttle = Throttle::builder().rate(1, HOUR).try_build().expect("a valid throttle");
    assert!(throttle.try_acquire());
    Arc::new(throttle)
}

pub fn ratelimit<C: ratelimit::Clock>(clock: C) -> Arc<ratelimit::Ratelimiter<C>> {
    let builder = ratelimit::Builder::with_clock(PLENTY, clock).max_tokens(4 * PLENTY).initial_available(4 * PLENTY);
    Arc::new(builder.build().expect("a valid limiter"))
}

pub fn empty_ratelimit() -> Arc<ratelimit::Ratelimiter> {
    Arc::new(ratelimit::Ratelimiter::builder(1).period(HOUR).build().expect("a valid limiter"))
}

pub fn leaky_bucket(fair: bool) -> Arc<leaky_bucket::RateLimiter> {
    let mut builder = leaky_bucket::RateLimiter::builder();
    let plenty = PLENTY as usize;
    let interval = Duration::from_millis(1);
    Arc::new(builder.max(4 * plenty).initial(4 * plenty).refill(plenty / 1000).interval(interval).fair(fair).build())
}

pub fn empty_leaky_bucket() -> Arc<leaky_bucket::RateLimiter> {
    Arc::new(leaky_bucket::RateLimiter::builder().max(1).initial(0).refill(1).interval(HOUR).build())
}
