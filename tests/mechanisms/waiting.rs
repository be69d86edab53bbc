//! The waiters of a token bucket: in which order they are served, when, and how often they are woken.

use crate::support::{Act, Backend, ByHand, Counted, Stopwatch, ms, secs};
use futures::future::join_all;
use rand::{RngExt, SeedableRng, rngs::SmallRng};
use std::{
    cell::RefCell,
    pin::{Pin, pin},
    sync::{Arc, Mutex, mpsc},
    task::{Context, Poll, RawWaker, RawWakerVTable, Wake, Waker},
    thread,
    time::Duration,
};
use steadfast::{
    CallContext,
    error::RateLimited,
    rate_limit::{Acquire, InLine, Quota, RateLimit, RateLimitStage, TokenBucket},
    shell::{Abandonment, Callee, Frame, Leaf, Stage},
};
use tokio::{
    runtime, spawn,
    time::{Instant, advance, sleep, timeout},
};
use tower::Service;

const HOUR: Duration = Duration::from_secs(60 * 60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const YEAR: Duration = Duration::from_secs(366 * 24 * 60 * 60);

/// An empty bucket that mints `count` tokens in `period`, holds a `burst`, and lets calls wait for up to a year.
fn empty(count: u64, period: Duration, burst: u64) -> TokenBucket {
    let bucket = TokenBucket::builder(count, period).burst(burst).max_wait(YEAR).build().unwrap();
    bucket.try_acquire(burst).unwrap();
    bucket
}

/// An empty bucket that mints a token every 10 ms and holds one.
fn a_hundred_per_second() -> TokenBucket {
    empty(100, secs(1), 1)
}

/// A call that waits in the queue of this bucket.
#[track_caller]
fn waiter(bucket: &TokenBucket, tokens: u64) -> ByHand<Acquire> {
    ByHand::pending(bucket.acquire(tokens))
}

fn waiters<const N: usize>(bucket: &TokenBucket) -> [ByHand<Acquire>; N] {
    [(); N].map(|()| waiter(bucket, 1))
}

fn served(waiter: &mut ByHand<Acquire>) -> bool {
    match waiter.poll() {
        Poll::Ready(answer) => {
            assert_eq!(answer, Ok(()));
            true
        }
        Poll::Pending => false,
    }
}

fn wait_of(refused: Result<(), RateLimited>) -> Option<Duration> {
    refused.unwrap_err().retry_after()
}

// In order, at the right instant, with one wake-up.

#[tokio::test(start_paused = true)]
async fn a_thousand_waiters_are_served_in_order_each_at_its_instant_and_woken_once() {
    let bucket = a_hundred_per_second();
    let stopwatch = Stopwatch::start();
    let served = Arc::new(Mutex::new(Vec::new()));
    let tasks = (0..1000).map(|n| {
        let (bucket, served) = (bucket.clone(), served.clone());
        spawn(async move {
            let (answer, polls) = Counted::new(bucket.acquire(1)).await;
            assert_eq!(answer, Ok(()));
            served.lock().unwrap().push((n, stopwatch.read()));
            polls
        })
    });
    let polls: Vec<usize> = join_all(tasks.collect::<Vec<_>>()).await.into_iter().map(Result::unwrap).collect();
    assert_eq!(polls, [2; 1000], "one poll to take the place, and one at the turn");
    let expected: Vec<_> = (0..1000).map(|n| (n, ms(10 * (n + 1)))).collect();
    assert_eq!(*served.lock().unwrap(), expected);
}

#[tokio::test(start_paused = true)]
async fn a_thousand_waiters_of_different_costs_are_served_once_their_tokens_and_those_ahead_are_minted() {
    let bucket = empty(1000, secs(1), 7);
    let stopwatch = Stopwatch::start();
    let mut random = SmallRng::seed_from_u64(1);
    let mut minted = 0;
    let waiting = (0..1000).map(|_| {
        let tokens = random.random_range(1..=7);
        minted += tokens;
        let (bucket, due) = (bucket.clone(), ms(minted));
        spawn(async move {
            let (answer, polls) = Counted::new(bucket.acquire(tokens)).await;
            assert_eq!((answer, polls, stopwatch.read()), (Ok(()), 2, due));
        })
    });
    for task in waiting.collect::<Vec<_>>() {
        task.await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_cheap_call_does_not_overtake_an_expensive_one() {
    let bucket = empty(100, secs(1), 5);
    let (mut much, mut little) = (waiter(&bucket, 5), waiter(&bucket, 1));
    advance(ms(49)).await;
    assert!(!served(&mut little) && !served(&mut much), "four tokens are not five");
    assert_eq!(bucket.available_at(Instant::now()), 4);
    advance(ms(1)).await;
    assert!(!served(&mut little) && served(&mut much));
    advance(ms(10)).await;
    assert!(served(&mut little));
}

#[tokio::test(start_paused = true)]
async fn the_waker_of_the_latest_poll_is_woken() {
    let bucket = a_hundred_per_second();
    let mut waiter = waiter(&bucket, 1);
    let old = waiter.change_waker();
    assert!(!served(&mut waiter));
    advance(ms(10)).await;
    assert_eq!((old(), waiter.wakes()), (0, 1));
    assert!(served(&mut waiter));
}

#[tokio::test(start_paused = true)]
async fn a_poll_without_a_wake_up_keeps_the_place() {
    let bucket = a_hundred_per_second();
    let [mut first, mut second] = waiters(&bucket);
    for _ in 0..9 {
        advance(ms(1)).await;
        assert!(!served(&mut second) && !served(&mut first));
    }
    assert_eq!((first.wakes(), second.wakes(), bucket.waiting()), (0, 0, 2));
    advance(ms(1)).await;
    assert!(served(&mut first) && !served(&mut second));
    assert_eq!((first.wakes(), second.wakes(), bucket.waiting()), (1, 0, 1));
}

// Waiters that give up.

#[tokio::test(start_paused = true)]
async fn waiters_move_up_when_a_waiter_ahead_gives_up() {
    for gives_up in 0..4 {
        let bucket = a_hundred_per_second();
        let stopwatch = Stopwatch::start();
        let mut waiting: Vec<_> = waiters::<5>(&bucket).into_iter().collect();
        drop(waiting.remove(gives_up));
        assert_eq!(bucket.waiting(), 4);
        for (n, waiter) in waiting.iter_mut().enumerate() {
            // Each waiter is polled when it is woken. None relies on a poll of another.
            while !served(waiter) {
                let woken = waiter.wakes();
                while waiter.wakes() == woken {
                    advance(ms(1)).await;
                }
            }
            assert_eq!(stopwatch.read(), ms(10 * (n as u64 + 1)), "number {gives_up} gave up");
            assert!(waiter.wakes() <= 2, "woken {} times", waiter.wakes());
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_second_waiter_is_woken_at_once_for_its_earlier_turn_when_the_first_gives_up() {
    let bucket = empty(100, secs(1), 10);
    let (first, mut second) = (waiter(&bucket, 10), waiter(&bucket, 5));
    advance(ms(20)).await;
    drop(first);
    // The turn of the second waiter moves from 150 ms to 50 ms. Its task has to be woken now, to set another timer.
    assert_eq!(second.wakes(), 1);
    assert!(!served(&mut second));
    advance(ms(30)).await;
    assert!(served(&mut second));
}

#[tokio::test(start_paused = true)]
async fn when_every_other_waiter_of_a_thousand_gives_up_the_rest_is_served_in_order_without_a_gap() {
    let bucket = a_hundred_per_second();
    let stopwatch = Stopwatch::start();
    let mut random = SmallRng::seed_from_u64(7);
    let served = Arc::new(Mutex::new(Vec::new()));
    let tasks: Vec<_> = (0..1000u32)
        .map(|n| {
            // Half of the waiters give up, at any time before their turn.
            let patience =
                if n % 2 == 0 { HOUR } else { Duration::from_micros(random.random_range(0..5 * 1000 * u64::from(n))) };
            let (bucket, served) = (bucket.clone(), served.clone());
            spawn(async move {
                let answer = timeout(patience, Counted::new(bucket.acquire(1))).await;
                if let Ok((Ok(()), polls)) = answer {
                    served.lock().unwrap().push((n, stopwatch.read()));
                    assert!(polls <= 3, "{polls} polls");
                }
            })
        })
        .collect();
    join_all(tasks).await;
    let served = served.lock().unwrap();
    assert!(served.is_sorted() && served.len() >= 500, "{served:?}");
    let gaps: Vec<_> = served.windows(2).map(|pair| pair[1].1 - pair[0].1).collect();
    assert_eq!(gaps, vec![ms(10); served.len() - 1]);
}

#[tokio::test(start_paused = true)]
async fn a_waiter_that_gives_up_just_after_it_was_served_gives_its_token_to_the_next() {
    let bucket = a_hundred_per_second();
    let [first, mut second, mut third] = waiters(&bucket);
    advance(ms(10)).await;
    // The poll of the second waiter grants the first its token. The first is not polled.
    assert!(!served(&mut second));
    assert_eq!((first.wakes(), bucket.waiting()), (2, 2), "its timer, and the token");
    drop(first);
    // The second waiter gets the token of the first, and the third moves up.
    assert_eq!((second.wakes(), third.wakes()), (1, 1));
    assert!(served(&mut second) && !served(&mut third));
    assert_eq!(bucket.available_at(Instant::now()), 0);
    advance(ms(10)).await;
    assert!(served(&mut third));
}

#[tokio::test(start_paused = true)]
async fn a_future_dropped_after_any_of_its_polls_leaves_the_bucket_intact() {
    for polls in 0..4 {
        let bucket = TokenBucket::builder(100, secs(1)).burst(3).build().unwrap();
        let before = bucket.reserve(3).unwrap();
        let mut acquire = ByHand::new(bucket.acquire(3));
        for _ in 0..polls {
            assert!(acquire.poll().is_pending());
            advance(ms(5)).await;
        }
        drop(acquire);
        before.commit();
        assert_eq!((bucket.waiting(), bucket.available_at(Instant::now())), (0, polls / 2));
        // No waiter is left, so calls take tokens without the lock again.
        advance(ms(30)).await;
        assert_eq!((0..9).filter(|_| bucket.try_acquire(1).is_ok()).count(), 3);
    }
}

#[tokio::test(start_paused = true)]
async fn a_future_that_is_neither_polled_nor_dropped_costs_its_own_tokens_and_delays_no_waiter() {
    let bucket = a_hundred_per_second();
    let [idle, mut second, mut third] = waiters(&bucket);
    advance(ms(20)).await;
    // The bucket holds one token. It is set aside for the idle waiter, and the second waits for the next token.
    assert!(!served(&mut second));
    advance(ms(10)).await;
    assert!(served(&mut second) && !served(&mut third));
    advance(ms(10)).await;
    assert!(served(&mut third));
    // The idle waiter is no longer in the queue, so other calls do not need the lock.
    assert_eq!(bucket.waiting(), 0);
    advance(ms(10)).await;
    assert_eq!(bucket.try_acquire(1), Ok(()));
    // The token set aside stays with the future. After its drop, any call can take it.
    let mut fourth = waiter(&bucket, 1);
    drop(idle);
    assert!(served(&mut fourth));
}

#[tokio::test(start_paused = true)]
async fn behind_an_idle_future_a_higher_rate_serves_no_waiter_later_than_before() {
    let bucket = empty(1, secs(1), 2);
    let [idle, mut second] = waiters(&bucket);
    bucket.set_quota(Quota::new(100, secs(1)).with_burst(2)).unwrap();
    assert_eq!((idle.wakes(), second.wakes()), (1, 0), "the first one is woken");
    advance(secs(2) - ms(1)).await;
    assert_eq!(second.wakes(), 0);
    advance(ms(1)).await;
    assert_eq!(second.wakes(), 1);
    assert!(served(&mut second));
}

#[tokio::test(start_paused = true)]
async fn a_future_that_was_idle_at_its_turn_is_served_at_once_when_it_is_polled_again() {
    let bucket = a_hundred_per_second();
    let mut idle = waiter(&bucket, 1);
    advance(HOUR).await;
    assert_eq!(wait_of(bucket.try_acquire(1)), Some(ms(10)), "the available token belongs to the waiter");
    assert!(served(&mut idle));
}

// Other calls.

#[tokio::test(start_paused = true)]
async fn try_acquire_is_refused_while_calls_wait_until_all_of_them_are_served() {
    let bucket = empty(100, secs(1), 6);
    let mut waiting = [waiter(&bucket, 2), waiter(&bucket, 3)];
    advance(ms(15)).await;
    assert_eq!(bucket.available_at(Instant::now()), 1);
    assert_eq!(wait_of(bucket.try_acquire(1)), Some(ms(45)));
    assert_eq!(wait_of(bucket.try_acquire(4)), Some(ms(75)));
    assert_eq!(wait_of(bucket.try_acquire(7)), None);
    assert_eq!(bucket.try_acquire(0), Ok(()));
    advance(ms(44)).await;
    // Both waiters are due by now, so their tokens count as taken. But a refusal changes nothing: both still wait.
    assert_eq!(wait_of(bucket.try_acquire(1)), Some(ms(1)));
    assert_eq!(bucket.waiting(), 2);
    advance(ms(1)).await;
    // This call serves both waiters first, although their tasks have not polled.
    assert_eq!(bucket.try_acquire(1), Ok(()));
    assert_eq!(bucket.waiting(), 0);
    assert!(waiting.iter_mut().all(served));
}

#[tokio::test(start_paused = true)]
async fn refunded_tokens_go_to_waiters_at_once() {
    let bucket = empty(1, HOUR, 3);
    let [mut first, mut second, mut third, mut fourth] = waiters(&bucket);
    bucket.refund(2);
    // The third one moves up: it is woken to wait for an earlier time.
    assert_eq!([&first, &second, &third, &fourth].map(ByHand::wakes), [1, 1, 1, 0]);
    assert!(!served(&mut third) && served(&mut second) && served(&mut first));
    advance(HOUR).await;
    assert!(served(&mut third));
    advance(HOUR).await;
    assert!(served(&mut fourth));
}

#[tokio::test(start_paused = true)]
async fn a_dropped_reservation_serves_a_waiter_and_a_committed_one_does_not() {
    let bucket = TokenBucket::builder(1, HOUR).burst(5).max_wait(DAY).build().unwrap();
    let (kept, given_up) = (bucket.reserve(2).unwrap(), bucket.reserve(3).unwrap());
    assert_eq!((kept.tokens(), given_up.tokens()), (2, 3));
    assert_eq!(bucket.reserve(1).unwrap_err().retry_after(), Some(HOUR));
    let mut waiting = [waiter(&bucket, 2), waiter(&bucket, 2)];
    kept.commit();
    assert!(waiting.iter().all(|waiter| waiter.wakes() == 0));
    drop(given_up);
    assert!(waiting.iter_mut().map(served).eq([true, false]));
    advance(HOUR).await;
    assert!(served(&mut waiting[1]), "one token was left, and one was minted");
}

#[tokio::test(start_paused = true)]
async fn a_debt_is_paid_before_waiters_are_served() {
    let bucket = empty(100, secs(1), 3);
    let mut waiter = waiter(&bucket, 1);
    assert_eq!(wait_of(bucket.try_acquire_or_owe_at(3, Instant::now())), Some(ms(40)));
    advance(ms(39)).await;
    assert!(!served(&mut waiter));
    advance(ms(1)).await;
    assert!(served(&mut waiter));
}

#[tokio::test(start_paused = true)]
async fn a_read_for_a_future_instant_serves_no_waiter_and_takes_nothing() {
    let bucket = empty(100, secs(1), 2);
    let [mut first, _second] = waiters(&bucket);
    for later in [ms(10), ms(20), HOUR, YEAR] {
        assert_eq!(bucket.available_at(Instant::now() + later), (later.as_millis() as u64 / 10).min(2));
    }
    assert!(!served(&mut first) && first.wakes() == 0);
    advance(ms(10)).await;
    assert!(served(&mut first));
    assert_eq!(bucket.waiting(), 1);
}

// Calls that would wait too long.

#[tokio::test(start_paused = true)]
async fn a_wait_beyond_max_wait_is_refused_at_once_with_its_length() {
    let bucket = TokenBucket::builder(100, secs(1)).burst(5).max_wait(ms(40)).build().unwrap();
    bucket.try_acquire(5).unwrap();
    let mut waiting = [waiter(&bucket, 1), waiter(&bucket, 3)];
    for (tokens, wait) in [(1, ms(50)), (5, ms(90))] {
        assert_eq!(bucket.acquire(tokens).await.unwrap_err().retry_after(), Some(wait));
    }
    assert_eq!(bucket.acquire(6).await.unwrap_err().retry_after(), None);
    assert_eq!(bucket.acquire(0).await, Ok(()));
    assert_eq!(bucket.waiting(), 2);
    advance(ms(10)).await;
    let mut last = waiter(&bucket, 1);
    advance(ms(40)).await;
    assert!(served(&mut last));
    assert!(waiting.iter_mut().all(served));
}

#[tokio::test(start_paused = true)]
async fn the_longest_wait_is_one_second_by_default() {
    let longest = |count, burst| TokenBucket::builder(count, secs(1)).burst(burst).build().unwrap().max_wait();
    assert_eq!((longest(100, 1), longest(1, 100)), (secs(1), secs(1)));
    let none = TokenBucket::builder(100, secs(1)).max_wait(Duration::ZERO).build().unwrap();
    none.acquire(100).await.unwrap();
    assert_eq!(none.acquire(1).await.unwrap_err().retry_after(), Some(ms(10)));
}

#[tokio::test(start_paused = true)]
async fn a_wait_up_to_the_deadline_or_beyond_is_refused_at_once() {
    let bucket = a_hundred_per_second();
    let now = Instant::now();
    let by = |deadline| CallContext::new().with_deadline(deadline).scope(bucket.acquire(1));
    for deadline in [now - ms(1), now, now + ms(1), now + ms(10)] {
        let refused = by(deadline).await.unwrap_err();
        assert_eq!((refused.retry_after(), bucket.waiting()), (Some(ms(10)), 0));
    }
    assert_eq!(by(now + ms(10) + Duration::from_nanos(1)).await, Ok(()));
    assert_eq!(Instant::now() - now, ms(10));
    // A call that need not wait is admitted despite its deadline.
    advance(ms(10)).await;
    assert_eq!(by(now).await, Ok(()));
}

// Changes of the quota while calls wait.

#[tokio::test(start_paused = true)]
async fn a_higher_rate_serves_all_waiters_earlier() {
    let bucket = empty(1, secs(1), 2);
    let stopwatch = Stopwatch::start();
    let tasks: Vec<_> = (0..50)
        .map(|n| {
            let bucket = bucket.clone();
            spawn(async move {
                let (answer, polls) = Counted::new(bucket.acquire(1)).await;
                assert_eq!(answer, Ok(()));
                // The bucket had half a token when the rate rose to one per 10 ms.
                assert_eq!(stopwatch.read(), ms(500 + 5 + 10 * n));
                assert!(polls <= 3, "{polls} polls");
            })
        })
        .collect();
    sleep(ms(500)).await;
    bucket.set_quota(Quota::new(100, secs(1)).with_burst(2)).unwrap();
    for task in tasks {
        task.await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_lower_rate_serves_all_waiters_later_and_wakes_none_in_vain_twice() {
    let bucket = a_hundred_per_second();
    let stopwatch = Stopwatch::start();
    let tasks: Vec<_> = (0..50)
        .map(|n| {
            let bucket = bucket.clone();
            spawn(async move {
                let (answer, polls) = Counted::new(bucket.acquire(1)).await;
                assert_eq!(answer, Ok(()));
                assert_eq!(stopwatch.read(), ms(5 + 500 + 1000 * n));
                assert!(polls <= 3, "{polls} polls");
            })
        })
        .collect();
    sleep(ms(5)).await;
    bucket.set_quota(Quota::new(1, secs(1))).unwrap();
    assert_eq!(bucket.waiting(), 50);
    for task in tasks {
        task.await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_waiter_that_costs_more_than_a_new_burst_is_refused_at_once_anywhere_in_the_queue() {
    let bucket = empty(100, secs(1), 5);
    let mut waiting = [waiter(&bucket, 2), waiter(&bucket, 4), waiter(&bucket, 3)];
    bucket.set_quota(Quota::new(100, secs(1)).with_burst(3)).unwrap();
    assert_eq!(waiting.each_ref().map(ByHand::wakes), [0, 1, 0]);
    let Poll::Ready(Err(refused)) = waiting[1].poll() else { panic!("it waits for tokens that cannot come") };
    assert_eq!((refused.retry_after(), bucket.waiting()), (None, 2));
    assert_eq!(wait_of(bucket.try_acquire(1)), Some(ms(60)), "its tokens do not delay others");
    advance(ms(20)).await;
    assert!(served(&mut waiting[0]));
    advance(ms(30)).await;
    assert!(served(&mut waiting[2]));
}

#[tokio::test(start_paused = true)]
async fn setting_the_quota_all_the_time_delays_no_waiter() {
    let bucket = a_hundred_per_second();
    let mut waiting = waiters::<20>(&bucket);
    for elapsed in 1..=200 {
        advance(ms(1)).await;
        bucket.set_quota(Quota::new(100, secs(1)).with_burst(1 + elapsed % 2)).unwrap();
        let number = waiting.iter_mut().map_while(|waiter| (waiter.wakes() > 0).then_some(())).count() as u64;
        assert_eq!((number, bucket.waiting() as u64), (elapsed / 10, 20 - elapsed / 10), "after {elapsed} ms");
    }
    assert!(waiting.iter_mut().all(served));
}

// The clock.

#[tokio::test(start_paused = true)]
async fn a_clock_jump_serves_at_most_a_burst() {
    let bucket = empty(100, secs(1), 3);
    let mut waiting = waiters::<10>(&bucket);
    advance(YEAR).await;
    assert!(served(&mut waiting[0]));
    assert_eq!(waiting.iter_mut().filter(|waiter| waiter.wakes() > 0).count(), 10, "all are due by their timers");
    assert_eq!(bucket.waiting(), 7);
    assert_eq!(waiting[1..].iter_mut().filter_map(|waiter| served(waiter).then_some(())).count(), 2);
    for left in (0..7).rev() {
        advance(ms(10)).await;
        assert!(served(&mut waiting[9 - left]));
        assert_eq!(bucket.waiting(), left);
    }
}

#[tokio::test(start_paused = true)]
async fn turns_come_on_time_for_days() {
    // Two turns are 20 minutes apart. After 18 minutes, the bucket moves its anchor, the instant from which it counts
    // minted tokens.
    let bucket = empty(1, Duration::from_secs(20 * 60), 2);
    let stopwatch = Stopwatch::start();
    let waiting: Vec<_> = (1..=200)
        .map(|n| {
            let bucket = bucket.clone();
            spawn(async move {
                let (answer, polls) = Counted::new(bucket.acquire(1)).await;
                assert_eq!((answer, polls, stopwatch.read()), (Ok(()), 2, n * secs(20 * 60)));
            })
        })
        .collect();
    for task in waiting {
        task.await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_burst_of_one_millisecond_keeps_a_rate_that_is_faster_than_timers() {
    // tokio's timers fire at whole milliseconds. The bucket mints 10 tokens in a millisecond, and those above its burst
    // are lost.
    for (burst, millis) in [(10, 100), (5, 200), (1, 1000)] {
        let bucket = empty(10_000, secs(1), burst);
        let stopwatch = Stopwatch::start();
        let answers = join_all((0..1000).map(|_| bucket.acquire(1))).await;
        assert!(answers.iter().all(Result::is_ok));
        assert_eq!(stopwatch.read(), ms(millis), "with a burst of {burst}");
    }
}

// Threads.

#[test]
fn a_thousand_waiters_on_four_threads_lose_no_wake_up_when_some_give_up_and_the_rate_changes() {
    let threads = runtime::Builder::new_multi_thread().worker_threads(4).enable_time().build().unwrap();
    threads.block_on(async {
        let bucket = empty(5_000, secs(1), 50);
        let tasks: Vec<_> = (0..1000u64)
            .map(|n| {
                let bucket = bucket.clone();
                spawn(async move {
                    // Every third waiter gives up.
                    let patience = if n % 3 == 0 { Duration::from_micros(n * 50) } else { HOUR };
                    timeout(patience, bucket.acquire(1)).await.is_ok_and(|answer| answer.is_ok())
                })
            })
            .collect();
        for n in 0..50 {
            sleep(ms(1)).await;
            bucket.set_quota(Quota::new(5_000 + n, secs(1)).with_burst(50)).unwrap();
            bucket.refund(1);
        }
        let ended = timeout(secs(60), join_all(tasks)).await.expect("a wake-up was lost");
        let served = ended.into_iter().filter(|served| *served.as_ref().unwrap()).count();
        assert!(served >= 666, "{served}");
        assert_eq!(bucket.waiting(), 0);
    });
}

/// A stage in which calls wait. The test polls it without a response future, because the timer of such a future would
/// hold a waker of its own.
type Waiting = RateLimitStage<RateLimit<InLine>, Leaf>;
type Call = <Waiting as Stage<Backend, ()>>::Call;

/// A waker that alone keeps its task alive, as in a small executor. Dropping it drops the task, which gives up its
/// place.
struct KeepsItsTask {
    stage: Waiting,
    task: Mutex<Pin<Box<Call>>>,
}

impl Wake for KeepsItsTask {
    fn wake(self: Arc<Self>) {}
}

impl Drop for KeepsItsTask {
    fn drop(&mut self) {
        abandon(&self.stage, self.task.get_mut().unwrap());
    }
}

/// Joins the wait queue.
fn join(stage: &Waiting) -> Pin<Box<Call>> {
    Box::pin(Stage::<Backend, ()>::start(stage, (), &mut Frame::new()))
}

fn callee() -> Callee<Backend, <Backend as Service<()>>::Future> {
    Callee::new(Backend::always(Act::answer(200)))
}

fn abandon(stage: &Waiting, call: &mut Pin<Box<Call>>) {
    let callee = pin!(callee());
    Stage::<Backend, ()>::abandon(stage, call.as_mut(), callee, Abandonment::Cancelled, &mut Frame::new());
}

#[test]
fn a_task_that_is_dropped_with_its_waker_may_give_up_its_own_place() {
    let (sender, ended) = mpsc::channel();
    thread::spawn(move || {
        let clock = runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        let _guard = clock.enter();
        let bucket = a_hundred_per_second();
        let stage = RateLimitStage::with(RateLimit::new(bucket.clone()).wait(), Leaf::default());
        let task = || Waker::from(Arc::new(KeepsItsTask { stage: stage.clone(), task: Mutex::new(join(&stage)) }));
        // Each of the two tasks has a place in the queue, too. The call drops the waker of the first task when it gets
        // another waker. It drops the waker of the second task when it is abandoned.
        let mut call = join(&stage);
        for waker in [task(), Waker::noop().clone(), task()] {
            let polled = stage.poll(call.as_mut(), pin!(callee()), &mut Context::from_waker(&waker), &mut Frame::new());
            assert!(polled.is_pending());
        }
        assert_eq!(bucket.waiting(), 2);
        abandon(&stage, &mut call);
        sender.send(bucket.waiting()).unwrap();
    });
    assert_eq!(ended.recv_timeout(secs(10)), Ok(0), "the lock was held");
}

#[tokio::test(start_paused = true)]
async fn a_waker_that_panics_costs_no_other_wake_up_and_no_token() {
    struct Panics;
    impl Wake for Panics {
        fn wake(self: Arc<Self>) {
            panic!("a waker");
        }
    }
    let bucket = empty(1, HOUR, 2);
    let mut first = Box::pin(bucket.acquire(1));
    assert!(first.as_mut().poll(&mut Context::from_waker(&Waker::from(Arc::new(Panics)))).is_pending());
    let mut second = waiter(&bucket, 1);
    bucket.refund(2);
    assert_eq!((second.wakes(), bucket.waiting()), (1, 0));
    assert!(served(&mut second));
    assert_eq!(first.await, Ok(()));
    assert_eq!(bucket.available_at(Instant::now()), 0);
}

/// Runs on its own thread, because a deadlock would block the thread forever.
#[test]
fn a_waker_whose_clone_uses_the_bucket_does_not_deadlock() {
    thread_local! {
        static ASKED: RefCell<Option<TokenBucket>> = const { RefCell::new(None) };
    }
    fn ask(_: *const ()) -> RawWaker {
        const TABLE: RawWakerVTable = RawWakerVTable::new(ask, |_| {}, |_| {}, |_| {});
        ASKED.with_borrow(|bucket| bucket.as_ref().map(TokenBucket::waiting));
        RawWaker::new(std::ptr::null(), &TABLE)
    }
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let clock = runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        let _guard = clock.enter();
        let bucket = a_hundred_per_second();
        ASKED.set(Some(bucket.clone()));
        // SAFETY: it holds nothing, and nothing is read through it.
        let waker = unsafe { Waker::from_raw(ask(std::ptr::null())) };
        let mut acquire = Box::pin(bucket.acquire(1));
        assert!(acquire.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        sender.send(bucket.waiting()).unwrap();
    });
    assert_eq!(receiver.recv_timeout(secs(20)), Ok(1));
}
