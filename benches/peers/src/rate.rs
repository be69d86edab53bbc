//! Rate limits: one token taken or refused.

use crate::{
    by_hand::Gcra,
    harness::{Contestant, Role, Row},
    services::{AtOnce, answered, poll_by_hand, refused},
};
use governor::{
    Quota,
    clock::{Clock, MonotonicClock, QuantaClock},
    middleware::NoOpMiddleware,
    state::{InMemoryState, NotKeyed},
};
use std::{
    hint::black_box,
    num::NonZeroU32,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use steadfast::rate_limit::{RateLimitLayer, TokenBucket};
use tokio::time::Instant;
use tower::{Layer, ServiceBuilder};
use tower_resilience_ratelimiter::RateLimiterLayer;

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);

/// One token per nanosecond: more than any thread can take.
const PLENTY: u64 = 1_000_000_000;

pub fn rows() -> Vec<Row> {
    vec![acquire(), acquire_at(), acquire_by_their_clocks(), refuse(), refuse_without_wait(), layer(), layer_refuses()]
}

/// A clock that was read before: what a mechanism costs by itself. It is read like any other, so that nothing of what
/// follows from the reading can be computed once and for all. A limiter is made at one instant and asked at a later
/// one, so that each has to find out how much later.
#[derive(Clone)]
struct AlreadyRead {
    made: std::time::Instant,
    asked: std::time::Instant,
    is_made: Arc<AtomicBool>,
}

impl AlreadyRead {
    fn new() -> Self {
        let made = std::time::Instant::now();
        Self { made, asked: made + SECOND, is_made: Arc::default() }
    }
}

impl Clock for AlreadyRead {
    type Instant = std::time::Instant;

    #[inline]
    fn now(&self) -> Self::Instant {
        black_box(if self.is_made.load(Ordering::Relaxed) { self.asked } else { self.made })
    }
}

impl ratelimit::Clock for AlreadyRead {
    #[inline]
    fn elapsed(&self) -> Duration {
        black_box(self.asked).saturating_duration_since(black_box(self.made))
    }
}

/// One token per nanosecond, and the largest burst that governor takes, four seconds' worth. `Quota::per_second` divides
/// a second by its count in whole nanoseconds: above one per nanosecond that leaves no interval, and no limit.
pub fn plenty_for_governor() -> Quota {
    Quota::with_period(Duration::from_nanos(1)).expect("a period").allow_burst(NonZeroU32::MAX)
}

/// The same for ours.
pub fn plenty() -> steadfast::rate_limit::Quota {
    steadfast::rate_limit::Quota::new(PLENTY, SECOND).with_burst(4 * PLENTY)
}

fn bucket() -> TokenBucket {
    TokenBucket::with_quota(plenty()).build().expect("a valid bucket")
}

/// A bucket that gave away its one token of this hour.
fn empty_bucket() -> TokenBucket {
    let bucket = TokenBucket::builder(1, HOUR).build().expect("a valid bucket");
    assert!(bucket.try_acquire(1).is_ok());
    bucket
}

fn governor<C: Clock>(clock: C) -> Arc<Governor<C>> {
    Arc::new(governor::RateLimiter::direct_with_clock(plenty_for_governor(), clock))
}

type Governor<C> = governor::RateLimiter<NotKeyed, InMemoryState, C, NoOpMiddleware<<C as Clock>::Instant>>;

fn empty_governor<C: Clock>(clock: C) -> Arc<Governor<C>> {
    let quota = Quota::with_period(HOUR).expect("a period");
    let limiter = governor::RateLimiter::direct_with_clock(quota, clock);
    assert!(limiter.check().is_ok());
    Arc::new(limiter)
}

fn ratelimit<C: ratelimit::Clock>(clock: C) -> Arc<ratelimit::Ratelimiter<C>> {
    let builder = ratelimit::Builder::with_clock(PLENTY, clock).max_tokens(4 * PLENTY).initial_available(4 * PLENTY);
    Arc::new(builder.build().expect("a valid limiter"))
}

fn leaky_bucket(fair: bool) -> Arc<leaky_bucket::RateLimiter> {
    let mut builder = leaky_bucket::RateLimiter::builder();
    let plenty = PLENTY as usize;
    let interval = Duration::from_millis(1);
    Arc::new(builder.max(4 * plenty).initial(4 * plenty).refill(plenty / 1000).interval(interval).fair(fair).build())
}

