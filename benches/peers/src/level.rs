//! Queues in front of a service: a call that finds room, and a call that waits until another has ended.

use crate::{
    harness::{Contestant, Role, Row},
    in_flight::waiting_bulkhead,
    services::{AtOnce, answered},
};
use std::{
    hint::black_box,
    pin::pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};
use steadfast::load_level::{LoadLevelLayer, Queue};
use tokio::sync::Semaphore;
use tower::{Layer, limit::ConcurrencyLimit};

const ROOM: usize = 1024;

pub fn rows() -> Vec<Row> {
    vec![acquire(), waits(), layer()]
}

fn queue(concurrency: usize) -> Queue {
    Queue::builder(concurrency, ROOM).build().expect("a valid queue")
}

fn acquire() -> Row {
    Row::new(
        "load level: acquire and release, nobody waits",
        vec![
            Contestant::on_threads(
                Role::Ours,
                "steadfast",
                || queue(ROOM),
                |queue| black_box(&queue.try_acquire()).is_some(),
            ),
            Contestant::on_threads(
                Role::Peer,
                "tokio Semaphore, owned",
                || Arc::new(Semaphore::new(ROOM)),
                |semaphore| black_box(&semaphore.clone().try_acquire_owned()).is_ok(),
            ),
        ],
    )
}

/// One call holds the only place and another waits; the first leaves, and the other is served. On one thread, because
/// two threads would wait for each other.
fn waits() -> Row {
    Row::new(
        "load level: wait for another to leave",
        vec![
            Contestant::on_threads(
                Role::Ours,
                "steadfast",
                || queue(1),
                |queue| {
                    let Poll::Ready(Ok(held)) = poll_once(queue.acquire()) else { return false };
                    let mut next = pin!(queue.acquire());
                    let mut cx = Context::from_waker(Waker::noop());
                    let waits = next.as_mut().poll(&mut cx).is_pending();
                    drop(held);
                    waits && next.as_mut().poll(&mut cx).is_ready()
                },
            )
            .alone(),
            Contestant::on_threads(
                Role::Peer,
                "tokio Semaphore",
                || Arc::new(Semaphore::new(1)),
                |semaphore| {
                    let Poll::Ready(Ok(held)) = poll_once(semaphore.acquire()) else { return false };
                    let mut next = pin!(semaphore.acquire());
                    let mut cx = Context::from_waker(Waker::noop());
                    let waits = next.as_mut().poll(&mut cx).is_pending();
                    drop(held);
                    waits && next.as_mut().poll(&mut cx).is_ready()
                },
            )
            .alone()
            .other_work("no timer: its wait has no bound"),
        ],
    )
}

fn poll_once<F: Future>(future: F) -> Poll<F::Output> {
    pin!(future).poll(&mut Context::from_waker(Waker::noop()))
}

fn layer() -> Row {
    Row::new(
        "load level: layer, call passes",
        vec![
            Contestant::in_runtime(
                Role::Ours,
                "steadfast",
                || LoadLevelLayer::new(queue(ROOM)).typed_error().layer(AtOnce),
                answered,
            ),
            Contestant::in_runtime(Role::Bare, "bare", || AtOnce, answered),
            Contestant::in_runtime(Role::Peer, "tower", || ConcurrencyLimit::new(AtOnce, ROOM), answered),
            Contestant::in_runtime(Role::Peer, "tower-resilience", || waiting_bulkhead(ROOM).layer(AtOnce), answered),
        ],
    )
}
