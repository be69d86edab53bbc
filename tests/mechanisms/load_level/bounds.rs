//! The bounds of a queue: depth, weight and displacement.

use super::{
    Waiter, class, comes_with, counts, full, occupancy, order, patient, refused, refused_at_once, served, too_full,
    too_long, waiter, waiter_with, waiters, within,
};
use crate::support::{ByHand, ms, secs};
use std::task::Poll;
use steadfast::{
    CallContext, Criticality, Rejection,
    error::QueueFullCause::{Depth, Displaced, TooHeavy, Weight},
    load_level::{Discipline, Queue},
};
use tokio::time::advance;

const HIGH: Criticality = Criticality::Critical;
const LOW: Criticality = Criticality::Sheddable;

/// A waiter of this weight.
#[track_caller]
fn heavy(queue: &Queue, weight: u64) -> Waiter {
    ByHand::pending(queue.acquire_weighing(weight))
}

/// The rejection of a call of this weight.
#[track_caller]
fn refused_heavy(queue: &Queue, context: CallContext, weight: u64) -> Rejection {
    match comes_with(queue, context, weight).1 {
        Poll::Ready(Err(rejection)) => rejection,
        other => panic!("not refused: {other:?}"),
    }
}

fn weight(queue: &Queue) -> u64 {
    queue.readings().weight
}

#[tokio::test(start_paused = true)]
async fn a_call_beyond_the_depth_is_refused_at_once() {
    for depth in [1, 2, 1000] {
        let (queue, _permits) = full(patient(3, depth));
        let waiting: Vec<_> = (0..depth).map(|_| waiter(&queue)).collect();
        for _ in 0..3 {
            let rejection = refused_at_once(&queue);
            assert_eq!(rejection, too_full(Depth, depth as u64));
            assert_eq!(rejection.to_string(), format!("load level: the queue is at its depth limit of {depth}"));
        }
        assert_eq!((occupancy(&queue), counts(&queue)), ((3, depth), [3, 0, 0, 0]));
        assert!(waiting.iter().all(|waiter| waiter.wakes() == 0));
    }
}

#[tokio::test(start_paused = true)]
async fn a_place_in_the_queue_is_free_again_when_its_waiter_is_served_or_leaves() {
    let (queue, mut permits) = full(patient(1, 2));
    let [mut first, second] = waiters(&queue);
    permits.pop();
    let _third = waiter(&queue);
    assert_eq!(refused_at_once(&queue), too_full(Depth, 2));
    drop(second);
    let _fourth = waiter(&queue);
    assert_eq!(refused_at_once(&queue), too_full(Depth, 2));
    assert!(served(&mut first).is_some());
}

#[tokio::test(start_paused = true)]
async fn the_total_weight_of_the_waiters_is_bounded() {
    let (queue, _permits) = full(patient(1, 100).max_weight(10));
    let (six, _three, _one) = (heavy(&queue, 6), heavy(&queue, 3), heavy(&queue, 1));
    assert_eq!(weight(&queue), 10);
    assert_eq!(refused_at_once(&queue), too_full(Weight, 10));
    let _nothing = heavy(&queue, 0);
    drop(six);
    assert_eq!(weight(&queue), 4);
    assert_eq!(refused_heavy(&queue, CallContext::new(), 7), too_full(Weight, 10));
    let _six = heavy(&queue, 6);
    assert_eq!((weight(&queue), occupancy(&queue)), (10, (1, 4)));
}

#[tokio::test(start_paused = true)]
async fn a_call_heavier_than_the_bound_is_refused_unless_it_need_not_wait() {
    let (queue, mut permits) = full(patient(1, 100).max_weight(10));
    let rejection = refused_heavy(&queue, CallContext::new(), 11);
    assert_eq!(rejection, too_full(TooHeavy, 10));
    assert_eq!(rejection.retry_after(), None);
    permits.pop();
    assert!(matches!(comes_with(&queue, CallContext::new(), u64::MAX).1, Poll::Ready(Ok(_))));
}

