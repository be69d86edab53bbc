//! A queue that is read and changed while calls wait, and used without tower.

use super::{
    HOUR, LONGEST, assert_free, class, comes_with, counts, full, occupancy, order, patient, refused, refused_at_once,
    served, too_full, too_long, waiter, waiter_with, waiters, within,
};
use crate::support::{ms, secs};
use std::{task::Poll, time::Duration};
use steadfast::{
    CallContext, Criticality, Rejection,
    error::QueueFullCause::{Depth, Weight},
    load_level::{Discipline, DrainTime, Queue},
};
use tokio::time::advance;

#[tokio::test(start_paused = true)]
async fn a_new_queue_is_empty() {
    let queue = Queue::builder(5, 3).build().unwrap();
    let readings = queue.readings();
    assert_eq!((readings.in_service, readings.concurrency, readings.waiting, readings.weight), (0, 5, 0, 0));
    assert_eq!((readings.oldest_age, readings.expected_wait), (Duration::ZERO, Some(Duration::ZERO)));
    assert_eq!((readings.drain_time, readings.desired_concurrency), (DrainTime::In(Duration::ZERO), 1));
    assert_eq!(counts(&queue), [0; 4]);
    assert_eq!(format!("{queue:?}"), "Queue { in_service: 0, concurrency: 5, waiting: 0 }");
}

#[tokio::test(start_paused = true)]
async fn the_readings_count_the_calls_in_the_service_and_the_waiters() {
    let (queue, mut permits) = full(patient(2, 10).by_criticality());
    let first = waiter_with(&queue, class(Criticality::Sheddable));
    advance(secs(2)).await;
    let (second, _) = comes_with(&queue, class(Criticality::CriticalPlus), 40);
    advance(secs(3)).await;
    let readings = queue.readings();
    assert_eq!((readings.in_service, readings.concurrency, readings.waiting, readings.weight), (2, 2, 2, 41));
    assert_eq!(readings.oldest_age, secs(5));
    assert_eq!((readings.expected_wait, readings.drain_time), (None, DrainTime::Unknown));
    assert_eq!(readings.desired_concurrency, 2, "the capacity is not known");
    drop(first);
    assert_eq!((queue.readings().oldest_age, queue.readings().weight), (secs(3), 40));
    permits.pop();
    assert_eq!((queue.readings().oldest_age, queue.readings().weight), (Duration::ZERO, 0));
    assert_eq!(format!("{queue:?}"), "Queue { in_service: 2, concurrency: 2, waiting: 0 }");
    drop(second);
    assert_eq!(queue.readings().in_service, 1);
}

#[tokio::test(start_paused = true)]
async fn each_call_that_is_not_served_is_counted_by_its_reason() {
    let (queue, _permits) = full(patient(1, 1).by_criticality());
    let mut displaced = waiter_with(&queue, class(Criticality::Sheddable));
    let mut late = waiter_with(&queue, within(ms(1)));
    let _ = refused(&mut displaced);
    let _ = refused_at_once(&queue);
    let _ = refused_at_once(&queue);
    advance(ms(1)).await;
    let _ = refused(&mut late);
    for _ in 0..3 {
        drop(waiter(&queue));
    }
    assert_eq!(counts(&queue), [2, 1, 1, 3]);
}

#[tokio::test(start_paused = true)]
async fn a_higher_concurrency_admits_waiters_and_a_lower_one_waits_until_enough_calls_have_ended() {
    let (queue, mut permits) = full(patient(2, 10));
    let mut waiting: Vec<_> = waiters::<6>(&queue).into_iter().collect();
    queue.set_concurrency(4).unwrap();
    assert_eq!((queue.concurrency(), occupancy(&queue)), (4, (4, 4)));
    permits.extend(waiting.drain(..2).map(|mut waiter| served(&mut waiter).unwrap()));
    queue.set_concurrency(1).unwrap();
    for in_service in [3, 2, 1] {
        permits.pop();
        assert_eq!(occupancy(&queue), (in_service, 4));
    }
    assert!(queue.try_acquire().is_none());
    assert_eq!(order(permits.remove(0), &mut waiting), [0, 1, 2, 3]);
    assert_free(&queue);
}

