//! The layers.

use super::limits::{HOUR, PLENTY, SECOND, bucket, empty_bucket};
use crate::{
    harness::{Contestant, Role, Row},
    services::{AtOnce, answered, poll_by_hand, refused},
};
use std::time::Duration;
use steadfast::rate_limit::RateLimitLayer;
use tower::{Layer, ServiceBuilder};
use tower_resilience_ratelimiter::RateLimiterLayer;

pub fn rows() -> Vec<Row> {
    vec![layer(), layer_refuses()]
}

/// Tower's limit is not `Clone`, so it cannot run on a second thread.
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

/// The closest to our layer: its token bucket, which refuses at once. Its name is empty, because every event copies the
/// name to the heap.
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
