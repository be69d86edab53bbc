//! How often a waiter is woken: once, when its turn comes or its time to wait ends. With a pace, a waiter that others
//! overtake may be woken more often.

use super::{HOUR, full, occupancy, order, patient, refused, served, waiter, waiters};
use crate::support::{ByHand, Counted, ms, secs};
use futures::future::join_all;
use std::sync::{Arc, Mutex};
use steadfast::load_level::{Discipline, Queue};
use tokio::{
    spawn,
    time::{advance, sleep},
};

#[tokio::test(start_paused = true)]
async fn each_of_a_thousand_waiters_is_woken_once_and_polled_twice() {
    for discipline in [Discipline::default(), Discipline::fifo(), Discipline::lifo()] {
        for places in [1, 10] {
            let (queue, permits) = full(patient(places, 1000).discipline(discipline));
            let served = Arc::new(Mutex::new(Vec::new()));
            let calls: Vec<_> = (0..1000)
                .map(|number| {
                    let (queue, served) = (queue.clone(), served.clone());
                    spawn(async move {
                        let (permit, polls) = Counted::new(queue.acquire()).await;
                        served.lock().unwrap().push(number);
                        sleep(ms(1)).await;
                        drop(permit.unwrap());
                        polls
                    })
                })
                .collect();
            sleep(ms(1)).await;
            assert_eq!(occupancy(&queue), (places, 1000));
            drop(permits);
            let polls: Vec<_> = join_all(calls).await.into_iter().map(Result::unwrap).collect();
            assert_eq!(polls, [2; 1000]);
            let expected: Vec<_> =
                if discipline == Discipline::lifo() { (0..1000).rev().collect() } else { (0..1000).collect() };
            assert_eq!(*served.lock().unwrap(), expected, "{discipline}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn only_admitted_waiters_are_woken() {
    let (queue, mut permits) = full(patient(1, 1000));
    let mut waiting: Vec<_> = (0..1000).map(|_| waiter(&queue)).collect();
    for _ in 0..10 {
        advance(secs(60)).await;
    }
    assert_eq!(waiting.iter().map(ByHand::wakes).sum::<usize>(), 0);
    assert_eq!(order(permits.remove(0), &mut waiting), (0..1000).collect::<Vec<_>>());
    assert_eq!(waiting.iter().map(ByHand::wakes).sum::<usize>(), 1000);
    // No timer is left to wake them.
    advance(HOUR).await;
    assert_eq!(waiting.iter().map(ByHand::wakes).sum::<usize>(), 1000);
}

#[tokio::test(start_paused = true)]
async fn a_spurious_poll_keeps_the_place_and_causes_no_wake_up() {
    let (queue, permits) = full(patient(1, 10));
    let [mut first, mut second] = waiters(&queue);
    for _ in 0..100 {
        advance(ms(1)).await;
        assert!(served(&mut second).is_none() && served(&mut first).is_none());
    }
    assert_eq!((first.wakes(), second.wakes(), occupancy(&queue)), (0, 0, (1, 2)));
    drop(permits);
    assert_eq!((first.wakes(), second.wakes()), (1, 0));
    assert!(served(&mut first).is_some());
}

#[tokio::test(start_paused = true)]
async fn only_the_waker_of_the_latest_poll_is_woken() {
    let (queue, permits) = full(patient(1, 10));
    let mut waiter = waiter(&queue);
    let old = waiter.change_waker();
    assert!(served(&mut waiter).is_none());
    drop(permits);
    assert_eq!((old(), waiter.wakes()), (0, 1));
    assert!(served(&mut waiter).is_some());
}

#[tokio::test(start_paused = true)]
async fn a_waiter_whose_time_has_ended_is_woken_once_by_its_latest_waker() {
    let (queue, _permits) = full(Queue::builder(1, 10));
    let mut waiter = waiter(&queue);
    advance(ms(500)).await;
    let old = waiter.change_waker();
    assert!(served(&mut waiter).is_none());
    advance(ms(500)).await;
    assert_eq!((old(), waiter.wakes()), (0, 1));
    let _ = refused(&mut waiter);
}

#[tokio::test(start_paused = true)]
async fn one_waiter_is_woken_for_each_new_place() {
    let (queue, permits) = full(patient(1, 10));
    let mut waiting: [_; 6] = waiters(&queue);
    queue.set_concurrency(4).unwrap();
    assert_eq!(waiting.each_ref().map(ByHand::wakes), [1, 1, 1, 0, 0, 0]);
    assert_eq!(occupancy(&queue), (4, 3));
    let held: Vec<_> = waiting[..3].iter_mut().map(|waiter| served(waiter).unwrap()).collect();
    queue.set_concurrency(2).unwrap();
    drop(permits);
    assert_eq!(occupancy(&queue), (3, 3));
    drop(held);
    assert_eq!(waiting.each_ref().map(ByHand::wakes), [1, 1, 1, 1, 1, 0]);
}

#[tokio::test(start_paused = true)]
async fn with_a_pace_an_overtaken_waiter_is_woken_at_most_twice_more_each_time() {
    let queue = patient(10, 100).discipline(Discipline::lifo()).pace(10, secs(1)).build().unwrap();
    drop(queue.try_acquire().unwrap());
    let mut oldest = waiter(&queue);
    let mut overtaken = 0;
    for _ in 0..20 {
        let mut newest = waiter(&queue);
        while newest.wakes() == 0 {
            advance(ms(1)).await;
            if oldest.wakes() > overtaken {
                overtaken = oldest.wakes();
                assert!(served(&mut oldest).is_none());
            }
        }
        drop(served(&mut newest).unwrap());
    }
    assert!(overtaken <= 2 * 20, "{overtaken} times");
    let woken = oldest.wakes();
    while served(&mut oldest).is_none() {
        advance(ms(1)).await;
    }
    assert!(oldest.wakes() <= woken + 2);
}
