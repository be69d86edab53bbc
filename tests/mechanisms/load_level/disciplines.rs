//! The order of the waiters, and how long each may wait.

use super::{
    HOUR, class, comes_with, counts, full, occupancy, order, patient, refused, served, too_long, waiter, waiter_with,
    waiters, within,
};
use crate::support::{ms, secs};
use std::{task::Poll, time::Duration};
use steadfast::{
    CallContext, Criticality,
    load_level::{Discipline, Queue},
};
use tokio::time::advance;

/// A queue of this discipline whose only place is taken.
fn one_place(discipline: Discipline) -> (Queue, steadfast::load_level::Permit) {
    let (queue, mut permits) = full(patient(1, 100).discipline(discipline));
    (queue, permits.remove(0))
}

#[tokio::test(start_paused = true)]
async fn every_discipline_but_lifo_serves_the_oldest_first() {
    let oldest_first = [0, 1, 2, 3, 4];
    let newest_first = [4, 3, 2, 1, 0];
    for (discipline, expected) in [
        (Discipline::default(), oldest_first),
        (Discipline::by_deadline(1.0), oldest_first),
        (Discipline::fifo(), oldest_first),
        (Discipline::adaptive(), oldest_first),
        (Discipline::lifo(), newest_first),
    ] {
        let (queue, permit) = one_place(discipline);
        let mut waiting: [_; 5] = waiters(&queue);
        assert_eq!(order(permit, &mut waiting), expected, "{discipline}");
        assert_eq!((occupancy(&queue), counts(&queue)), ((0, 0), [0; 4]));
    }
}

