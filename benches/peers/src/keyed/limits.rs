//! The keyed limits of all contestants, behind one method.

use crate::rate::AlreadyRead;
use governor::{
    RateLimiter,
    clock::{Clock, MonotonicClock},
    middleware::NoOpMiddleware,
    state::keyed::DashMapStateStore,
};
use std::{hash::BuildHasher, hint::black_box, num::NonZeroU32, sync::Arc, time::Duration};
use steadfast::rate_limit::{Keyed, OneTier, Overflow};
use throttle_net::PerKey;
use tokio::time::Instant;

/// A rate limit by key.
pub trait Limit: Clone + Send + Sync + 'static {
    /// Takes tokens of this key. Returns whether there were enough.
    fn take(&self, key: u64, tokens: u32) -> bool;
}

/// The rate and burst of every key, and the number of keys that a limiter is sized for.
#[derive(Clone, Copy)]
pub struct Size {
    /// One token.
    pub interval: Duration,
    pub burst: u32,
    pub keys: usize,
}

impl Size {
    /// One token per nanosecond: more than any thread can take.
    pub fn plenty(keys: usize) -> Self {
        Self { interval: Duration::from_nanos(1), burst: 4_000_000_000, keys }
    }

    /// The tokens that rate-net and throttle-net refill in one second.
    fn per_second(self) -> u32 {
        (Duration::from_secs(1).as_nanos() / self.interval.as_nanos()) as u32
    }
}

/// Our limit, with tokio's clock.
pub struct Ours<H>(Keyed<u64, OneTier, H>);

impl<H: BuildHasher + Send + Sync + 'static> Ours<H> {
    pub fn new(size: Size, overflow: Overflow, hasher: H) -> Self {
        let quota = steadfast::rate_limit::Quota::new(1, size.interval).with_burst(size.burst.into());
        let builder = Keyed::builder(size.keys, quota).overflow(overflow).hasher(hasher);
        Self(builder.build().expect("a valid limit"))
    }
}

impl<H> Clone for Ours<H> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<H: BuildHasher + Send + Sync + 'static> Limit for Ours<H> {
    #[inline(always)]
    fn take(&self, key: u64, tokens: u32) -> bool {
        black_box(&self.0.try_acquire(&key, tokens.into())).is_ok()
    }
}

/// Our limit, with a clock that was read before.
pub struct OursAt<H> {
    limit: Ours<H>,
    now: Instant,
}

impl<H: BuildHasher + Send + Sync + 'static> OursAt<H> {
    pub fn new(limit: Ours<H>) -> Self {
        Self { limit, now: Instant::now() + Duration::from_secs(1) }
    }
}

impl<H> Clone for OursAt<H> {
    fn clone(&self) -> Self {
        Self { limit: self.limit.clone(), now: self.now }
    }
}

impl<H: BuildHasher + Send + Sync + 'static> Limit for OursAt<H> {
    #[inline(always)]
    fn take(&self, key: u64, tokens: u32) -> bool {
        black_box(&self.limit.0.try_acquire_at(&key, tokens.into(), black_box(self.now))).is_ok()
    }
}

pub type Governor<C, H> = RateLimiter<u64, DashMapStateStore<u64, H>, C, NoOpMiddleware<<C as Clock>::Instant>>;

pub fn governor<C, H>(size: Size, clock: C, hasher: H) -> Arc<Governor<C, H>>
where
    C: Clock,
    H: BuildHasher + Default + Clone,
{
    let quota = governor::Quota::with_period(size.interval).expect("a period");
    let quota = quota.allow_burst(NonZeroU32::new(size.burst).expect("a burst"));
    Arc::new(RateLimiter::dashmap_with_clock_and_hasher(quota, clock, hasher))
}

/// With the clock that our limit reads.
pub fn monotonic_governor<H: BuildHasher + Default + Clone>(size: Size, hasher: H) -> Arc<Governor<MonotonicClock, H>> {
    governor(size, MonotonicClock, hasher)
}

impl<C, H> Limit for Arc<Governor<C, H>>
where
    C: Clock + Send + Sync + 'static,
    C::Instant: 'static,
    H: BuildHasher + Clone + Send + Sync + 'static,
{
    #[inline(always)]
    fn take(&self, key: u64, tokens: u32) -> bool {
        match NonZeroU32::new(tokens) {
            Some(NonZeroU32::MIN) => black_box(&self.check_key(&key)).is_ok(),
            Some(tokens) => matches!(black_box(&self.check_key_n(&key, tokens)), Ok(Ok(()))),
            None => true,
        }
    }
}

/// Room for twice the keys, as its documentation advises: each shard has an equal part, and some shards get more keys.
pub fn rate_net<C: clock_lib::Clock + Clone>(size: Size, clock: C) -> Arc<rate_net::RateLimiter<C>> {
    let builder = rate_net::RateLimiter::builder().per_second(size.per_second()).burst(size.burst);
    let eviction = rate_net::Eviction::capacity(2 * size.keys);
    Arc::new(builder.eviction(eviction).clock(clock).try_build().expect("a valid limiter"))
}

impl<C: clock_lib::Clock + Clone + 'static> Limit for Arc<rate_net::RateLimiter<C>> {
    #[inline(always)]
    fn take(&self, key: u64, tokens: u32) -> bool {
        black_box(&self.check_n(key, tokens)).is_allow()
    }
}

/// Room for twice the keys, for the same reason.
pub fn throttle_net<C: clock_lib::Clock>(size: Size, clock: C) -> Arc<PerKey<u64, C>> {
    let builder = PerKey::builder().per_second(size.per_second()).burst(size.burst);
    let eviction = throttle_net::Eviction::capacity(2 * size.keys);
    Arc::new(builder.eviction(eviction).clock(clock).try_build().expect("a valid limiter"))
}

impl<C: clock_lib::Clock + 'static> Limit for Arc<PerKey<u64, C>> {
    #[inline(always)]
    fn take(&self, key: u64, tokens: u32) -> bool {
        black_box(self.try_acquire_with_cost(&key, tokens))
    }
}

/// A limit that is made at one clock reading and asked at a later one.
pub fn later<L>(make: impl Fn(AlreadyRead) -> L) -> L {
    let clock = AlreadyRead::new();
    let limit = make(clock.clone());
    clock.go_on();
    limit
}
