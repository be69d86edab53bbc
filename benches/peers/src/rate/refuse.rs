//! One token refused.

use super::limits::{
    HOUR, SECOND, empty_bucket, empty_governor, empty_leaky_bucket, empty_rate_net, empty_ratelimit, empty_throttle_net,
};
use crate::{
    by_hand,
    harness::{Contestant, Role, Row},
};
use governor::clock::{MonotonicClock, QuantaClock};
use std::{hint::black_box, sync::Arc, time::Duration};

pub fn rows() -> Vec<Row> {
    vec![refuse(), refuse_without_wait()]
}

/// With the time to wait, which every caller of a limit reports to its own caller. Governor computes it from a reading
/// made before, so both pay for one clock reading.
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
                || Arc::new((by_hand::Gcra::empty_until(HOUR.as_nanos() as u64), std::time::Instant::now())),
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
            Contestant::on_threads(Role::Peer, "rate-net", empty_rate_net, |limiter| {
                black_box(&limiter.check().retry_after()).is_some_and(|wait| wait > SECOND)
            }),
            Contestant::on_threads(Role::Peer, "ratelimit", empty_ratelimit, |limiter| {
                match black_box(&limiter.try_wait()) {
                    Err(ratelimit::TryWaitError::Insufficient(wait)) => *wait > SECOND,
                    _ => false,
                }
            }),
        ],
    )
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
            Contestant::on_threads(Role::Peer, "rate-net", empty_rate_net, |limiter| limiter.check().is_deny()),
            Contestant::on_threads(Role::Peer, "throttle-net", empty_throttle_net, |throttle| !throttle.try_acquire()),
            Contestant::on_threads(Role::Peer, "leaky-bucket", empty_leaky_bucket, |limiter| !limiter.try_acquire(1)),
        ],
    )
    .informational("the wait goes unread, and the clocks differ")
}
