//! The queue: which waiter is next, which call is refused, which task is woken, and what a dropped call leaves.

mod adaptive;
mod bounds;
mod cancellation;
mod clock;
mod closing;
mod defects;
mod disciplines;
mod earliest;
mod handle;
mod layer;
mod pace;
mod panics;
mod rates;
mod wakes;

use crate::support::ByHand;
use std::{task::Poll, time::Duration};
use steadfast::{
    CallContext, Criticality, Rejection,
    error::{QueueFull, QueueFullCause, WaitedTooLong},
    load_level::{Acquire, Counts, Discipline, Permit, Queue, QueueBuilder},
};
use tokio::time::Instant;

const HOUR: Duration = Duration::from_secs(60 * 60);
const LONGEST: Duration = Duration::from_secs(366 * 24 * 60 * 60);

/// A future that waits in a queue.
type Waiter = ByHand<Acquire>;

/// A queue that serves the oldest first, with waits of up to an hour.
fn patient(concurrency: usize, depth: usize) -> QueueBuilder {
    Queue::builder(concurrency, depth).discipline(Discipline::fifo()).max_wait(HOUR)
}

/// A queue whose places in the service are all taken.
fn full(builder: QueueBuilder) -> (Queue, Vec<Permit>) {
    let queue = builder.build().unwrap();
    let permits = std::iter::from_fn(|| queue.try_acquire()).collect();
    (queue, permits)
}

#[track_caller]
fn waiter(queue: &Queue) -> Waiter {
    ByHand::pending(queue.acquire())
}

fn waiters<const N: usize>(queue: &Queue) -> [Waiter; N] {
    [(); N].map(|()| waiter(queue))
}

/// The result of one poll with this context.
fn comes_with(queue: &Queue, context: CallContext, weight: u64) -> (Waiter, Poll<Result<Permit, Rejection>>) {
    let mut waiter = ByHand::new(queue.acquire_weighing(weight));
    let answer = context.sync_scope(|| waiter.poll());
    (waiter, answer)
}

/// A waiter with a context.
#[track_caller]
fn waiter_with(queue: &Queue, context: CallContext) -> Waiter {
    let (waiter, answer) = comes_with(queue, context, 1);
    assert!(answer.is_pending(), "{answer:?}");
    waiter
}

/// A context with this time until its deadline.
fn within(limit: Duration) -> CallContext {
    CallContext::new().with_deadline(Instant::now() + limit)
}

fn class(criticality: Criticality) -> CallContext {
    CallContext::new().with_criticality(criticality)
}

/// The permit of a waiter, if its turn has come.
#[track_caller]
fn served(waiter: &mut Waiter) -> Option<Permit> {
    match waiter.poll() {
        Poll::Ready(Ok(permit)) => Some(permit),
        Poll::Ready(Err(rejection)) => panic!("{rejection}"),
        Poll::Pending => None,
    }
}

/// The rejection of a waiter that is refused.
#[track_caller]
fn refused(waiter: &mut Waiter) -> Rejection {
    match waiter.poll() {
        Poll::Ready(Err(rejection)) => rejection,
        other => panic!("not refused: {other:?}"),
    }
}

/// The rejection of a call that is refused in its first poll.
#[track_caller]
fn refused_at_once(queue: &Queue) -> Rejection {
    refused(&mut ByHand::new(queue.acquire()))
}

fn too_full(cause: QueueFullCause, bound: u64) -> Rejection {
    QueueFull::new(cause, bound, None).into()
}

fn too_long(waited: Duration) -> Rejection {
    WaitedTooLong::new(waited, None).into()
}

/// Returns the order in which the waiters are served after this permit ends. Polls each waiter when it has been woken,
/// and drops its permit at once. The order does not contain refused waiters.
#[track_caller]
fn order(permit: Permit, waiters: &mut [Waiter]) -> Vec<usize> {
    let mut order = Vec::new();
    let mut held = Some(permit);
    let mut ended = vec![false; waiters.len()];
    while held.take().is_some() {
        for (number, waiter) in waiters.iter_mut().enumerate() {
            if ended[number] || waiter.wakes() == 0 {
                continue;
            }
            let Poll::Ready(answer) = waiter.poll() else { panic!("number {number} was woken without a result") };
            ended[number] = true;
            if let Ok(permit) = answer {
                assert!(held.is_none(), "two at once");
                held = Some(permit);
                order.push(number);
            }
        }
    }
    order
}

fn waiting(queue: &Queue) -> usize {
    queue.readings().waiting
}

/// The number of calls in the service, and of waiters.
fn occupancy(queue: &Queue) -> (usize, usize) {
    (queue.in_service(), waiting(queue))
}

/// The counts of calls refused by a full queue, displaced, refused after too long a wait, and cancelled.
fn counts(queue: &Queue) -> [u64; 4] {
    let Counts { full, displaced, waited_too_long, cancelled, .. } = queue.readings().not_served;
    [full, displaced, waited_too_long, cancelled]
}

/// Asserts that no call is in the service, no call waits, and all places are free.
#[track_caller]
fn assert_free(queue: &Queue) {
    assert_eq!(occupancy(queue), (0, 0));
    let permits: Vec<_> = std::iter::from_fn(|| queue.try_acquire()).collect();
    assert_eq!(permits.len(), queue.concurrency());
}