fn acquire() -> Row {
    Row::new(
        "rate limit: acquire",
        vec![
            Contestant::on_threads(Role::Ours, "steadfast", bucket, |bucket| black_box(&bucket.try_acquire(1)).is_ok()),
            Contestant::on_threads(
                Role::Floor,
                "by hand",
                || Arc::new((Gcra::default(), std::time::Instant::now())),
                |shared| black_box(&shared.0.acquire(shared.1.elapsed().as_nanos() as u64)).is_ok(),
            ),
            Contestant::on_threads(
                Role::Peer,
                "governor",
                || governor(MonotonicClock),
                |limiter| black_box(&limiter.check()).is_ok(),
            ),
            Contestant::on_threads(
                Role::Peer,
                "ratelimit",
                || ratelimit(ratelimit::StdClock::new()),
                |limiter| black_box(&limiter.try_wait()).is_ok(),
            ),
            Contestant::on_threads(
                Role::Peer,
                "leaky-bucket",
                || leaky_bucket(true),
                |limiter| black_box(limiter.try_acquire(1)),
            ),
        ],
    )
}

/// Without the clock. An unfair leaky-bucket belongs here: it looks at the clock only once its balance is spent, so
/// that after a pause a second burst may follow on the first. Two threads make it refuse tokens that are there.
fn acquire_at() -> Row {
    Row::new(
        "rate limit: acquire, clock already read",
        vec![
            Contestant::on_threads(
                Role::Ours,
                "steadfast",
                || (bucket(), Instant::now() + SECOND),
                |(bucket, now)| black_box(&bucket.try_acquire_at(1, black_box(*now))).is_ok(),
            ),
            Contestant::on_threads(
                Role::Floor,
                "by hand",
                || Arc::new(Gcra::default()),
                |rate| black_box(&rate.acquire(black_box(PLENTY))).is_ok(),
            ),
            Contestant::on_threads(
                Role::Peer,
                "governor",
                || {
                    let clock = AlreadyRead::new();
                    let limiter = governor(clock.clone());
                    clock.is_made.store(true, Ordering::Relaxed);
                    limiter
                },
                |limiter| black_box(&limiter.check()).is_ok(),
            ),
            Contestant::on_threads(
                Role::Peer,
                "ratelimit",
                || ratelimit(AlreadyRead::new()),
                |limiter| black_box(&limiter.try_wait()).is_ok(),
            ),
            Contestant::on_threads(
                Role::Peer,
                "leaky-bucket (unfair)",
                || leaky_bucket(false),
                |limiter| black_box(limiter.try_acquire(1)),
            )
            .alone(),
        ],
    )
}

fn acquire_by_their_clocks() -> Row {
    Row::new(
        "rate limit: acquire, each by its own clock",
        vec![
            Contestant::on_threads(Role::Ours, "steadfast", bucket, |bucket| black_box(&bucket.try_acquire(1)).is_ok()),
            Contestant::on_threads(
                Role::Peer,
                "governor (TSC)",
                || governor(QuantaClock::default()),
                |limiter| black_box(&limiter.check()).is_ok(),
            ),
        ],
    )
    .informational("each by its own clock")
}

/// With the time to wait, which every caller of a limit has to tell its own. Governor's is computed from a reading made
/// before, so that it pays for one reading, as ours does.
fn refuse() -> Row {
    Row::new(
        "rate limit: refuse, wait computed",
        vec![
            Contestant::on_threads(Role::Ours, "steadfast", empty_bucket, |bucket| {
                bucket.try_acquire(1).is_err_and(|refusal| black_box(&refusal.retry_after()).is_some())
            }),
            Contestant::on_threads(
                Role::Floor,
                "by hand",
                || Arc::new((Gcra::empty_until(HOUR.as_nanos() as u64), std::time::Instant::now())),
                |shared| {
                    let refusal = shared.0.acquire(shared.1.elapsed().as_nanos() as u64);
                    refusal.is_err_and(|wait| black_box(Duration::from_nanos(wait)) > SECOND)
                },
            ),
            Contestant::on_threads(
                Role::Peer,
                "governor",
                || (empty_governor(MonotonicClock), std::time::Instant::now()),
                |(limiter, before)| {
                    limiter.check().is_err_and(|refusal| black_box(refusal.wait_time_from(*before)) > SECOND)
                },
            ),
            Contestant::on_threads(
                Role::Peer,
                "ratelimit",
                empty_ratelimit,
                |limiter| matches!(black_box(&limiter.try_wait()), Err(ratelimit::TryWaitError::Insufficient(wait)) if *wait > SECOND),
            ),
        ],
    )
}