#[tokio::test(start_paused = true)]
async fn a_call_of_a_higher_class_displaces_the_newest_waiter_of_the_lowest() {
    let (queue, mut permits) = full(patient(1, 4).by_criticality());
    let classes = [LOW, Criticality::SheddablePlus, LOW, HIGH];
    let mut waiting: Vec<_> = classes.into_iter().map(|criticality| waiter_with(&queue, class(criticality))).collect();
    waiting.push(waiter_with(&queue, class(HIGH)));
    assert_eq!(waiting[2].wakes(), 1);
    assert_eq!(refused(&mut waiting[2]), too_full(Displaced, 4));
    waiting.push(waiter_with(&queue, class(HIGH)));
    assert_eq!(refused(&mut waiting[0]), too_full(Displaced, 4));
    waiting.push(waiter_with(&queue, class(HIGH)));
    assert_eq!(refused(&mut waiting[1]), too_full(Displaced, 4));
    // In this discipline, a newcomer displaces no waiter of its own class, and none of a higher class.
    assert_eq!(refused_heavy(&queue, class(HIGH), 1), too_full(Depth, 4));
    assert_eq!(refused_heavy(&queue, class(LOW), 1), too_full(Depth, 4));
    assert_eq!((occupancy(&queue), counts(&queue)), ((1, 4), [2, 3, 0, 0]));
    let mut left: Vec<_> = waiting.into_iter().skip(3).collect();
    assert_eq!(order(permits.remove(0), &mut left), [0, 1, 2, 3]);
}

#[tokio::test(start_paused = true)]
async fn under_lifo_a_newcomer_displaces_the_oldest_waiter() {
    let (queue, mut permits) = full(patient(1, 2).discipline(Discipline::lifo()));
    let [mut oldest, mut older] = waiters(&queue);
    let newer = waiter(&queue);
    assert_eq!(refused(&mut oldest), too_full(Displaced, 2));
    let newest = waiter(&queue);
    assert_eq!(refused(&mut older), too_full(Displaced, 2));
    assert_eq!((occupancy(&queue), counts(&queue)), ((1, 2), [0, 2, 0, 0]));
    assert_eq!(order(permits.remove(0), &mut [newer, newest]), [1, 0]);
}

#[tokio::test(start_paused = true)]
async fn a_call_of_a_lower_class_never_displaces_a_higher_one() {
    let (queue, _permits) = full(patient(1, 1).discipline(Discipline::lifo()).by_criticality());
    let waiter = waiter_with(&queue, class(HIGH));
    assert_eq!(refused_heavy(&queue, class(LOW), 1), too_full(Depth, 1));
    assert_eq!((waiter.wakes(), occupancy(&queue)), (0, (1, 1)));
}

#[tokio::test(start_paused = true)]
async fn a_newcomer_displaces_only_the_waiters_it_needs_and_none_if_that_is_not_enough() {
    let (queue, _permits) = full(patient(1, 100).max_weight(10).by_criticality());
    let waiting = |context, weight| {
        let (waiter, answer) = comes_with(&queue, context, weight);
        assert!(answer.is_pending());
        waiter
    };
    let important = waiting(class(HIGH), 3);
    let mut others = [2, 3, 2].map(|weight| waiting(class(LOW), weight));
    assert_eq!(refused_heavy(&queue, class(HIGH), 8), too_full(Weight, 10));
    assert!(others.iter().all(|waiter| waiter.wakes() == 0), "displacing all seven is not enough");
    let _newcomer = waiting(class(HIGH), 4);
    assert_eq!(others.each_ref().map(Waiter::wakes), [0, 1, 1], "the newest first");
    assert!(others.iter_mut().skip(1).all(|waiter| refused(waiter) == too_full(Displaced, 100)));
    assert_eq!((weight(&queue), important.wakes()), (9, 0));
}

#[tokio::test(start_paused = true)]
async fn a_late_waiter_makes_room_for_a_newcomer() {
    let (queue, _permits) = full(patient(1, 2));
    let mut late = waiter_with(&queue, within(ms(10)));
    let in_time = waiter(&queue);
    assert_eq!(refused_at_once(&queue), too_full(Depth, 2));
    advance(ms(10)).await;
    let _newcomer = waiter(&queue);
    assert_eq!(refused(&mut late), too_long(ms(10)));
    assert_eq!((in_time.wakes(), occupancy(&queue), counts(&queue)), (0, (1, 2), [1, 0, 1, 0]));
}

