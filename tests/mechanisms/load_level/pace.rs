//! The pace at which calls begin.

use super::{HOUR, LONGEST, assert_free, counts, full, occupancy, order, patient, served, waiter, waiters};
use crate::support::{Act, Backend, ByHand, Counted, Stopwatch, ms, secs};
use futures::future::join_all;
use rand::{RngExt, SeedableRng, rngs::SmallRng};
use std::{
    sync::{Arc, Mutex},
    time::Duration,
};
use steadfast::load_level::{Discipline, LoadLevelLayer, Queue};
use tokio::{
    spawn,
    time::{advance, sleep},
};
use tower::{Layer, ServiceExt};

/// A queue with this pace, and practically no other limit.
fn paced(calls: u64, period: Duration) -> Queue {
    patient(100_000, 100_000).max_wait(LONGEST).pace(calls, period).build().unwrap()
}

/// Asserts that in every interval of length t at most `1 + (t + 5 ms) * calls / period` calls begin.
#[track_caller]
fn assert_paced(begins: &[Duration], calls: u64, period: Duration) {
    for (first, begin) in begins.iter().enumerate() {
        for (more, end) in begins[first..].iter().enumerate() {
            let (most, nanos) = ((*end - *begin + ms(5)).as_nanos() * u128::from(calls), period.as_nanos());
            assert!(more as u128 * nanos <= most, "{} within {:?} from {begin:?} on", more + 1, *end - *begin);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_long_run_rate_is_the_pace_to_within_a_millisecond() {
    let paces = [(7, secs(3)), (1000, secs(1)), (3, secs(1)), (5000, secs(1)), (1, secs(60)), (999_983, secs(1000))];
    for (calls, period) in paces {
        let queue = paced(calls, period);
        let stopwatch = Stopwatch::start();
        for count in 0..3000_u64 {
            drop(queue.acquire().await.unwrap());
            let due = Duration::from_nanos((u128::from(count) * period.as_nanos()).div_ceil(u128::from(calls)) as u64);
            let late = stopwatch.read().checked_sub(due);
            let late = late.unwrap_or_else(|| panic!("number {count} of {calls} per {period:?} is early"));
            assert!(
                late <= ms(1) + Duration::from_micros(1),
                "{late:?} late: number {count} of {calls} per {period:?}"
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_pace_of_five_thousand_per_second_is_reached_with_millisecond_timers() {
    let queue = paced(5000, secs(1));
    let stopwatch = Stopwatch::start();
    let begins = Arc::new(Mutex::new(Vec::new()));
    let calls = (0..10_000).map(|_| {
        let (queue, begins) = (queue.clone(), begins.clone());
        spawn(async move {
            let (permit, polls) = Counted::new(queue.acquire()).await;
            drop(permit.unwrap());
            begins.lock().unwrap().push(stopwatch.read());
            polls
        })
    });
    let polls: Vec<usize> = join_all(calls.collect::<Vec<_>>()).await.into_iter().map(Result::unwrap).collect();
    let begins = begins.lock().unwrap();
    assert_eq!(begins.last(), Some(&secs(2)), "9999 of 200 us each, to the millisecond");
    assert_paced(&begins[..2000], 5000, secs(1));
    assert!(polls.iter().all(|polls| *polls <= 2), "woken once: {:?}", polls.iter().max());
}

#[tokio::test(start_paused = true)]
async fn calls_catch_up_with_at_most_five_milliseconds_of_an_unused_pace() {
    for (calls, at_once) in [(1, 1), (199, 1), (200, 2), (1000, 6), (5000, 26)] {
        let queue = paced(calls, secs(1));
        for _ in 0..3 {
            advance(HOUR).await;
            assert_eq!(std::iter::from_fn(|| queue.try_acquire()).count(), at_once, "{calls} per second");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn for_any_arrivals_no_more_calls_begin_than_the_pace_allows() {
    let mut random = SmallRng::seed_from_u64(11);
    for (calls, period) in [(100, secs(1)), (1000, secs(1)), (3, ms(7))] {
        let queue = paced(calls, period);
        let stopwatch = Stopwatch::start();
        let mut begins = Vec::new();
        for _ in 0..300 {
            advance(Duration::from_micros(random.random_range(0..3 * period.as_micros() as u64 / calls))).await;
            let come = random.random_range(0..4);
            begins.extend(std::iter::from_fn(|| queue.try_acquire()).take(come).map(|_| stopwatch.read()));
            if random.random_range(0..10) == 0 {
                advance(secs(1)).await;
            }
        }
        assert!(begins.len() > 100);
        assert_paced(&begins, calls, period);
    }
}

#[tokio::test(start_paused = true)]
async fn a_waiter_dropped_after_its_turn_passes_its_start_time_of_the_pace_to_the_next() {
    let queue = paced(1, secs(1));
    drop(queue.try_acquire().unwrap());
    let [first, second, mut third] = waiters(&queue);
    advance(secs(1)).await;
    assert!(served(&mut third).is_none());
    assert_eq!(occupancy(&queue), (1, 2), "the first was admitted when another waiter polled");
    drop(first);
    assert_eq!((second.wakes(), occupancy(&queue)), (1, (1, 1)));
    drop(second);
    assert_eq!((third.wakes(), occupancy(&queue)), (1, (1, 0)));
    let _began = served(&mut third).unwrap();
    assert!(queue.try_acquire().is_none(), "one has begun, and took its start time");
    assert_eq!(counts(&queue), [0; 4]);
}

#[tokio::test(start_paused = true)]
async fn the_next_waiter_is_woken_when_a_slower_pace_allows_it_and_not_before() {
    let queue = paced(1, secs(1));
    let _first = queue.try_acquire().unwrap();
    let mut second = waiter(&queue);
    queue.set_pace(Some((1, secs(2)))).unwrap();
    advance(secs(1)).await;
    assert!(served(&mut second).is_none());
    let wakes = second.wakes();
    advance(ms(900)).await;
    assert_eq!(second.wakes(), wakes);
    advance(ms(100)).await;
    assert_eq!(second.wakes(), wakes + 1);
    assert!(served(&mut second).is_some());
}

#[tokio::test(start_paused = true)]
async fn only_a_call_that_did_not_reach_the_service_returns_its_start_time_of_the_pace() {
    let queue = paced(1, secs(1000));
    let backend = Backend::always(Act::answer(200)).ready_for(0);
    let service = LoadLevelLayer::new(queue.clone()).typed_error().layer(backend.clone());
    let blocked = ByHand::pending(service.clone().oneshot(()));
    let mut next = ByHand::pending(service.clone().oneshot(()));
    drop(blocked);
    assert_eq!(next.wakes(), 1);
    assert!(next.poll().is_pending());
    assert_eq!((backend.calls(), occupancy(&queue)), (0, (1, 0)), "it waits for readiness now");
    backend.set_ready_for(9);
    assert_eq!(next.poll(), std::task::Poll::Ready(Ok(200)));
    let spent = ByHand::pending(service.clone().oneshot(()));
    assert_eq!((backend.calls(), occupancy(&queue)), (1, (0, 1)));
    drop(spent);
    assert_eq!(occupancy(&queue), (0, 0));
    assert!(queue.try_acquire().is_none());
}

#[tokio::test(start_paused = true)]
async fn the_slower_of_the_service_and_the_pace_sets_the_throughput() {
    for (work, calls, took) in [(ms(30), 1000, ms(30 * 50)), (ms(5), 100, ms(10 * 99 + 5))] {
        let queue = patient(2, 1000).pace(calls, secs(1)).build().unwrap();
        let stopwatch = Stopwatch::start();
        let calls: Vec<_> = (0..100)
            .map(|_| {
                let queue = queue.clone();
                spawn(async move {
                    let (permit, polls) = Counted::new(queue.acquire()).await;
                    sleep(work).await;
                    drop(permit.unwrap());
                    polls
                })
            })
            .collect();
        let polls: Vec<_> = join_all(calls).await.into_iter().map(Result::unwrap).collect();
        let late = stopwatch.read().checked_sub(took).expect("not faster than the slower of the two");
        assert!(late <= ms(2), "{late:?} late");
        assert!(polls.iter().all(|polls| *polls <= 3), "woken at most twice: {:?}", polls.iter().max());
    }
}

#[tokio::test(start_paused = true)]
async fn with_a_pace_each_waiter_is_served_in_time_after_another_leaves_with_at_most_two_wake_ups() {
    for goes in 0..4 {
        let queue = paced(10, secs(1));
        let stopwatch = Stopwatch::start();
        drop(queue.try_acquire().unwrap());
        let mut waiting: Vec<_> = waiters::<5>(&queue).into_iter().collect();
        drop(waiting.remove(goes));
        for (number, waiter) in waiting.iter_mut().enumerate() {
            let mut permit = None;
            while permit.is_none() {
                let woken = waiter.wakes();
                permit = served(waiter);
                while permit.is_none() && waiter.wakes() == woken {
                    advance(ms(1)).await;
                }
            }
            assert_eq!(stopwatch.read(), ms(100 * (number as u64 + 1)), "number {goes} went");
            assert!(waiter.wakes() <= 2, "woken {} times", waiter.wakes());
        }
    }
}

#[tokio::test(start_paused = true)]
async fn with_a_pace_the_discipline_orders_the_waiters_too() {
    let queue = patient(1, 10).discipline(Discipline::lifo()).pace(10, secs(1)).build().unwrap();
    let permit = queue.try_acquire().unwrap();
    let [first, second] = waiters(&queue);
    drop(permit);
    assert_eq!((first.wakes(), second.wakes()), (0, 1), "the next waiter has the timer");
    let mut waiting = [first, second];
    assert!(served(&mut waiting[1]).is_none());
    advance(ms(100)).await;
    let permit = served(&mut waiting[1]).unwrap();
    let mut newest = waiter(&queue);
    advance(ms(100)).await;
    drop(permit);
    assert_eq!(waiting[0].wakes(), 0);
    assert!(served(&mut newest).is_some());
}

#[tokio::test(start_paused = true)]
async fn a_new_pace_applies_to_waiters_at_once() {
    let queue = paced(1, HOUR);
    drop(queue.try_acquire().unwrap());
    let [mut first, mut second] = waiters(&queue);
    advance(secs(1)).await;
    queue.set_pace(Some((1, secs(1)))).unwrap();
    assert_eq!(occupancy(&queue), (1, 1), "a new pace begins with one");
    drop(served(&mut first));
    advance(ms(999)).await;
    assert!(served(&mut second).is_none());
    advance(ms(1)).await;
    assert!(second.wakes() <= 2);
    drop(served(&mut second).unwrap());

    let mut waiting: [_; 3] = waiters(&queue);
    queue.set_pace(None).unwrap();
    assert_eq!(waiting.each_ref().map(ByHand::wakes), [1, 1, 1]);
    assert!(waiting.iter_mut().all(|waiter| served(waiter).is_some()));
    let permits: Vec<_> = (0..10).map(|_| queue.try_acquire().unwrap()).collect();
    queue.set_pace(Some((1, HOUR))).unwrap();
    drop(permits);
    assert!(queue.try_acquire().is_some() && queue.try_acquire().is_none());
}

#[tokio::test(start_paused = true)]
async fn removing_the_pace_leaves_a_queue_without_one() {
    let (queue, mut permits) = full(patient(2, 10).pace(1000, secs(1)));
    assert_eq!(permits.len(), 1);
    queue.set_pace(None).unwrap();
    permits.extend(queue.try_acquire());
    let mut waiting: [_; 3] = waiters(&queue);
    permits.pop();
    assert_eq!(order(permits.remove(0), &mut waiting[1..]).len(), 2);
    drop(served(&mut waiting[0]));
    assert_free(&queue);
}

#[tokio::test(start_paused = true)]
async fn with_a_pace_a_next_waiter_that_is_not_polled_delays_the_others_until_a_call_comes_or_ends() {
    for a_call_comes in [true, false] {
        let queue = patient(2, 10).pace(10, secs(1)).build().unwrap();
        let first = queue.try_acquire().unwrap();
        advance(ms(100)).await;
        let last = queue.try_acquire().unwrap();
        let [idle, mut second] = waiters(&queue);
        drop(first);
        advance(secs(1)).await;
        assert_eq!((idle.wakes(), second.wakes(), occupancy(&queue)), (1, 0, (1, 2)));
        if a_call_comes {
            drop(waiter(&queue));
        }
        drop(last);
        assert_eq!((second.wakes(), occupancy(&queue)), (1, (1, 1)), "the turn of the unpolled waiter has come");
        assert!(served(&mut second).is_none());
        advance(ms(100)).await;
        assert!(served(&mut second).is_some());
        drop(idle);
        assert_free(&{
            queue.set_pace(None).unwrap();
            queue
        });
    }
}

#[tokio::test(start_paused = true)]
async fn calls_dropped_long_after_their_turn_return_no_burst_of_start_times() {
    let queue = paced(10, secs(1));
    let mut late = Vec::new();
    for _ in 0..10 {
        late.push(queue.acquire());
    }
    let mut late: Vec<_> = late.into_iter().map(ByHand::new).collect();
    drop(queue.try_acquire().unwrap());
    assert!(late.iter_mut().all(|waiter| waiter.poll().is_pending()));
    for _ in 0..10 {
        advance(ms(100)).await;
        // Admits the waiters whose turn has come, without polling any of them.
        queue.set_depth(1000).unwrap();
        assert!(queue.try_acquire().is_none());
    }
    assert_eq!(occupancy(&queue), (10, 0));
    let mut waiting: [_; 10] = waiters(&queue);
    advance(ms(100)).await;
    drop(late);
    let began = waiting.iter_mut().filter_map(served).count();
    assert_eq!(began, 1, "at most one in 100 ms");
}

#[tokio::test(start_paused = true)]
async fn setting_a_pace_repeatedly_admits_no_more_calls() {
    let queue = paced(1, secs(1));
    let mut begun = 0;
    for _ in 0..100 {
        queue.set_pace(Some((1, secs(1)))).unwrap();
        begun += usize::from(queue.try_acquire().is_some());
        advance(ms(10)).await;
    }
    assert_eq!(begun, 1, "within a second");
}