#[tokio::test(start_paused = true)]
async fn by_deadline_a_call_waits_for_exactly_its_share_of_the_time_to_its_deadline() {
    for (share, patience) in [(0.25, ms(250)), (0.5, ms(500)), (1.0, ms(1000))] {
        let (queue, permit) = one_place(Discipline::by_deadline(share));
        let mut waiter = waiter_with(&queue, within(secs(1)));
        advance(patience - ms(1)).await;
        assert!(waiter.wakes() == 0 && waiter.poll().is_pending());
        advance(ms(1)).await;
        assert_eq!(waiter.wakes(), 1, "once, by its own timer");
        assert_eq!(refused(&mut waiter), too_long(patience));
        assert_eq!((occupancy(&queue), counts(&queue)), ((1, 0), [0, 0, 1, 0]));
        drop(permit);
        assert_eq!(occupancy(&queue), (0, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_that_has_waited_too_long_does_not_run_even_if_it_was_not_polled() {
    let (queue, permit) = one_place(Discipline::default());
    let mut late = waiter_with(&queue, within(secs(1)));
    let mut patient = waiter_with(&queue, within(secs(2)));
    advance(ms(500)).await;
    drop(permit);
    assert_eq!(occupancy(&queue), (1, 0));
    assert_eq!(refused(&mut late), too_long(ms(500)));
    assert!(served(&mut patient).is_some());
    assert_eq!(counts(&queue), [0, 0, 1, 0]);
}

#[tokio::test(start_paused = true)]
async fn without_a_deadline_a_call_waits_for_max_wait() {
    for discipline in [Discipline::default(), Discipline::fifo(), Discipline::lifo()] {
        let (queue, _permits) = full(Queue::builder(1, 10).discipline(discipline));
        let mut waiter = waiter(&queue);
        advance(ms(999)).await;
        assert!(waiter.poll().is_pending());
        advance(ms(1)).await;
        assert_eq!(refused(&mut waiter), too_long(secs(1)), "{discipline}");
    }
}

#[tokio::test(start_paused = true)]
async fn no_call_waits_longer_than_max_wait_or_its_deadline() {
    for discipline in [Discipline::by_deadline(1.0), Discipline::fifo(), Discipline::lifo()] {
        let (queue, _permits) = full(Queue::builder(1, 10).discipline(discipline));
        let (mut short, mut long) = (waiter_with(&queue, within(ms(300))), waiter_with(&queue, within(HOUR)));
        advance(ms(300)).await;
        assert_eq!(refused(&mut short), too_long(ms(300)), "{discipline}");
        advance(ms(699)).await;
        assert!(long.poll().is_pending());
        advance(ms(1)).await;
        assert_eq!(refused(&mut long), too_long(secs(1)), "{discipline}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_whose_deadline_has_passed_is_refused_without_waiting() {
    for discipline in [Discipline::default(), Discipline::fifo(), Discipline::lifo(), Discipline::adaptive()] {
        let (queue, permit) = one_place(discipline);
        let (_, answer) = comes_with(&queue, within(Duration::ZERO), 1);
        assert!(matches!(answer, Poll::Ready(Err(rejection)) if rejection == too_long(Duration::ZERO)));
        assert_eq!((occupancy(&queue), counts(&queue)), ((1, 0), [0, 0, 1, 0]));
        drop(permit);
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_whose_turn_comes_at_the_last_moment_is_served() {
    let (queue, permit) = one_place(Discipline::default());
    let mut waiter = waiter_with(&queue, within(secs(1)));
    advance(ms(500) - Duration::from_nanos(1)).await;
    drop(permit);
    assert!(served(&mut waiter).is_some());
}

#[tokio::test(start_paused = true)]
async fn an_adaptive_discipline_serves_the_oldest_first_while_the_queue_empties() {
    let (queue, mut permit) = one_place(Discipline::adaptive());
    for _ in 0..10 {
        let mut waiting: [_; 3] = waiters(&queue);
        advance(ms(90)).await;
        assert_eq!(order(permit, &mut waiting), [0, 1, 2]);
        permit = queue.try_acquire().unwrap();
        advance(ms(90)).await;
    }
    assert_eq!(counts(&queue), [0; 4]);
}

#[tokio::test(start_paused = true)]
async fn an_adaptive_discipline_serves_a_standing_queue_newest_first_and_refuses_after_the_target() {
    let (queue, permit) = one_place(Discipline::adaptive());
    let old = waiter(&queue);
    advance(ms(60)).await;
    let middle = waiter(&queue);
    advance(ms(36)).await;
    let newer = waiter(&queue);
    advance(ms(4)).await;
    // The queue has been non-empty for exactly the interval.
    let newest = waiter(&queue);
    advance(ms(1)).await;
    let mut waiting = [old, middle, newer, newest];
    assert_eq!(order(permit, &mut waiting), [3, 2], "of the waiters of up to 5 ms the newest first");
    assert_eq!((occupancy(&queue), counts(&queue)), ((0, 0), [0, 0, 2, 0]));
}

#[tokio::test(start_paused = true)]
async fn an_adaptive_discipline_changes_its_order_after_the_interval_and_not_before() {
    for (interval_and, expected) in [(Duration::ZERO, [0, 1]), (Duration::from_nanos(1), [1, 0])] {
        let (queue, permit) = one_place(Discipline::adaptive_with(ms(10), ms(100)));
        let first = waiter(&queue);
        advance(ms(95)).await;
        let waiting = [waiter(&queue), waiter(&queue)];
        advance(ms(4)).await;
        drop(first);
        advance(ms(1) + interval_and).await;
        assert_eq!(order(permit, &mut { waiting }), expected);
    }
}

#[tokio::test(start_paused = true)]
async fn under_an_adaptive_discipline_no_call_waits_longer_than_the_interval() {
    let (queue, _permit) = one_place(Discipline::adaptive());
    let (mut patient, mut hurried) = (waiter(&queue), waiter_with(&queue, within(ms(40))));
    advance(ms(40)).await;
    assert_eq!(refused(&mut hurried), too_long(ms(40)));
    advance(ms(60)).await;
    assert_eq!(refused(&mut patient), too_long(ms(100)));
}

const CLASSES: [Criticality; 4] =
    [Criticality::Sheddable, Criticality::SheddablePlus, Criticality::Critical, Criticality::CriticalPlus];

#[tokio::test(start_paused = true)]
async fn by_criticality_the_highest_class_comes_first_and_the_discipline_orders_each_class() {
    for (discipline, expected) in
        [(Discipline::fifo(), [3, 7, 2, 6, 1, 5, 0, 4]), (Discipline::lifo(), [7, 3, 6, 2, 5, 1, 4, 0])]
    {
        let (queue, mut permits) = full(patient(1, 100).discipline(discipline).by_criticality());
        let mut waiting: Vec<_> =
            CLASSES.iter().chain(&CLASSES).map(|criticality| waiter_with(&queue, class(*criticality))).collect();
        assert_eq!(order(permits.remove(0), &mut waiting), expected, "{discipline}");
    }
}

#[tokio::test(start_paused = true)]
async fn without_by_criticality_the_criticality_is_ignored() {
    let (queue, permit) = one_place(Discipline::fifo());
    let mut waiting: Vec<_> = CLASSES.iter().map(|criticality| waiter_with(&queue, class(*criticality))).collect();
    assert_eq!(order(permit, &mut waiting), [0, 1, 2, 3]);
}

#[tokio::test(start_paused = true)]
async fn a_lower_class_is_served_when_no_higher_class_waits() {
    let (queue, mut permits) = full(patient(2, 100).by_criticality());
    let mut low = waiter_with(&queue, class(Criticality::Sheddable));
    let mut high = waiter_with(&queue, class(Criticality::CriticalPlus));
    permits.pop();
    let high = served(&mut high);
    assert!(high.is_some() && served(&mut low).is_none());
    permits.pop();
    assert!(served(&mut low).is_some());
}

#[tokio::test(start_paused = true)]
async fn a_call_admitted_in_time_can_be_polled_until_its_deadline() {
    let (queue, permit) = one_place(Discipline::by_deadline(0.5));
    let mut waiter = waiter_with(&queue, within(secs(1)));
    advance(ms(499)).await;
    drop(permit);
    advance(ms(500)).await;
    assert!(served(&mut waiter).is_some(), "half of its time is left for the work");
}

#[tokio::test(start_paused = true)]
async fn a_new_discipline_reorders_the_waiters_but_does_not_change_their_time_to_wait() {
    let (queue, permit) = one_place(Discipline::default());
    let mut waiting = vec![waiter_with(&queue, within(secs(2))), waiter_with(&queue, CallContext::new())];
    queue.set_discipline(Discipline::lifo()).unwrap();
    waiting.push(waiter_with(&queue, within(secs(2))));
    advance(secs(1)).await;
    assert_eq!(waiting[0].wakes(), 1, "half of its time has passed");
    assert_eq!(refused(&mut waiting.remove(0)), too_long(secs(1)));
    assert_eq!(order(permit, &mut waiting), [1, 0], "the newest first, which may wait until its deadline");
}

#[tokio::test(start_paused = true)]
async fn an_admitted_call_that_is_not_polled_before_its_deadline_does_not_run() {
    for discipline in [Discipline::default(), Discipline::fifo(), Discipline::lifo()] {
        let (queue, permit) = one_place(discipline);
        let mut behind = waiter(&queue);
        let mut late = waiter_with(&queue, within(secs(1)));
        let (first, second) = if discipline == Discipline::lifo() {
            (&mut late, &mut behind)
        } else {
            // The first waiter leaves and joins again behind the other.
            drop(std::mem::replace(&mut behind, waiter(&queue)));
            (&mut late, &mut behind)
        };
        drop(permit);
        assert_eq!((first.wakes(), second.wakes()), (1, 0));
        advance(secs(1)).await;
        assert_eq!(refused(first), too_long(secs(1)), "{discipline}");
        assert_eq!(counts(&queue), [0, 0, 1, 1 - u64::from(discipline == Discipline::lifo())]);
        assert!(served(second).is_some(), "its place goes to the next call");
    }
}
