//! Calls that are dropped before they are served.

use super::{
    Waiter, assert_free, counts, full, occupancy, order, patient, refused, refused_at_once, served, too_full, waiter,
    waiters, within,
};
use crate::support::{ByHand, ms};
use rand::{RngExt, SeedableRng, rngs::SmallRng, seq::SliceRandom};
use steadfast::{error::QueueFullCause::Depth, load_level::Discipline};
use tokio::time::advance;

#[tokio::test(start_paused = true)]
async fn a_future_that_was_not_polled_has_no_place() {
    let (queue, permits) = full(patient(1, 1));
    let unpolled: Vec<_> = (0..10).map(|_| queue.acquire()).collect();
    assert_eq!(occupancy(&queue), (1, 0));
    drop(unpolled);
    assert_eq!((occupancy(&queue), counts(&queue)), ((1, 0), [0; 4]));
    drop(permits);
    assert_free(&queue);
}

#[tokio::test(start_paused = true)]
async fn a_waiter_dropped_after_one_poll_leaves_its_place_at_once() {
    let (queue, _permits) = full(patient(1, 1));
    for cancelled in 1..=3 {
        let waiter = waiter(&queue);
        assert_eq!(refused_at_once(&queue), too_full(Depth, 1));
        drop(waiter);
        assert_eq!(occupancy(&queue), (1, 0));
        assert_eq!(counts(&queue), [cancelled, 0, 0, cancelled]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_waiter_dropped_after_its_turn_has_come_passes_it_to_the_next() {
    let (queue, permits) = full(patient(1, 10));
    let [first, second, mut third] = waiters(&queue);
    drop(permits);
    assert_eq!((first.wakes(), second.wakes(), third.wakes()), (1, 0, 0));
    drop(first);
    assert_eq!((second.wakes(), third.wakes()), (1, 0));
    drop(second);
    assert_eq!(third.wakes(), 1);
    assert_eq!(occupancy(&queue), (1, 0));
    drop(served(&mut third));
    assert_free(&queue);
}

#[tokio::test(start_paused = true)]
async fn the_last_waiter_dropped_after_its_turn_leaves_the_place_free() {
    let (queue, permits) = full(patient(3, 10));
    let waiting: [_; 3] = waiters(&queue);
    drop(permits);
    assert_eq!(occupancy(&queue), (3, 0));
    drop(waiting);
    assert_free(&queue);
}

#[tokio::test(start_paused = true)]
async fn a_refused_waiter_that_is_dropped_without_a_poll_is_counted_once() {
    let (queue, permits) = full(patient(1, 1));
    let late = {
        let (late, answer) = super::comes_with(&queue, within(ms(5)), 1);
        assert!(answer.is_pending());
        late
    };
    advance(ms(5)).await;
    drop(permits);
    assert_eq!(counts(&queue), [0, 0, 1, 0]);
    drop(late);
    assert_eq!(counts(&queue), [0, 0, 1, 0]);
    assert_free(&queue);
}

#[tokio::test(start_paused = true)]
async fn the_other_waiters_keep_their_order_when_one_leaves() {
    for goes in 0..5 {
        let (queue, mut permits) = full(patient(1, 10));
        let mut waiting: Vec<_> = waiters::<5>(&queue).into_iter().collect();
        drop(waiting.remove(goes));
        waiting.push(waiter(&queue));
        assert_eq!(order(permits.remove(0), &mut waiting), [0, 1, 2, 3, 4], "number {goes} left");
        assert_free(&queue);
    }
}

#[tokio::test(start_paused = true)]
async fn after_a_thousand_calls_leave_in_any_order_all_places_are_free() {
    let mut random = SmallRng::seed_from_u64(3);
    for round in 0..20 {
        let discipline = if round % 2 == 0 { Discipline::fifo() } else { Discipline::earliest_deadline() };
        let (queue, mut permits) = full(patient(7, 1000).discipline(discipline));
        let mut waiting: Vec<Waiter> = (0..1000).map(|_| waiter(&queue)).collect();
        waiting.shuffle(&mut random);
        let mut answers = 0;
        while let Some(mut waiter) = waiting.pop() {
            match random.random_range(0..4) {
                0 => drop(permits.pop()),
                1 => permits.extend(served(&mut waiter)),
                2 if waiter.wakes() > 0 => answers += 1,
                _ => {}
            }
            assert!(occupancy(&queue).1 == 0 || queue.in_service() == 7, "a call waits while the service has room");
        }
        assert!(answers > 0, "some left after their turn had come");
        assert_eq!(queue.in_service(), permits.len());
        drop(permits);
        assert_free(&queue);
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_returns_the_permit() {
    let queue = patient(1, 1).build().unwrap();
    let work = tokio::spawn({
        let queue = queue.clone();
        async move {
            let _permit = queue.acquire().await.unwrap();
            panic!("as the test wants it");
        }
    });
    assert!(work.await.unwrap_err().is_panic());
    assert_free(&queue);
}

#[tokio::test(start_paused = true)]
async fn polling_a_future_after_its_end_panics_and_takes_nothing() {
    let (queue, permits) = full(patient(1, 1));
    let (mut ended, mut unplaced) = (waiter(&queue), ByHand::new(queue.acquire()));
    let _ = refused(&mut unplaced);
    drop(permits);
    let permit = served(&mut ended);
    for future in [&mut ended, &mut unplaced] {
        assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| future.poll().is_ready())).is_err());
    }
    assert_eq!(occupancy(&queue), (1, 0));
    drop((permit, ended, unplaced));
    assert_free(&queue);
}
