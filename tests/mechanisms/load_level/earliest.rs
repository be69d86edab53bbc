//! The discipline that serves the most urgent waiter first: the one whose time to wait ends first.

use super::{
    HOUR, LONGEST, Waiter, assert_free, class, comes_with, counts, full, occupancy, order, patient, refused, served,
    too_full, too_long, waiter, waiter_with, within,
};
use crate::support::{ms, secs};
use std::{task::Poll, time::Duration};
use steadfast::{
    CallContext, Criticality,
    error::QueueFullCause::{Depth, Displaced, Weight},
    load_level::{Discipline, Permit, Queue, QueueBuilder},
};
use tokio::time::{Instant, advance};

fn urgent(depth: usize) -> QueueBuilder {
    patient(1, depth).discipline(Discipline::earliest_deadline())
}

fn one_place(builder: QueueBuilder) -> (Queue, Permit) {
    let (queue, mut permits) = full(builder);
    (queue, permits.remove(0))
}

/// Waiters with these times until their deadlines.
fn with_deadlines<const N: usize>(queue: &Queue, deadlines: [Duration; N]) -> [Waiter; N] {
    deadlines.map(|deadline| waiter_with(queue, within(deadline)))
}

#[tokio::test(start_paused = true)]
async fn the_earliest_deadline_is_served_first_and_of_equal_ones_the_older() {
    let (queue, permit) = one_place(urgent(100));
    let mut waiting = with_deadlines(&queue, [secs(5), secs(1), secs(3), secs(1), secs(9), secs(1), secs(2)]);
    assert_eq!(order(permit, &mut waiting), [1, 3, 5, 6, 2, 0, 4]);
    assert_free(&queue);
}

#[tokio::test(start_paused = true)]
async fn a_call_without_a_deadline_or_with_a_distant_one_is_ordered_by_max_wait() {
    let (queue, permit) = one_place(urgent(100).max_wait(secs(10)));
    let beyond = CallContext::new().with_deadline(Instant::now() + 300 * LONGEST);
    let mut waiting = [
        waiter(&queue),
        waiter_with(&queue, within(secs(21))),
        waiter_with(&queue, beyond),
        waiter_with(&queue, within(secs(19))),
    ];
    assert_eq!(order(permit, &mut waiting), [3, 0, 1, 2]);
    assert_free(&queue);
}

#[tokio::test(start_paused = true)]
async fn a_call_waits_for_its_share_and_not_at_all_after_its_deadline() {
    let (queue, permit) = one_place(urgent(100));
    let mut waiting = with_deadlines(&queue, [secs(4), secs(2)]);
    let (_, answer) = comes_with(&queue, within(Duration::ZERO), 1);
    assert!(matches!(answer, Poll::Ready(Err(rejection)) if rejection == too_long(Duration::ZERO)));
    advance(secs(1)).await;
    assert_eq!(refused(&mut waiting[1]), too_long(secs(1)));
    advance(secs(1)).await;
    assert_eq!(refused(&mut waiting[0]), too_long(secs(2)));
    assert_eq!((occupancy(&queue), counts(&queue)), ((1, 0), [0, 0, 3, 0]));
    drop(permit);
    assert_free(&queue);
}