#[tokio::test(start_paused = true)]
async fn an_invalid_setting_leaves_the_old_one() {
    let (queue, _permits) = full(Queue::builder(1, 2).max_weight(3).discipline(Discipline::lifo()).pace(1000, secs(1)));
    assert_eq!(queue.set_concurrency(0).unwrap_err().field(), "load_level.concurrency");
    assert_eq!(queue.set_depth(0).unwrap_err().field(), "load_level.depth");
    assert_eq!(queue.set_max_weight(0).unwrap_err().field(), "load_level.max_weight");
    assert_eq!(queue.set_max_wait(Duration::ZERO).unwrap_err().field(), "load_level.max_wait");
    assert_eq!(queue.set_discipline(Discipline::by_deadline(0.0)).unwrap_err().field(), "load_level.by_deadline");
    assert_eq!(queue.set_pace(Some((0, secs(1)))).unwrap_err().field(), "load_level.pace");
    assert_eq!(queue.concurrency(), 1);
    let mut oldest = waiter(&queue);
    let (_two, _) = comes_with(&queue, CallContext::new(), 2);
    assert_eq!(queue.readings().weight, 3);
    let (_one, answer) = comes_with(&queue, CallContext::new(), 1);
    assert!(answer.is_pending(), "under LIFO the oldest is displaced");
    assert!(matches!(oldest.poll(), Poll::Ready(Err(Rejection::QueueFull(_)))));
}

#[tokio::test(start_paused = true)]
async fn new_bounds_apply_to_newcomers() {
    let (queue, _permits) = full(Queue::builder(1, 1));
    let mut before = waiter(&queue);
    assert_eq!(refused_at_once(&queue), too_full(Depth, 1));
    queue.set_depth(3).unwrap();
    queue.set_max_wait(ms(100)).unwrap();
    let mut after = waiter(&queue);
    advance(ms(100)).await;
    assert_eq!(refused(&mut after), too_long(ms(100)));
    queue.set_max_weight(1).unwrap();
    assert_eq!(refused_at_once(&queue), too_full(Weight, 1));
    queue.set_max_wait(LONGEST).unwrap();
    advance(ms(899)).await;
    assert!(before.poll().is_pending());
    advance(ms(1)).await;
    assert_eq!(refused(&mut before), too_long(secs(1)));
    let mut patient = waiter(&queue);
    advance(HOUR).await;
    assert!(patient.poll().is_pending());
}

#[tokio::test(start_paused = true)]
async fn clones_of_a_queue_share_it() {
    let (queue, mut permits) = full(patient(1, 1));
    let clone = queue.clone();
    let mut waiter = waiter(&clone);
    assert_eq!(refused_at_once(&queue), too_full(Depth, 1));
    queue.set_concurrency(2).unwrap();
    assert_eq!((clone.concurrency(), waiter.wakes()), (2, 1));
    permits.extend(served(&mut waiter));
    assert_eq!((clone.in_service(), permits.len()), (2, 2));
    drop(permits);
    assert_free(&clone);
}

#[tokio::test(start_paused = true)]
async fn try_acquire_does_not_overtake_a_waiter() {
    let (queue, mut permits) = full(patient(1, 10));
    let mut first = waiter(&queue);
    permits.pop();
    assert!(queue.try_acquire().is_none() && first.wakes() == 1, "the place belongs to the first waiter");
    drop(served(&mut first));
    assert!(queue.try_acquire().is_some());

    let paced = patient(10, 10).pace(1, secs(1)).build().unwrap();
    drop(paced.try_acquire().unwrap());
    let mut first = waiter(&paced);
    advance(secs(1)).await;
    assert!(paced.try_acquire().is_none(), "the slot belongs to the first waiter");
    assert!(served(&mut first).is_some());
}

#[tokio::test(start_paused = true)]
async fn an_acquire_takes_the_deadline_and_the_criticality_of_its_first_poll() {
    let (queue, _permits) = full(Queue::builder(1, 1).by_criticality());
    let context = within(ms(200)).with_criticality(Criticality::Sheddable);
    let mut waiter = waiter_with(&queue, context);
    // Later polls run in other contexts.
    assert!(within(HOUR).sync_scope(|| waiter.poll()).is_pending());
    advance(ms(100)).await;
    assert_eq!(refused(&mut waiter), too_long(ms(100)));
    let mut low = waiter_with(&queue, context);
    let _high = waiter_with(&queue, class(Criticality::CriticalPlus));
    assert!(matches!(refused(&mut low), Rejection::WaitedTooLong(_) | Rejection::QueueFull(_)));
}

#[tokio::test]
async fn many_threads_share_the_places_and_lose_none() {
    let queue = patient(3, 100_000).build().unwrap();
    let inside = std::sync::atomic::AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
                for number in 0..2000 {
                    if number % 7 == 0 {
                        let mut gone = crate::support::ByHand::new(queue.acquire());
                        let _guard = runtime.enter();
                        let _ = gone.poll();
                        continue;
                    }
                    let permit = runtime.block_on(queue.acquire()).unwrap();
                    assert!(inside.fetch_add(1, std::sync::atomic::Ordering::SeqCst) < 3);
                    inside.fetch_sub(1, std::sync::atomic::Ordering::SeqCst);
                    drop(permit);
                }
            });
        }
    });
    assert_free(&queue);
}
