//! One token taken.

use super::limits::{
    AlreadyRead, PLENTY, SECOND, bucket, governor, leaky_bucket, plenty_for_rate_net, rate_net, ratelimit, throttle_net,
};
use crate::{
    by_hand,
    harness::{Contestant, Role, Row},
};
use clock_lib::SystemClock;
use governor::clock::{MonotonicClock, QuantaClock};
use rate_net::{CoarseClock, DirectLimiter, Gcra};
use std::{hint::black_box, sync::Arc, time::Duration};
use tokio::time::Instant;

pub fn rows() -> Vec<Row> {
    vec![acquire(), acquire_at(), acquire_by_their_clocks()]
}

fn acquire() -> Row {
    Row::new(
        "rate limit: acquire",
        vec![
            Contestant::on_threads(Role::Ours, "steadfast", bucket, |bucket| black_box(&bucket.try_acquire(1)).is_ok()),
            Contestant::on_threads(
                Role::Floor,
                "by hand",
                || Arc::new((by_hand::Gcra::default(), std::time::Instant::now())),
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
                "rate-net",
                || rate_net(SystemClock::new()),
                |limiter| black_box(&limiter.check()).is_allow(),
            ),
            Contestant::on_threads(
                Role::Peer,
                "throttle-net",
                || throttle_net(SystemClock::new()),
                |throttle| black_box(throttle.try_acquire()),
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

/// Without the clock. An unfair leaky-bucket reads the clock late, so after a pause a second burst may follow the
/// first. With two threads, it refuses tokens that are available.
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
                || Arc::new(by_hand::Gcra::default()),
                |rate| black_box(&rate.acquire(black_box(PLENTY))).is_ok(),
            ),
            Contestant::on_threads(
                Role::Peer,
                "governor",
                || {
                    let clock = AlreadyRead::new();
                    let limiter = governor(clock.clone());
                    clock.go_on();
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
                "rate-net (GCRA)",
                || {
                    let origin = Instant::now();
                    (Arc::new(Gcra::new(plenty_for_rate_net())), origin, origin + SECOND)
                },
                |(gcra, origin, now)| {
                    let since = black_box(*now).saturating_duration_since(black_box(*origin));
                    black_box(&gcra.check_at(since)).is_allow()
                },
            ),
            Contestant::on_threads(
                Role::Peer,
                "rate-net (token bucket)",
                || {
                    let clock = AlreadyRead::new();
                    let limiter = rate_net(clock.clone());
                    clock.go_on();
                    limiter
                },
                |limiter| black_box(&limiter.check()).is_allow(),
            ),
            Contestant::on_threads(
                Role::Peer,
                "throttle-net",
                || {
                    let clock = AlreadyRead::new();
                    let throttle = throttle_net(clock.clone());
                    clock.go_on();
                    throttle
                },
                |throttle| black_box(throttle.try_acquire()),
            ),
            Contestant::on_threads(
                Role::Peer,
                "leaky-bucket (unfair)",
                || leaky_bucket(false),
                |limiter| black_box(limiter.try_acquire(1)),
            )
            .alone()
            .other_work("looks at the clock only once its balance is spent"),
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
            Contestant::on_threads(
                Role::Peer,
                "rate-net (1 ms)",
                || {
                    let clock = CoarseClock::spawn(Duration::from_millis(1)).expect("a thread for the clock");
                    Arc::new(DirectLimiter::with_quota(plenty_for_rate_net()).with_clock(Arc::new(clock)))
                },
                |limiter| black_box(&limiter.check()).is_allow(),
            ),
        ],
    )
    .informational("each by its own clock")
}
