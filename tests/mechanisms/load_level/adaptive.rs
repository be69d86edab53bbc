//! The depth of an adaptive queue.

use super::{HOUR, Waiter, assert_free, comes_with, counts, occupancy, refused, served, waiter, within};
use crate::support::{ByHand, ms, secs};
use std::{collections::VecDeque, task::Poll, time::Duration};
use steadfast::{
    Rejection,
    error::{QueueFull, QueueFullCause},
    load_level::{Discipline, Permit, Queue, QueueBuilder},
};
use tokio::time::advance;

/// A queue for one call at a time, with waits of up to 100 ms.
fn adaptive() -> QueueBuilder {
    Queue::adaptive(1).max_wait(ms(100))
}

/// A queue with a call in its service.
struct Busy {
    queue: Queue,
    in_service: Option<Permit>,
    waiting: VecDeque<Waiter>,
}

impl Busy {
    fn new(builder: QueueBuilder) -> Self {
        let queue = builder.build().unwrap();
        let in_service = queue.try_acquire();
        Self { queue, in_service, waiting: VecDeque::new() }
    }

    /// Repeats `calls` times: a call joins the queue, the time `each` passes, and the call in the service ends. The
    /// next waiter then takes its place.
    async fn serve(&mut self, calls: usize, each: Duration) {
        for _ in 0..calls {
            self.waiting.push_back(waiter(&self.queue));
            advance(each).await;
            drop(self.in_service.take());
            while let Some(mut next) = self.waiting.pop_front() {
                if let Poll::Ready(answer) = next.poll() {
                    self.in_service = answer.ok();
                    if self.in_service.is_some() {
                        break;
                    }
                }
            }
        }
    }

