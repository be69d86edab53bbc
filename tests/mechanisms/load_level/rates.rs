//! The expected wait, the drain time and the desired concurrency.

use super::{Waiter, full, patient, served, waiter};
use crate::support::{ByHand, ms, secs};
use std::{collections::VecDeque, time::Duration};
use steadfast::load_level::{DrainTime, Permit, Queue, Readings};
use tokio::time::advance;

/// A queue whose service takes one waiter every 10 ms.
struct Served {
    queue: Queue,
    permit: Option<Permit>,
    waiting: VecDeque<Waiter>,
}

impl Served {
    /// A service of one place, with `backlog` waiters.
    fn with_backlog(backlog: usize) -> Self {
        let (queue, mut permits) = full(patient(1, 100_000));
        let waiting = (0..backlog).map(|_| waiter(&queue)).collect();
        Self { queue, permit: permits.pop(), waiting }
    }

    /// Runs `steps` steps. In each, `come` calls arrive and one waiter is served, if there is one.
    async fn steps(&mut self, steps: usize, come: usize) -> Readings {
        for _ in 0..steps {
            advance(ms(10)).await;
            self.waiting.extend((0..come).map(|_| ByHand::new(self.queue.acquire())).map(|mut newcomer| {
                assert!(newcomer.poll().is_pending());
                newcomer
            }));
            self.permit = None;
            self.permit = self.waiting.pop_front().and_then(|mut next| served(&mut next));
        }
        self.queue.readings()
    }
}

/// Asserts a difference of at most a fiftieth.
#[track_caller]
fn assert_about(actual: Duration, expected: Duration) {
    assert!(actual.abs_diff(expected) <= expected / 50, "{actual:?}, not about {expected:?}");
}

#[track_caller]
fn assert_drains_in_about(drain_time: DrainTime, expected: Duration) {
    let DrainTime::In(time) = drain_time else { panic!("{drain_time:?}") };
    assert_about(time, expected);
}

#[tokio::test(start_paused = true)]
async fn the_drain_time_of_a_backlog_without_arrivals_is_the_time_to_serve_it() {
    let mut service = Served::with_backlog(2000);
    let readings = service.steps(100, 0).await;
    assert_eq!((readings.waiting, readings.drain_time), (1900, DrainTime::Never), "it grew within the window");
    assert_about(readings.expected_wait.unwrap(), ms(19_010));
    let readings = service.steps(1000, 0).await;
    assert_about(readings.expected_wait.unwrap(), ms(9010));
    assert_drains_in_about(readings.drain_time, secs(9));
    let readings = service.steps(900, 0).await;
    assert_eq!((readings.waiting, readings.drain_time), (0, DrainTime::In(Duration::ZERO)));
}

#[tokio::test(start_paused = true)]
async fn a_growing_backlog_never_drains_and_raises_the_desired_concurrency() {
    let mut service = Served::with_backlog(1);
    let readings = service.steps(1000, 2).await;
    assert_eq!((readings.waiting, readings.drain_time), (1001, DrainTime::Never));
    assert_about(readings.expected_wait.unwrap(), ms(10_020));
    // One place serves 100 calls per second. The 200 arrivals per second need two places. Serving the 1001 waiters in
    // ten seconds needs 1.001 more. The sum is rounded up.
    assert_eq!(readings.desired_concurrency, 4);
}

#[tokio::test(start_paused = true)]
async fn the_drain_time_follows_from_how_fast_the_backlog_shrinks() {
    let mut service = Served::with_backlog(1);
    service.steps(1000, 2).await;
    // A hundred calls are served per second, and fifty arrive.
    for _ in 0..600 {
        service.steps(1, 0).await;
        service.steps(1, 1).await;
        if service.waiting.len() < 450 {
            break;
        }
    }
    let readings = service.queue.readings();
    assert_drains_in_about(readings.drain_time, Duration::from_millis(readings.waiting as u64 * 20));
    assert_eq!(readings.desired_concurrency, 1, "45 per second of the backlog and 50 arrivals, of 100");
}

#[tokio::test(start_paused = true)]
async fn the_rates_of_the_previous_backlog_count_until_those_of_the_next_are_known() {
    let mut service = Served::with_backlog(100);
    service.steps(101, 0).await;
    assert!(service.permit.is_none());
    advance(secs(3600)).await;
    service.permit = service.queue.try_acquire();
    assert_about(service.queue.readings().expected_wait.unwrap(), ms(10));
    service.waiting.extend((0..9).map(|_| waiter(&service.queue)));
    assert_about(service.queue.readings().expected_wait.unwrap(), ms(100));
}

#[tokio::test(start_paused = true)]
async fn too_few_departures_or_too_short_a_backlog_give_no_rate() {
    let mut service = Served::with_backlog(1000);
    let readings = service.steps(9, 0).await;
    assert_eq!((readings.expected_wait, readings.drain_time), (None, DrainTime::Unknown));
    assert!(service.steps(1, 0).await.expected_wait.is_some());

    let (queue, mut permits) = full(patient(1, 1000));
    let mut waiting: Vec<_> = (0..100).map(|_| waiter(&queue)).collect();
    permits.clear();
    for waiter in &mut waiting[..20] {
        drop(served(waiter));
    }
    advance(ms(49)).await;
    assert_eq!(queue.readings().expected_wait, None);
    advance(ms(1)).await;
    assert!(queue.readings().expected_wait.is_some());
}

