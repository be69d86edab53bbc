//! Timeouts: around a call that is answered at once, and around one that is pending once.

use crate::{
    harness::{Contestant, Role, Row},
    services::{AtOnce, Fault, PendingOnce, answered, poll_by_hand},
};
use std::{
    task::{Context, Poll},
    time::Duration,
};
use steadfast::timeout::TimeoutLayer;
use tokio::time::error::Elapsed;
use tower::{Layer, Service, timeout::Timeout};
use tower_resilience_timelimiter::{FixedTimeout, TimeLimiter, TimeLimiterLayer};

const LIMIT: Duration = Duration::from_secs(1);

pub fn rows() -> Vec<Row> {
    vec![at_once(), pending(), pending_by_hand()]
}

/// `tokio::time::timeout`, which is not a layer, around each call.
#[derive(Clone)]
struct TokioTimeout<S>(S);

impl<S: Service<u64>> Service<u64> for TokioTimeout<S> {
    type Response = Result<S::Response, S::Error>;
    type Error = Elapsed;
    type Future = tokio::time::Timeout<S::Future>;

    #[inline]
    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Elapsed>> {
        Poll::Ready(Ok(()))
    }

    #[inline]
    fn call(&mut self, request: u64) -> Self::Future {
        tokio::time::timeout(LIMIT, self.0.call(request))
    }
}

/// Returns whether the service answered the call in time.
fn both_answered(result: &Result<Result<u64, Fault>, Elapsed>) -> bool {
    matches!(result, Ok(answer) if answered(answer))
}

fn layer() -> TimeoutLayer {
    TimeoutLayer::new(LIMIT).expect("a valid limit")
}

pub fn time_limiter() -> TimeLimiterLayer<FixedTimeout> {
    TimeLimiterLayer::builder().name("").timeout_duration(LIMIT).build()
}

fn around<S>(name: &'static str, service: S) -> Row
where
    S: Service<u64, Response = u64, Error = Fault, Future: Send> + Copy + Send + Sync + 'static,
{
    Row::new(
        name,
        vec![
            Contestant::in_runtime(Role::Ours, "steadfast", move || layer().typed_error().layer(service), answered),
            Contestant::in_runtime(Role::Bare, "bare", move || service, answered),
            Contestant::in_runtime(Role::Peer, "tokio timeout", move || TokioTimeout(service), both_answered),
            Contestant::in_runtime(Role::Peer, "tower", move || Timeout::new(service, LIMIT), answered),
            Contestant::in_runtime(Role::Peer, "tower-resilience", move || time_limiter().layer(service), answered),
        ],
    )
}

fn at_once() -> Row {
    around("timeout: call ready at once", AtOnce)
}

fn pending() -> Row {
    around("timeout: call pending once", PendingOnce)
}

/// Without the scheduler, whose cost is the same for all.
fn pending_by_hand() -> Row {
    Row::new(
        "timeout: call pending once, polled by hand",
        vec![
            Contestant::on_threads(
                Role::Ours,
                "steadfast",
                || layer().typed_error().layer(PendingOnce),
                |service| poll_by_hand(service, 1, answered),
            ),
            Contestant::on_threads(Role::Bare, "bare", || PendingOnce, |service| poll_by_hand(service, 1, answered)),
            Contestant::on_threads(
                Role::Peer,
                "tokio timeout",
                || TokioTimeout(PendingOnce),
                |service| poll_by_hand(service, 1, both_answered),
            ),
            Contestant::on_threads(
                Role::Peer,
                "tower",
                || Timeout::new(PendingOnce, LIMIT),
                |service| poll_by_hand(service, 1, answered),
            ),
            Contestant::on_threads(Role::Peer, "tower-resilience", limited, |service: &mut TimeLimiter<_, _>| {
                poll_by_hand(service, 1, answered)
            }),
        ],
    )
}

fn limited() -> TimeLimiter<PendingOnce, FixedTimeout> {
    time_limiter().layer(PendingOnce)
}