#[tokio::test(start_paused = true)]
async fn a_lower_bound_refuses_newcomers_and_keeps_the_waiters() {
    let (queue, mut permits) = full(patient(1, 3).max_weight(30));
    let mut waiting: Vec<_> = (0..3).map(|_| heavy(&queue, 10)).collect();
    queue.set_depth(1).unwrap();
    assert_eq!(refused_at_once(&queue), too_full(Depth, 1));
    queue.set_depth(10).unwrap();
    queue.set_max_weight(5).unwrap();
    assert_eq!(refused_at_once(&queue), too_full(Weight, 5));
    assert_eq!(refused_heavy(&queue, CallContext::new(), 6), too_full(TooHeavy, 5));
    assert_eq!(occupancy(&queue), (1, 3));
    assert_eq!(order(permits.remove(0), &mut waiting), [0, 1, 2]);
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_returns_the_time_to_serve_its_waiters_once_the_rate_is_known() {
    let (queue, mut permits) = full(patient(1, 50));
    assert_eq!(full_retry_after(&queue), None);
    let mut permit = permits.pop();
    // One waiter is served every 100 ms.
    let mut waiting: std::collections::VecDeque<_> = (0..50).map(|_| waiter(&queue)).collect();
    for _ in 0..20 {
        advance(ms(100)).await;
        permit.take();
        permit = served(&mut waiting.pop_front().unwrap());
        assert!(permit.is_some());
        waiting.push_back(waiter(&queue));
    }
    assert_eq!(full_retry_after(&queue), Some(ms(5100)), "51 calls at ten per second");
    advance(secs(1)).await;
    drop(permit);
}

fn full_retry_after(queue: &Queue) -> Option<std::time::Duration> {
    let mut waiting: Vec<_> = std::iter::from_fn(|| {
        let mut waiter = ByHand::new(queue.acquire());
        waiter.poll().is_pending().then_some(waiter)
    })
    .collect();
    let rejection = refused_at_once(queue);
    waiting.clear();
    rejection.retry_after()
}

#[tokio::test(start_paused = true)]
async fn the_sum_of_the_largest_weights_does_not_overflow() {
    let (queue, mut permits) = full(patient(1, usize::MAX));
    let (first, second) = (heavy(&queue, u64::MAX), heavy(&queue, u64::MAX));
    let third = heavy(&queue, 7);
    assert_eq!(weight(&queue), u64::MAX);
    drop(first);
    assert_eq!(weight(&queue), u64::MAX, "the second still waits");
    queue.set_max_weight(u64::MAX - 1).unwrap();
    assert_eq!(refused_at_once(&queue), too_full(Weight, u64::MAX - 1));
    drop(second);
    assert_eq!(weight(&queue), 7);
    assert_eq!(order(permits.remove(0), &mut [third]), [0]);
}

#[tokio::test(start_paused = true)]
async fn late_waiters_are_displaced_before_lower_classes() {
    let (queue, _permits) = full(patient(1, 100).max_weight(10).by_criticality());
    let (mut late, _) = comes_with(&queue, within(ms(10)), 6);
    let (mut low, _) = comes_with(&queue, class(LOW), 4);
    advance(ms(10)).await;
    let (_newcomer, answer) = comes_with(&queue, class(HIGH), 10);
    assert!(answer.is_pending(), "it fits without these two: {answer:?}");
    assert_eq!(refused(&mut late), too_long(ms(10)));
    assert_eq!(refused(&mut low), too_full(Displaced, 100));
}

#[tokio::test(start_paused = true)]
async fn a_surplus_of_waiters_is_displaced_by_a_call_of_a_higher_class() {
    let (queue, _permits) = full(patient(1, 3).by_criticality());
    let low = [(); 3].map(|()| waiter_with(&queue, class(LOW)));
    queue.set_depth(1).unwrap();
    assert!(low.iter().all(|waiter| waiter.wakes() == 0));
    let _high = waiter_with(&queue, class(HIGH));
    assert_eq!((low.map(|waiter| waiter.wakes()), occupancy(&queue)), ([1, 1, 1], (1, 1)));
}
