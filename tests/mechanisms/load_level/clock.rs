//! A clock that stands still, jumps, or differs between threads; and the largest and smallest settings.

use super::{
    HOUR, LONGEST, assert_free, comes_with, full, occupancy, order, patient, refused, served, too_long, waiter,
    waiters, within,
};
use crate::support::{Stopwatch, ms, secs};
use std::{
    future::Future,
    task::{Context, Poll, Waker},
    time::Duration,
};
use steadfast::{
    CallContext, Rejection,
    load_level::{Discipline, Queue},
};
use tokio::time::{Instant, advance};

const NANO: Duration = Duration::from_nanos(1);

/// Returns the wait that a [`Rejection::WaitedTooLong`] states. Its `retry_after` may have any value.
#[track_caller]
fn waited(rejection: &Rejection) -> Duration {
    let Rejection::WaitedTooLong(too_long) = rejection else { panic!("{rejection:?}") };
    too_long.waited()
}

#[tokio::test(start_paused = true)]
async fn with_a_clock_that_stands_still_calls_enter_and_leave_and_the_pace_is_kept() {
    let (queue, mut permits) = full(patient(1, 1000));
    let mut waiting: Vec<_> = (0..1000).map(|_| waiter(&queue)).collect();
    assert_eq!(order(permits.remove(0), &mut waiting).len(), 1000);
    let readings = queue.readings();
    assert_eq!((readings.expected_wait, readings.oldest_age), (Some(Duration::ZERO), Duration::ZERO));

    let paced = patient(10, 10).pace(1000, secs(1)).build().unwrap();
    assert_eq!(std::iter::from_fn(|| paced.try_acquire()).take(100).count(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_instant_before_the_latest_one_counts_as_the_latest() {
    let (queue, permits) = full(patient(1, 10));
    let begin = Instant::now();
    let [mut first, second] = waiters(&queue);
    advance(secs(10)).await;
    assert_eq!(queue.readings_at(begin).oldest_age, Duration::ZERO);
    assert!(served(&mut first).is_none());
    assert_eq!(queue.readings_at(begin).oldest_age, secs(10));
    assert_eq!(queue.readings_at(begin - HOUR).oldest_age, secs(10));
    drop(permits);
    drop(served(&mut first));
    assert_eq!(second.wakes(), 1);
    drop(second);
    assert_free(&queue);
}

#[tokio::test(start_paused = true)]
async fn a_reading_at_a_future_instant_changes_nothing() {
    let (queue, _permits) = full(Queue::builder(1, 10));
    let mut before = waiter(&queue);
    assert_eq!(queue.readings_at(Instant::now() + HOUR).oldest_age, HOUR);
    let mut after = waiter(&queue);
    advance(ms(999)).await;
    assert!(served(&mut before).is_none() && served(&mut after).is_none());
    advance(ms(1)).await;
    assert_eq!((refused(&mut before), refused(&mut after)), (too_long(secs(1)), too_long(secs(1))));
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_jumps_ahead_refuses_late_calls_and_admits_no_burst() {
    let queue = Queue::builder(10, 10).discipline(Discipline::fifo()).pace(10, secs(1)).build().unwrap();
    drop(queue.try_acquire().unwrap());
    let mut waiting: [_; 3] = waiters(&queue);
    advance(100 * LONGEST).await;
    assert_eq!(waited(&refused(&mut waiting[2])), 100 * LONGEST);
    assert!(waiting.iter_mut().take(2).all(|waiter| waited(&refused(waiter)) == 100 * LONGEST));
    assert!(queue.try_acquire().is_some() && queue.try_acquire().is_none());
}

#[tokio::test(start_paused = true)]
async fn the_longest_wait_and_the_slowest_pace_are_366_days_and_are_kept() {
    let queue = patient(2, usize::MAX).max_wait(LONGEST).pace(1, LONGEST).build().unwrap();
    let stopwatch = Stopwatch::start();
    drop(queue.acquire().await.unwrap());
    // The time to wait of both waiters ends at the instant at which the pace would admit the first.
    let [mut first, mut second] = waiters(&queue);
    advance(LONGEST - ms(1)).await;
    assert!(served(&mut first).is_none() && served(&mut second).is_none());
    advance(ms(1)).await;
    assert_eq!((stopwatch.read(), waited(&refused(&mut first))), (LONGEST, LONGEST));
    assert_eq!(waited(&refused(&mut second)), LONGEST);
    assert!(queue.try_acquire().is_some() && queue.try_acquire().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_pace_of_one_per_nanosecond_delays_no_call() {
    for (calls, period) in [(1, NANO), (1_000_000_000, secs(1)), (LONGEST.as_nanos() as u64, LONGEST)] {
        let queue = patient(100_000, usize::MAX).pace(calls, period).build().unwrap();
        advance(secs(1)).await;
        let permits: Vec<_> = std::iter::from_fn(|| queue.try_acquire()).collect();
        assert_eq!(permits.len(), 100_000);
    }
}

#[tokio::test(start_paused = true)]
async fn the_largest_settings_do_not_overflow() {
    let (queue, mut permits) = full(
        Queue::builder(1, usize::MAX)
            .max_weight(u64::MAX)
            .max_wait(LONGEST)
            .discipline(Discipline::adaptive_with(LONGEST - NANO, LONGEST))
            .by_criticality(),
    );
    let (mut waiter, answer) = comes_with(&queue, within(50 * LONGEST), u64::MAX);
    assert!(answer.is_pending());
    advance(LONGEST - ms(1)).await;
    assert!(served(&mut waiter).is_none());
    permits.clear();
    drop(served(&mut waiter).unwrap());
    queue.set_concurrency((1 << 31) - 1).unwrap();
    assert!(queue.try_acquire().is_some());
    assert_eq!((queue.concurrency(), occupancy(&queue)), ((1 << 31) - 1, (0, 0)));
}

#[tokio::test(start_paused = true)]
async fn the_shortest_waits_end() {
    let (queue, _permits) = full(Queue::builder(1, 10).max_wait(NANO).discipline(Discipline::by_deadline(1e-6)));
    let mut waiter = waiter(&queue);
    advance(ms(1)).await;
    assert_eq!((waiter.wakes(), refused(&mut waiter)), (1, too_long(ms(1))));
    // A millionth of 100 ns is rounded to zero, so the call may not wait.
    assert!(comes_with(&queue, within(100 * NANO), 1).1.is_ready());
    assert!(comes_with(&queue, CallContext::new(), 1).1.is_pending());
}

#[tokio::test(start_paused = true)]
async fn a_call_whose_turn_would_come_after_the_last_instant_is_refused() {
    // Finds the longest time by which the clock can advance, by bisection.
    let (now, mut left, mut step) = (Instant::now(), Duration::ZERO, Duration::from_secs(1 << 62));
    while !step.is_zero() {
        let longer = left.checked_add(step).filter(|longer| now.checked_add(*longer).is_some());
        left = longer.unwrap_or(left);
        step /= 2;
    }
    // 2.9 seconds are left. The pace allows a second call after 1.5 seconds, and a third one only after 3 seconds.
    advance(left - Duration::from_millis(2900)).await;
    let pace = (1, Duration::from_millis(1500));
    let builder = Queue::builder(2, 10).max_wait(Duration::from_secs(3600)).discipline(Discipline::fifo());
    let queue = builder.pace(pace.0, pace.1).build().unwrap();
    let held = queue.try_acquire().expect("the first");
    let (mut first, mut second) = (Box::pin(queue.acquire()), Box::pin(queue.acquire()));
    let cx = &mut Context::from_waker(Waker::noop());
    assert!(first.as_mut().poll(cx).is_pending());
    assert!(matches!(second.as_mut().poll(cx), Poll::Ready(Err(Rejection::WaitedTooLong(_)))));
    advance(Duration::from_millis(1500)).await;
    let admitted = first.as_mut().poll(cx);
    assert!(admitted.is_ready());
    assert_eq!(queue.in_service(), 2);
    drop((admitted, held));
    assert_eq!((queue.in_service(), queue.readings().waiting), (0, 0));
}
