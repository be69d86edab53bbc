//! Limits on the calls in flight: one place taken and returned, or refused.

use crate::{
    harness::{Contestant, Role, Row},
    services::{AtOnce, answered, poll_by_hand, refused},
};
use std::{
    future::{Pending, pending},
    hint::black_box,
    mem::forget,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll, Waker},
};
use steadfast::load_shed::{Limiter, LoadShedLayer};
use tokio::sync::Semaphore;
use tower::{
    Layer, Service, ServiceBuilder,
    limit::{ConcurrencyLimit, GlobalConcurrencyLimitLayer},
    load_shed::LoadShed,
};
use tower_resilience_bulkhead::{Bulkhead, BulkheadLayer};

const ROOM: usize = 1024;

pub fn rows() -> Vec<Row> {
    vec![acquire(), refuse(), layer(), layer_refuses()]
}

fn limiter(room: usize) -> Limiter {
    Limiter::fixed(room).expect("a valid limit")
}

fn full_limiter() -> Limiter {
    let full = limiter(1);
    forget(full.try_acquire());
    full
}

fn full_semaphore() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(0))
}

fn acquire() -> Row {
    Row::new(
        "in flight: acquire and release",
        vec![
            Contestant::on_threads(
                Role::Ours,
                "steadfast",
                || limiter(ROOM),
                |limiter| black_box(&limiter.try_acquire()).is_ok(),
            ),
            Contestant::on_threads(
                Role::Floor,
                "by hand",
                || Arc::new(AtomicUsize::new(0)),
                |in_flight| {
                    let taken = in_flight.fetch_update(Relaxed, Relaxed, |count| (count < ROOM).then_some(count + 1));
                    black_box(&taken).is_ok() && in_flight.fetch_sub(1, Relaxed) > 0
                },
            ),
            Contestant::on_threads(
                Role::Peer,
                "tokio Semaphore",
                || Arc::new(Semaphore::new(ROOM)),
                |semaphore| black_box(&semaphore.try_acquire()).is_ok(),
            ),
            Contestant::on_threads(
                Role::Peer,
                "tower ConcurrencyLimit, with a call",
                || ConcurrencyLimit::new(AtOnce, ROOM),
                |service| poll_by_hand(service, 0, answered),
            ),
        ],
    )
}

fn refuse() -> Row {
    Row::new(
        "in flight: refuse",
        vec![
            Contestant::on_threads(Role::Ours, "steadfast", full_limiter, |limiter| {
                black_box(&limiter.try_acquire()).is_err()
            }),
            Contestant::on_threads(Role::Peer, "tokio Semaphore", full_semaphore, |semaphore| {
                black_box(&semaphore.try_acquire()).is_err()
            }),
        ],
    )
}

fn layer() -> Row {
    Row::new(
        "in flight: layer, call passes",
        vec![
            Contestant::in_runtime(
                Role::Ours,
                "steadfast",
                || LoadShedLayer::new(limiter(ROOM)).typed_error().layer(AtOnce),
                answered,
            ),
            Contestant::in_runtime(Role::Bare, "bare", || AtOnce, answered),
            Contestant::in_runtime(
                Role::Peer,
                "tower",
                || ServiceBuilder::new().load_shed().concurrency_limit(ROOM).service(AtOnce),
                answered,
            ),
            Contestant::in_runtime(Role::Peer, "tower-resilience", || bulkhead().layer(AtOnce), answered),
            Contestant::in_runtime(
                Role::Peer,
                "tower-resilience, with LoadShed",
                || ServiceBuilder::new().load_shed().layer(waiting_bulkhead(ROOM)).service(AtOnce),
                answered,
            ),
        ],
    )
}

/// A bulkhead that refuses by itself.
fn bulkhead() -> BulkheadLayer {
    BulkheadLayer::builder().name("").max_concurrent_calls(ROOM).reject_when_full().build().expect("a valid bulkhead")
}

/// A bulkhead that is not ready when it is full. Tower then refuses.
pub fn waiting_bulkhead(room: usize) -> BulkheadLayer {
    BulkheadLayer::builder().name("").max_concurrent_calls(room).backpressure().build().expect("a valid bulkhead")
}

fn layer_refuses() -> Row {
    Row::new(
        "in flight: layer, call refused",
        vec![
            Contestant::in_runtime(
                Role::Ours,
                "steadfast",
                || LoadShedLayer::new(full_limiter()).typed_error().layer(AtOnce),
                refused,
            ),
            Contestant::in_runtime(Role::Peer, "tower", full_tower, refused),
            Contestant::in_runtime(
                Role::Peer,
                "tower-resilience",
                || {
                    let layer = BulkheadLayer::builder().name("").max_concurrent_calls(1).reject_when_full();
                    filled(layer.build().expect("a valid bulkhead").layer(Hangs))
                },
                refused,
            ),
            Contestant::in_runtime(
                Role::Peer,
                "tower-resilience, with LoadShed",
                || ServiceBuilder::new().load_shed().service(filled(waiting_bulkhead(1).layer(Hangs))),
                refused,
            ),
        ],
    )
}

fn full_tower() -> LoadShed<ConcurrencyLimit<AtOnce>> {
    let layer = GlobalConcurrencyLimitLayer::with_semaphore(full_semaphore());
    ServiceBuilder::new().load_shed().layer(layer).service(AtOnce)
}

/// A bulkhead of one place, taken by a call that never ends.
fn filled(mut bulkhead: Bulkhead<Hangs>) -> Bulkhead<Hangs> {
    let mut cx = Context::from_waker(Waker::noop());
    assert!(bulkhead.poll_ready(&mut cx).is_ready());
    let mut call = bulkhead.call(0);
    assert!(call.as_mut().poll(&mut cx).is_pending());
    forget(call);
    bulkhead
}

/// A service that never answers.
#[derive(Clone)]
struct Hangs;

impl Service<u64> for Hangs {
    type Response = u64;
    type Error = crate::services::Fault;
    type Future = Pending<Result<u64, Self::Error>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _request: u64) -> Self::Future {
        pending()
    }
}