    /// Adds calls until one is refused. Returns how many wait then, and the rejection.
    fn fill(&mut self) -> (usize, QueueFull) {
        loop {
            let mut next = ByHand::new(self.queue.acquire());
            match next.poll() {
                Poll::Pending => self.waiting.push_back(next),
                Poll::Ready(Err(Rejection::QueueFull(full))) => return (self.queue.readings().waiting, full),
                Poll::Ready(other) => panic!("{other:?}"),
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_that_would_be_served_too_late_is_refused_at_once() {
    let mut busy = Busy::new(adaptive());
    busy.serve(100, ms(10)).await;
    let readings = busy.queue.readings();
    assert_eq!((readings.depth, readings.max_depth, readings.served_per_second), (11, 10_000, Some(100.0)));
    let (waiting, full) = busy.fill();
    assert_eq!((waiting, full.cause(), full.bound()), (11, QueueFullCause::Deadline, 11));
    assert_eq!(full.retry_after(), Some(ms(120)), "eleven calls, and this one");
    assert_eq!(full.to_string(), "the queue is at its depth limit of 11 for calls with this maximum wait");
    // The eleven waiters are served in time.
    for _ in 0..11 {
        busy.serve_one(ms(9)).await;
    }
    assert_eq!((counts(&busy.queue), occupancy(&busy.queue)), ([1, 0, 0, 0], (1, 0)));
}

impl Busy {
    async fn serve_one(&mut self, after: Duration) {
        advance(after).await;
        drop(self.in_service.take());
        self.in_service = self.waiting.pop_front().and_then(|mut next| served(&mut next));
        assert!(self.in_service.is_some());
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_that_can_wait_less_is_refused_behind_fewer_waiters() {
    let mut busy = Busy::new(adaptive());
    busy.serve(100, ms(10)).await;
    let _waiting: Vec<_> = (0..4).map(|_| waiter(&busy.queue)).collect();
    let answer = |deadline| comes_with(&busy.queue, within(deadline), 1).1;
    assert!(answer(ms(80)).is_pending(), "four are served in 40 ms");
    let Poll::Ready(Err(Rejection::QueueFull(full))) = answer(ms(79)) else { panic!("not refused") };
    assert_eq!((full.cause(), full.bound()), (QueueFullCause::Deadline, 4));
}

#[tokio::test(start_paused = true)]
async fn only_the_waiters_that_are_served_before_a_newcomer_count_against_it() {
    for (discipline, expected) in
        [(Discipline::fifo(), false), (Discipline::earliest_deadline_with(1.0), true), (Discipline::lifo(), true)]
    {
        let mut busy = Busy::new(adaptive().discipline(discipline));
        busy.serve(100, ms(10)).await;
        let _waiting: Vec<_> = (0..8).map(|_| waiter(&busy.queue)).collect();
        let (_, answer) = comes_with(&busy.queue, within(ms(5)), 1);
        assert_eq!(answer.is_pending(), expected, "{discipline}");
    }
}

#[tokio::test(start_paused = true)]
async fn while_the_newest_are_served_first_the_configured_depth_is_the_bound() {
    let mut busy = Busy::new(adaptive().depth(50).discipline(Discipline::lifo()));
    busy.serve(100, ms(10)).await;
    assert_eq!((busy.queue.readings().depth, busy.queue.readings().served_per_second), (50, Some(100.0)));
    let mut waiting: Vec<_> = (0..51).map(|_| waiter(&busy.queue)).collect();
    assert_eq!(busy.queue.readings().waiting, 50);
    let Rejection::QueueFull(full) = refused(&mut waiting[0]) else { panic!("another reason") };
    assert_eq!((full.cause(), full.bound()), (QueueFullCause::Displaced, 50));
}

#[tokio::test(start_paused = true)]
async fn adaptive_lifo_has_the_depth_of_its_interval_until_it_serves_the_newest_first() {
    let discipline = Discipline::adaptive_with(ms(5), ms(50));
    let mut busy = Busy::new(adaptive().depth(50).discipline(discipline));
    for _ in 0..100 {
        // The queue empties after each call.
        busy.serve(1, ms(10)).await;
    }
    assert_eq!(busy.queue.readings().depth, 6, "five in 50 ms, and one more");
    let (waiting, full) = busy.fill();
    assert_eq!((waiting, full.cause(), full.bound()), (6, QueueFullCause::Deadline, 6));
    advance(ms(51)).await;
    assert_eq!(busy.queue.readings().depth, 50, "the queue has not been empty for its interval");
}

#[tokio::test(start_paused = true)]
async fn while_the_rate_is_not_known_the_configured_depth_is_the_bound() {
    let mut busy = Busy::new(adaptive().depth(50));
    busy.serve(11, ms(10)).await;
    let readings = busy.queue.readings();
    assert_eq!(
        (readings.depth, readings.served_per_second),
        (50, None),
        "eleven calls, of which the first only starts the count"
    );
    let (waiting, full) = busy.fill();
    assert_eq!((waiting, full.cause(), full.bound()), (50, QueueFullCause::Depth, 50));
    busy.waiting.clear();
    busy.serve(1, ms(10)).await;
    assert_eq!(busy.queue.readings().depth, 11);
}

#[tokio::test(start_paused = true)]
async fn the_configured_depth_bounds_the_measured_one() {
    let mut busy = Busy::new(adaptive().depth(5));
    busy.serve(100, ms(10)).await;
    assert_eq!((busy.queue.readings().depth, busy.queue.readings().max_depth), (5, 5));
    let (waiting, full) = busy.fill();
    assert_eq!((waiting, full.cause(), full.bound()), (5, QueueFullCause::Depth, 5));
    busy.queue.set_depth(8).unwrap();
    assert_eq!(busy.fill().0, 8);
}

#[tokio::test(start_paused = true)]
async fn an_empty_queue_takes_the_next_call_at_any_rate() {
    let mut busy = Busy::new(adaptive().max_wait(HOUR));
    busy.serve(20, secs(100)).await;
    assert_eq!(busy.queue.readings().served_per_second, Some(0.01));
    busy.queue.set_max_wait(ms(1)).unwrap();
    let (waiting, full) = busy.fill();
    assert_eq!((waiting, full.cause(), full.bound()), (1, QueueFullCause::Deadline, 1));
}

#[tokio::test(start_paused = true)]
async fn a_standstill_of_the_service_restarts_the_rate() {
    let mut busy = Busy::new(adaptive());
    busy.serve(500, ms(10)).await;
    for _ in 0..1_000 {
        // Calls keep coming, and are refused when their time to wait has ended.
        busy.waiting.extend([waiter(&busy.queue)]);
        advance(ms(20)).await;
        busy.waiting.retain_mut(|waiter| waiter.poll().is_pending());
    }
    assert_eq!(busy.queue.readings().depth, 11, "the rate before the standstill");
    // The first call after the standstill ends it, and the rate is measured from then on.
    busy.serve(1, ms(1)).await;
    assert_eq!(busy.queue.readings().served_per_second, None);
    busy.waiting.clear();
    busy.serve(11, ms(10)).await;
    assert_eq!(busy.queue.readings().depth, 11);
}

#[tokio::test(start_paused = true)]
async fn a_standstill_does_not_count_into_the_first_rate() {
    let mut busy = Busy::new(adaptive());
    busy.serve(5, ms(10)).await;
    for _ in 0..1_000 {
        // Calls keep coming, and are refused when their time to wait has ended.
        busy.waiting.extend([waiter(&busy.queue)]);
        advance(ms(20)).await;
        busy.waiting.retain_mut(|waiter| waiter.poll().is_pending());
    }
    busy.serve(1, ms(1)).await;
    busy.waiting.clear();
    busy.serve(7, ms(10)).await;
    let readings = busy.queue.readings();
    assert_eq!((readings.depth, readings.served_per_second), (11, Some(100.0)));
}

#[tokio::test(start_paused = true)]
async fn idle_time_does_not_count_and_a_long_one_discards_the_rate() {
    let mut busy = Busy::new(adaptive());
    busy.serve(50, ms(10)).await;
    busy.waiting.clear();
    advance(secs(9)).await;
    assert_eq!(busy.queue.readings().served_per_second, Some(100.0));
    busy.serve(1, ms(10)).await;
    assert_eq!(busy.queue.readings().served_per_second, Some(100.0));
    advance(secs(11)).await;
    assert_eq!((busy.queue.readings().depth, busy.queue.readings().served_per_second), (10_000, None));
}

#[tokio::test(start_paused = true)]
async fn the_depth_follows_a_change_of_the_service_rate_within_some_hundred_calls() {
    let mut busy = Busy::new(adaptive());
    busy.serve(500, ms(10)).await;
    busy.serve(400, ms(20)).await;
    assert_eq!(busy.queue.readings().depth, 6);
    busy.serve(401, ms(5)).await;
    assert_eq!(busy.queue.readings().depth, 21);
}

#[tokio::test(start_paused = true)]
async fn an_adaptive_queue_survives_a_clock_that_stands_still_or_jumps() {
    let mut busy = Busy::new(adaptive().depth(5));
    busy.serve(1_000, Duration::ZERO).await;
    assert_eq!((busy.queue.readings().depth, busy.queue.readings().served_per_second), (5, None));
    for jump in [secs(1), 24 * HOUR, 1_000 * 366 * 24 * HOUR] {
        busy.serve(50, ms(10)).await;
        advance(jump.min(300 * 366 * 24 * HOUR)).await;
        let mut next = waiter(&busy.queue);
        drop(busy.in_service.take());
        busy.in_service = served(&mut next);
        assert!(busy.in_service.is_some());
    }
    let Busy { queue, in_service, waiting } = busy;
    drop((in_service, waiting));
    assert_free(&queue);
}

#[tokio::test(start_paused = true)]
async fn a_new_pace_restarts_the_rate_and_a_new_concurrency_does_not() {
    let mut busy = Busy::new(adaptive());
    busy.serve(50, ms(10)).await;
    busy.queue.set_concurrency(1).unwrap();
    assert_eq!(busy.queue.readings().depth, 11);
    busy.queue.set_pace(Some((1, ms(1)))).unwrap();
    assert_eq!(busy.queue.readings().depth, 10_000);
}

#[tokio::test(start_paused = true)]
async fn in_an_adaptive_queue_a_late_waiter_makes_room_for_a_newcomer() {
    let mut busy = Busy::new(adaptive());
    busy.serve(100, ms(10)).await;
    busy.fill();
    advance(ms(100)).await;
    let _new = waiter(&busy.queue);
    assert!(refused(&mut busy.waiting[0]).to_string().contains("waited for 100 ms"));
}

#[test]
fn a_depth_of_zero_is_refused_by_its_name() {
    assert_eq!(Queue::adaptive(1).depth(0).build().unwrap_err().field(), "load_level.depth");
    assert_eq!(Queue::adaptive(0).build().unwrap_err().field(), "load_level.concurrency");
}
