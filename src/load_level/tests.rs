//! Properties that only a unit test can see: which calls take the lock, and the size of a place.

use super::{
    Acquire, Queue,
    deadlines::Node,
    pace::PaceSlot,
    state::{CLASSES, QueueRefusal, Waiter},
};
use crate::waiters::Waiters;
use std::{
    pin::Pin,
    task::{Context, Waker},
    time::Duration,
};
use tokio::time::advance;

/// Returns whether a call enters, asks whether the queue is full, and ends, all without the lock.
fn is_fast(queue: &Queue) -> bool {
    let entered = queue.enter();
    if entered {
        assert!(!queue.is_full(|| unreachable!("the clock is not read")));
        queue.end(PaceSlot::NONE, || unreachable!("the clock is not read"));
    }
    entered
}

fn waiting(queue: &Queue) -> Pin<Box<Acquire>> {
    let mut acquire = Box::pin(queue.acquire());
    assert!(acquire.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    acquire
}

#[tokio::test(start_paused = true)]
async fn once_the_last_waiter_has_left_in_any_way_no_call_takes_the_lock() {
    let queue = Queue::builder(2, 10).build().unwrap();
    assert!(is_fast(&queue));
    for how in ["served", "cancelled", "admitted and cancelled", "late", "late at its turn"] {
        let (one, other) = (queue.try_acquire().unwrap(), queue.try_acquire().unwrap());
        let mut last = waiting(&queue);
        drop(one);
        let one = last.as_mut().await.unwrap();
        assert!(!queue.enter(), "no room");
        let last = waiting(&queue);
        match how {
            "served" => {
                drop(other);
                assert!(last.await.is_ok());
                drop(one);
            }
            "cancelled" => drop((last, one, other)),
            "admitted and cancelled" => {
                drop((one, other));
                drop(last);
            }
            "late" => {
                assert!(last.await.is_err());
                drop((one, other));
            }
            _ => {
                advance(Duration::from_secs(1)).await;
                drop((one, other));
                assert!(is_fast(&queue), "the late call has its answer");
                assert!(last.await.is_err());
            }
        }
        assert!(is_fast(&queue), "{how}");
        assert_eq!(queue.in_service(), 0, "{how}");
    }
}

#[tokio::test(start_paused = true)]
async fn with_a_pace_every_call_takes_the_lock_and_without_one_none() {
    let queue = Queue::builder(2, 10).pace(1, Duration::from_secs(1)).build().unwrap();
    assert!(!is_fast(&queue));
    queue.set_pace(None).unwrap();
    assert!(is_fast(&queue));
    queue.readings();
    assert!(is_fast(&queue));
    queue.set_pace(Some((1, Duration::from_secs(1)))).unwrap();
    assert!(!is_fast(&queue));
}

#[test]
fn the_order_by_urgency_adds_the_bytes_per_place_that_its_page_states() {
    let page = include_str!("discipline.rs");
    assert!(page.contains(&format!("A place in the queue has {} bytes more", size_of::<Node>())));
}

#[tokio::test(start_paused = true)]
async fn an_adaptive_queue_without_waiters_takes_no_lock() {
    assert!(is_fast(&Queue::adaptive(1).build().unwrap()));
}

#[test]
fn a_place_in_the_queue_has_the_size_that_its_page_states() {
    let bytes = Waiters::<Waiter, Result<PaceSlot, QueueRefusal>, CLASSES>::SLOT_BYTES;
    let page = include_str!("queue.rs").replace("\n///", "");
    assert!(page.contains(&format!("A place in the queue has {bytes} bytes")), "{bytes}");
}