fn empty_ratelimit() -> Arc<ratelimit::Ratelimiter> {
    Arc::new(ratelimit::Ratelimiter::builder(1).period(HOUR).build().expect("a valid limiter"))
}

fn refuse_without_wait() -> Row {
    Row::new(
        "rate limit: refuse, verdict only",
        vec![
            Contestant::on_threads(Role::Ours, "steadfast", empty_bucket, |bucket| bucket.try_acquire(1).is_err()),
            Contestant::on_threads(
                Role::Peer,
                "governor",
                || empty_governor(MonotonicClock),
                |limiter| limiter.check().is_err(),
            ),
            Contestant::on_threads(
                Role::Peer,
                "governor (TSC)",
                || empty_governor(QuantaClock::default()),
                |limiter| limiter.check().is_err(),
            ),
            Contestant::on_threads(Role::Peer, "leaky-bucket", empty_leaky_bucket, |limiter| !limiter.try_acquire(1)),
        ],
    )
    .informational("the wait goes unread, and the clocks differ")
}

fn empty_leaky_bucket() -> Arc<leaky_bucket::RateLimiter> {
    Arc::new(leaky_bucket::RateLimiter::builder().max(1).initial(0).refill(1).interval(HOUR).build())
}

/// Tower's limit is not `Clone`, and so has no second thread.
fn layer() -> Row {
    Row::new(
        "rate limit: layer, call passes",
        vec![
            Contestant::in_runtime(
                Role::Ours,
                "steadfast",
                || RateLimitLayer::new(bucket()).typed_error().layer(AtOnce),
                answered,
            ),
            Contestant::in_runtime(Role::Bare, "bare", || AtOnce, answered),
            Contestant::in_runtime_alone(
                Role::Peer,
                "tower",
                || ServiceBuilder::new().rate_limit(PLENTY, SECOND).service(AtOnce),
                answered,
            )
            .other_work("not shared, no atomics, a fixed window"),
            Contestant::in_runtime(
                Role::Peer,
                "tower-resilience",
                || tower_resilience(PLENTY, SECOND).layer(AtOnce),
                answered,
            ),
        ],
    )
}

/// The nearest to ours: its token bucket, which refuses at once. Its name is empty, since it is copied to the heap for
/// every event.
pub fn tower_resilience(tokens: u64, period: Duration) -> RateLimiterLayer {
    let builder = RateLimiterLayer::builder().name("").limit_for_period(tokens as usize).refresh_period(period);
    builder.burst_size(0).timeout_duration(Duration::ZERO).build().expect("a valid limiter")
}

fn layer_refuses() -> Row {
    Row::new(
        "rate limit: layer, call refused",
        vec![
            Contestant::in_runtime(
                Role::Ours,
                "steadfast",
                || RateLimitLayer::new(empty_bucket()).typed_error().layer(AtOnce),
                refused,
            ),
            Contestant::in_runtime_alone(Role::Peer, "tower, with LoadShed", empty_tower, refused)
                .other_work("not shared, reads no clock to refuse"),
            Contestant::in_runtime(Role::Peer, "tower-resilience", empty_tower_resilience, refused),
        ],
    )
}

fn empty_tower() -> impl tower::Service<u64, Response = u64, Error = tower::BoxError, Future: Send> + Send {
    use tower::Service;
    let mut service = ServiceBuilder::new().load_shed().rate_limit(1, HOUR).service(AtOnce);
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    assert!(service.poll_ready(&mut cx).is_ready());
    drop(service.call(0));
    service
}

fn empty_tower_resilience() -> tower_resilience_ratelimiter::RateLimiter<AtOnce> {
    let (layer, _handle) = RateLimiterLayer::builder()
        .name("")
        .limit_for_period(1)
        .refresh_period(HOUR)
        .burst_size(0)
        .timeout_duration(Duration::ZERO)
        .build_with_handle()
        .expect("a valid limiter");
    let mut service = layer.layer(AtOnce);
    assert!(poll_by_hand(&mut service, 0, answered));
    service
}