#[tokio::test(start_paused = true)]
async fn an_older_call_whose_time_ends_first_comes_before_a_newer_one_with_an_earlier_deadline() {
    let (queue, permit) = one_place(urgent(100));
    let old = waiter_with(&queue, within(secs(10)));
    advance(ms(4_900)).await;
    // The new call has the earlier deadline, at 5.4 s. But it may wait until 4.9 s + 0.25 s, and the old one only until
    // 5 s.
    let new = waiter_with(&queue, within(ms(500)));
    assert_eq!(order(permit, &mut [new, old]), [1, 0]);
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_refuses_the_call_that_could_wait_longest() {
    let (queue, _permit) = one_place(urgent(3));
    let mut waiting = with_deadlines(&queue, [secs(3), secs(5), secs(4)]);
    // If the newcomer and a waiter could wait until the same instant, the newcomer is refused.
    for deadline in [secs(6), secs(5)] {
        let (_, answer) = comes_with(&queue, within(deadline), 1);
        assert!(matches!(answer, Poll::Ready(Err(rejection)) if rejection == too_full(Depth, 3)));
    }
    let _new = waiter_with(&queue, within(ms(4_500)));
    assert_eq!(refused(&mut waiting[1]), too_full(Displaced, 3));
    assert_eq!((occupancy(&queue), counts(&queue)), ((1, 3), [2, 1, 0, 0]));
}

#[tokio::test(start_paused = true)]
async fn a_late_waiter_makes_room_before_any_other() {
    let (queue, _permit) = one_place(urgent(2));
    let mut patient = waiter_with(&queue, within(secs(8)));
    let mut hasty = waiter_with(&queue, within(secs(2)));
    advance(secs(1)).await;
    let _new = waiter_with(&queue, within(secs(100)));
    assert_eq!(refused(&mut hasty), too_long(secs(1)));
    assert!(served(&mut patient).is_none());
}

#[tokio::test(start_paused = true)]
async fn a_heavy_call_displaces_no_waiter_if_the_later_waiters_weigh_too_little() {
    let (queue, _permit) = one_place(urgent(100).max_weight(10));
    let (_first, _) = comes_with(&queue, within(secs(1)), 6);
    let (mut last, _) = comes_with(&queue, within(secs(9)), 4);
    let (_, answer) = comes_with(&queue, within(secs(5)), 5);
    assert!(matches!(answer, Poll::Ready(Err(rejection)) if rejection == too_full(Weight, 10)));
    assert!(served(&mut last).is_none(), "it keeps its place");
    let (_new, answer) = comes_with(&queue, within(secs(5)), 4);
    assert!(answer.is_pending());
    assert_eq!(refused(&mut last), too_full(Displaced, 100));
}

#[tokio::test(start_paused = true)]
async fn a_higher_class_comes_first_with_any_deadline() {
    let (queue, permit) = one_place(urgent(100).by_criticality());
    let of = |criticality, deadline| waiter_with(&queue, class(criticality).with_deadline(Instant::now() + deadline));
    let mut waiting = [
        of(Criticality::Sheddable, secs(1)),
        of(Criticality::Critical, secs(9)),
        of(Criticality::Critical, secs(8)),
        of(Criticality::CriticalPlus, secs(99)),
    ];
    assert_eq!(order(permit, &mut waiting), [3, 2, 1, 0]);
}

#[tokio::test(start_paused = true)]
async fn changing_to_earliest_deadline_and_back_reorders_the_waiters() {
    let (queue, permit) = one_place(patient(1, 100));
    let mut waiting = with_deadlines(&queue, [secs(9), secs(3), secs(6), secs(1)]);
    queue.set_discipline(Discipline::earliest_deadline()).unwrap();
    drop(permit);
    let permit = served(&mut waiting[3]).unwrap();
    queue.set_discipline(Discipline::earliest_deadline_with(0.25)).unwrap();
    assert_eq!(waiting[1].wakes(), 0);
    queue.set_discipline(Discipline::fifo()).unwrap();
    let [nine, three, six, _one] = waiting;
    assert_eq!(order(permit, &mut [three, six, nine]), [2, 0, 1]);
    assert_free(&queue);
}

#[tokio::test(start_paused = true)]
async fn a_waiter_that_leaves_keeps_the_order_of_the_others() {
    for gone in 0..6 {
        let (queue, permit) = one_place(urgent(100));
        let mut waiting = Vec::from(with_deadlines(&queue, [secs(4), secs(2), secs(6), secs(1), secs(5), secs(3)]));
        let mut expected = vec![3, 1, 5, 0, 4, 2];
        drop(waiting.remove(gone));
        expected.retain(|number| *number != gone);
        let expected: Vec<_> = expected.into_iter().map(|number| number - usize::from(number > gone)).collect();
        assert_eq!(order(permit, &mut waiting), expected, "without {gone}");
        assert_free(&queue);
    }
}

#[test]
fn a_share_that_cannot_be_is_refused_by_its_name() {
    for share in [0.0, -1.0, 1.1, f64::NAN, f64::INFINITY] {
        let error = urgent(1).discipline(Discipline::earliest_deadline_with(share)).build().unwrap_err();
        assert_eq!(error.field(), "load_level.earliest_deadline_with");
    }
    assert!(urgent(1).discipline(Discipline::earliest_deadline_with(1e-6)).max_wait(HOUR).build().is_ok());
}