#[tokio::test(start_paused = true)]
async fn waiters_that_leave_shorten_the_expected_wait_but_not_the_service_rate() {
    let (queue, _permits) = full(patient(1, 10_000));
    let mut waiting: VecDeque<_> = (0..2000).map(|_| waiter(&queue)).collect();
    for _ in 0..1100 {
        advance(ms(10)).await;
        waiting.pop_front();
    }
    let readings = queue.readings();
    assert_about(readings.expected_wait.unwrap(), ms(9010));
    assert_drains_in_about(readings.drain_time, secs(9));
    assert_eq!(readings.desired_concurrency, 1, "the capacity of a service that serves no call is not known");
}

#[tokio::test(start_paused = true)]
async fn without_waiters_the_desired_concurrency_is_the_calls_in_the_service() {
    let queue = patient(100, 10).build().unwrap();
    let permits: Vec<_> = (0..42).map(|_| queue.try_acquire().unwrap()).collect();
    assert_eq!(queue.readings().desired_concurrency, 42);
    drop(permits);
    assert_eq!(queue.readings().desired_concurrency, 1);
}

#[tokio::test(start_paused = true)]
async fn after_a_standstill_of_ten_seconds_the_old_rates_do_not_count() {
    let mut service = Served::with_backlog(100);
    service.steps(101, 0).await;
    service.permit = service.queue.try_acquire();
    service.waiting.extend((0..50).map(|_| waiter(&service.queue)));
    advance(secs(9)).await;
    assert!(service.queue.readings().expected_wait.is_some());
    advance(secs(1)).await;
    let readings = service.queue.readings();
    assert_eq!((readings.expected_wait, readings.drain_time), (None, DrainTime::Never));
}

#[tokio::test(start_paused = true)]
async fn the_rate_of_a_slow_service_is_known_after_ten_seconds() {
    let (queue, mut permits) = full(patient(1, 1000));
    let mut waiting: VecDeque<_> = (0..100).map(|_| waiter(&queue)).collect();
    let mut permit = permits.pop();
    for _ in 0..10 {
        // One call every two seconds, with arrivals in between.
        for _ in 0..20 {
            advance(ms(100)).await;
            assert!(queue.try_acquire().is_none());
        }
        permit.take();
        permit = served(&mut waiting.pop_front().unwrap());
    }
    let readings = queue.readings();
    // In the last ten seconds, five or six calls were served. At this rate 90 waiters and a newcomer take 152 to 182
    // seconds. The 90 waiters alone take a little less.
    let expected = readings.expected_wait.unwrap();
    assert!((secs(151)..=secs(182)).contains(&expected), "{expected:?}");
    assert_drains_in_about(readings.drain_time, expected);
}

#[tokio::test(start_paused = true)]
async fn the_drain_time_does_not_use_the_rates_of_the_previous_backlog() {
    let mut service = Served::with_backlog(100);
    service.steps(101, 0).await;
    service.permit = service.queue.try_acquire();
    service.waiting.extend((0..5).map(|_| waiter(&service.queue)));
    assert_eq!(service.queue.readings().drain_time, DrainTime::Unknown);
}

#[tokio::test(start_paused = true)]
async fn without_waiters_the_expected_wait_is_the_time_until_the_pace_allows_a_call() {
    let queue = patient(10, 10).pace(1, secs(10)).build().unwrap();
    assert_eq!(queue.readings().expected_wait, Some(Duration::ZERO));
    drop(queue.try_acquire().unwrap());
    advance(secs(3)).await;
    assert_eq!(queue.readings().expected_wait, Some(secs(7)));
}

#[tokio::test(start_paused = true)]
async fn the_retry_after_of_a_refusal_is_the_time_to_serve_the_waiters_not_until_they_leave() {
    let (queue, mut permits) = full(patient(1, 40));
    let mut waiting: VecDeque<_> = (0..40).map(|_| waiter(&queue)).collect();
    let mut permit = permits.pop();
    // Each second ten waiters are served, ten waiters are dropped, and twenty calls join.
    for _ in 0..20 {
        advance(ms(100)).await;
        permit.take();
        permit = served(&mut waiting.pop_front().unwrap());
        waiting.pop_front();
        waiting.extend((0..2).map(|_| waiter(&queue)));
    }
    assert_about(queue.readings().expected_wait.unwrap(), ms(2050));
    assert_about(super::refused_at_once(&queue).retry_after().unwrap(), ms(4100));
    drop(permit);
}

#[tokio::test(start_paused = true)]
async fn a_change_of_the_concurrency_or_the_pace_restarts_the_rates() {
    let mut service = Served::with_backlog(1);
    let readings = service.steps(200, 2).await;
    assert!(readings.desired_concurrency > 2);
    service.queue.set_concurrency(2).unwrap();
    let readings = service.queue.readings();
    assert_eq!((readings.desired_concurrency, readings.drain_time), (2, DrainTime::Unknown));
    let readings = service.steps(200, 2).await;
    assert_ne!(readings.drain_time, DrainTime::Unknown);
    service.queue.set_pace(Some((100, secs(1)))).unwrap();
    assert_eq!(service.queue.readings().drain_time, DrainTime::Unknown);
}

#[tokio::test(start_paused = true)]
async fn while_the_pace_delays_calls_no_more_concurrency_is_desired() {
    let queue = patient(8, 1000).pace(10, secs(1)).build().unwrap();
    let mut waiting: VecDeque<_> = std::iter::from_fn(|| Some(ByHand::new(queue.acquire()))).take(100).collect();
    let first = waiting.pop_front().unwrap().poll();
    waiting.iter_mut().for_each(|waiter| assert!(waiter.poll().is_pending()));
    for _ in 0..20 {
        advance(ms(100)).await;
        drop(waiting.pop_front().unwrap().poll());
    }
    let readings = queue.readings();
    assert_eq!((readings.in_service, readings.waiting, readings.desired_concurrency), (1, 79, 1));
    drop(first);
}
