//! When the wait for a token bucket is due, as a waiter can read it at any moment. Also waits that count from a given
//! instant.

use crate::support::{ByHand, ms, secs};
use std::{task::Poll, time::Duration};
use steadfast::{
    CallContext,
    rate_limit::{Acquire, Quota, TokenBucket},
};
use tokio::time::{Instant, advance};

const HOUR: Duration = Duration::from_secs(60 * 60);

/// Returns an empty bucket. It mints a token every 10 ms, holds up to `burst` tokens, and lets calls wait for up to an
/// hour.
fn empty(burst: u64) -> TokenBucket {
    let bucket = TokenBucket::builder(100, secs(1)).burst(burst).max_wait(HOUR).build().unwrap();
    bucket.try_acquire(burst).unwrap();
    bucket
}

fn waiter(bucket: &TokenBucket, tokens: u64) -> ByHand<Acquire> {
    ByHand::pending(bucket.acquire(tokens))
}

/// Returns the time until the wait is due.
fn due_in(waiter: &ByHand<Acquire>) -> Option<Duration> {
    waiter.future().due_at().map(|due| due.checked_duration_since(Instant::now()).expect("in the past"))
}

#[track_caller]
fn assert_due_in<const N: usize>(waiting: [&ByHand<Acquire>; N], millis: [u64; N]) {
    assert_eq!(waiting.map(due_in), millis.map(|millis| Some(ms(millis))));
}

// The due time.

#[tokio::test(start_paused = true)]
async fn a_waiter_knows_when_its_turn_is_due_and_other_futures_do_not() {
    let bucket = empty(5);
    let unpolled = ByHand::new(bucket.acquire(1));
    let [mut first, mut second, third] = [2, 5, 1].map(|tokens| waiter(&bucket, tokens));
    assert_eq!(due_in(&unpolled), None);
    assert_due_in([&first, &second, &third], [20, 70, 80]);
    advance(ms(15)).await;
    assert_due_in([&first, &second, &third], [5, 55, 65]);
    advance(ms(5)).await;
    assert_eq!(first.poll(), Poll::Ready(Ok(())));
    assert_eq!(due_in(&first), None);
    assert_due_in([&second, &third], [50, 60]);
    advance(ms(50)).await;
    assert_eq!(second.poll(), Poll::Ready(Ok(())));
    assert_eq!((due_in(&second), due_in(&third)), (None, Some(ms(10))));
}

#[tokio::test(start_paused = true)]
async fn an_idle_waiter_at_its_turn_makes_those_behind_due_later_once_the_bucket_is_full() {
    let bucket = empty(5);
    let [first, second] = [5, 5].map(|tokens| waiter(&bucket, tokens));
    for (elapsed, second_due) in [(50, 50), (20, 50), (30, 50)] {
        advance(ms(elapsed)).await;
        assert_due_in([&first, &second], [0, second_due]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_turn_that_has_come_is_due_now() {
    let bucket = empty(5);
    let [first, mut second] = [1, 1].map(|tokens| waiter(&bucket, tokens));
    advance(HOUR).await;
    assert_due_in([&first, &second], [0, 0]);
    // The first waiter is granted its token, and is not polled.
    assert!(second.poll().is_ready());
    assert_eq!((due_in(&first), due_in(&second)), (Some(Duration::ZERO), None));
}

#[tokio::test(start_paused = true)]
async fn a_refused_wait_is_due_now() {
    let bucket = empty(5);
    let [mut too_much, mut closed] = [5, 1].map(|tokens| waiter(&bucket, tokens));
    bucket.set_quota(Quota::new(100, secs(1)).with_burst(4)).unwrap();
    assert_due_in([&too_much, &closed], [0, 10]);
    bucket.close();
    assert_due_in([&closed], [0]);
    assert!(too_much.poll().is_ready() && closed.poll().is_ready());
    assert_eq!((due_in(&too_much), due_in(&closed)), (None, None));
}

#[tokio::test(start_paused = true)]
async fn it_is_due_earlier_when_any_waiter_ahead_gives_up_without_a_poll() {
    let bucket = empty(5);
    let [first, second, third, last] = [2, 5, 3, 1].map(|tokens| waiter(&bucket, tokens));
    assert_due_in([&last], [110]);
    drop(second);
    assert_due_in([&first, &third, &last], [20, 50, 60]);
    drop(first);
    assert_due_in([&third, &last], [30, 40]);
    drop(third);
    assert_due_in([&last], [10]);
}

#[tokio::test(start_paused = true)]
async fn it_is_due_earlier_after_a_faster_rate_or_a_refund_and_later_after_a_slower_rate_or_a_debt() {
    let bucket = empty(5);
    let [first, second] = [2, 3].map(|tokens| waiter(&bucket, tokens));
    assert_due_in([&first, &second], [20, 50]);
    bucket.set_quota(Quota::new(1000, secs(1)).with_burst(5)).unwrap();
    assert_due_in([&first, &second], [2, 5]);
    bucket.set_quota(Quota::new(10, secs(1)).with_burst(5)).unwrap();
    assert_due_in([&first, &second], [200, 500]);
    bucket.refund(1);
    assert_due_in([&first, &second], [100, 400]);
    assert!(bucket.try_acquire_or_owe_at(2, Instant::now()).is_err());
    assert_due_in([&first, &second], [300, 600]);
    let _last = waiter(&bucket, 5);
    assert_due_in([&first, &second], [300, 600]);
}

#[tokio::test(start_paused = true)]
async fn a_waiter_of_a_warming_bucket_is_due_when_the_ramp_has_minted_enough() {
    // A cold bucket holds one token. 25 are minted in the first five seconds.
    let bucket = TokenBucket::builder(10, secs(1)).burst(50).warm_up(secs(10)).max_wait(HOUR).build().unwrap();
    bucket.try_acquire(1).unwrap();
    let [first, second] = [25, 50].map(|tokens| waiter(&bucket, tokens));
    // In the ten seconds of the warm-up, 66 2/3 tokens are minted. The two waiters need 75. The bucket rounds a third
    // of the warm-up up to a nanosecond, so the test compares microseconds.
    assert_eq!([&first, &second].map(|waiter| due_in(waiter).unwrap().as_micros()), [5_000_000, 10_833_333]);
}

#[tokio::test(start_paused = true)]
async fn reading_the_due_time_changes_nothing() {
    let (looked_at, left_alone) = (empty(5), empty(5));
    let mut waiting = [&looked_at, &left_alone].map(|bucket| waiter(bucket, 3));
    for _ in 0..30 {
        assert!(due_in(&waiting[0]).is_some());
        advance(ms(1)).await;
    }
    assert_eq!(waiting.each_ref().map(ByHand::wakes), [1, 1], "their timers");
    // No read has served either waiter.
    assert_due_in([&waiting[0]], [0]);
    assert_eq!((looked_at.waiting(), left_alone.waiting()), (1, 1));
    assert!(waiting.iter_mut().all(|waiter| waiter.poll() == Poll::Ready(Ok(()))));
}

#[tokio::test(start_paused = true)]
async fn each_of_a_hundred_waiters_is_served_when_it_was_due() {
    let bucket = empty(1);
    let mut waiting: Vec<_> = (0..100).map(|_| waiter(&bucket, 1)).collect();
    for waiter in &mut waiting {
        let due = due_in(waiter).unwrap();
        assert_eq!(due, ms(10));
        advance(due - ms(1)).await;
        assert!(waiter.poll().is_pending());
        advance(ms(1)).await;
        assert_eq!(waiter.poll(), Poll::Ready(Ok(())));
    }
}

// Waits that count from a given instant.

#[tokio::test(start_paused = true)]
async fn a_call_that_came_earlier_waits_less_and_its_longest_wait_counts_from_then() {
    let bucket = TokenBucket::builder(100, secs(1)).burst(1).max_wait(ms(20)).build().unwrap();
    let begin = Instant::now();
    bucket.try_acquire_at(1, begin).unwrap();
    advance(ms(5)).await;
    // The first token comes after 10 ms, the second after 20, and the third after 30.
    let first = ByHand::pending(bucket.acquire_at(1, begin));
    let second = ByHand::pending(bucket.acquire_at(1, begin));
    assert_due_in([&first, &second], [5, 15]);
    let Poll::Ready(Err(refused)) = ByHand::new(bucket.acquire_at(1, begin)).poll() else {
        panic!("30 ms are too long")
    };
    assert_eq!(refused.retry_after(), Some(ms(30)), "counted from when it came");
    assert_eq!(bucket.acquire(1).await.unwrap_err().retry_after(), Some(ms(25)));
    advance(ms(5)).await;
    drop(bucket.acquire_at(1, Instant::now()));
    let third = ByHand::pending(bucket.acquire_at(1, Instant::now()));
    assert_due_in([&third], [20]);
}

#[tokio::test(start_paused = true)]
async fn tokens_are_taken_as_of_the_given_instant_and_not_before_the_first_poll() {
    let bucket = empty(5);
    let later = Instant::now() + ms(30);
    let mut acquire = ByHand::new(bucket.acquire_at(3, later));
    assert_eq!(bucket.available_at(later), 3);
    assert_eq!(acquire.poll(), Poll::Ready(Ok(())), "by then there are three, though not by tokio's clock");
    assert_eq!((bucket.available_at(later), due_in(&acquire)), (0, None));
    // By tokio's clock there is still no token.
    assert!(bucket.try_acquire(1).is_err());
}

#[tokio::test(start_paused = true)]
async fn a_deadline_counts_from_the_given_instant() {
    let bucket = empty(1);
    let now = Instant::now();
    // The turn comes 10 ms after `now`, and must come before the deadline. A call that counts from 5 ms later waits 5
    // ms less, but its turn comes at the same time.
    for (came_at, deadline, is_refused) in [(now, ms(10), true), (now, ms(11), false), (now + ms(5), ms(10), true)] {
        let context = CallContext::new().with_deadline(now + deadline);
        let mut acquire = ByHand::new(bucket.acquire_at(1, came_at));
        assert_eq!(context.sync_scope(|| acquire.poll()).is_ready(), is_refused, "{deadline:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_that_came_earlier_does_not_overtake_a_waiter() {
    let bucket = empty(1);
    let begin = Instant::now();
    advance(ms(4)).await;
    let mut first = waiter(&bucket, 1);
    let mut second = ByHand::pending(bucket.acquire_at(1, begin));
    assert_due_in([&first, &second], [6, 16]);
    advance(ms(6)).await;
    assert!(second.poll().is_pending());
    assert_eq!(first.poll(), Poll::Ready(Ok(())));
    advance(ms(10)).await;
    assert_eq!(second.poll(), Poll::Ready(Ok(())));
}

#[tokio::test(start_paused = true)]
async fn a_future_with_a_given_instant_leaves_the_bucket_intact_when_it_is_dropped_after_any_poll() {
    for polls in 0..4_u64 {
        let bucket = TokenBucket::builder(100, secs(1)).burst(3).build().unwrap();
        bucket.try_acquire(3).unwrap();
        let mut acquire = ByHand::new(bucket.acquire_at(3, Instant::now()));
        for _ in 0..polls {
            assert!(acquire.poll().is_pending());
            advance(ms(5)).await;
        }
        drop(acquire);
        assert_eq!((bucket.waiting(), bucket.available_at(Instant::now())), (0, polls / 2));
    }
}

#[tokio::test(start_paused = true)]
async fn a_refused_wait_changes_nothing_at_any_instant() {
    for ahead in [secs(11), 418 * 24 * secs(3_600), 100 * 366 * 24 * secs(3_600)] {
        let bucket = TokenBucket::builder(1, secs(10)).burst(2).max_wait(secs(5)).build().unwrap();
        let begin = Instant::now();
        bucket.try_acquire_at(2, begin).unwrap();
        advance(secs(6)).await;
        let mut waits = ByHand::pending(bucket.acquire(1));
        let before = bucket.available_at(begin);
        // Three tokens are more than the burst, at any instant.
        let mut refused = ByHand::new(bucket.acquire_at(3, begin + ahead));
        assert!(matches!(refused.poll(), Poll::Ready(Err(_))));
        // This call comes at 11 s and may wait for 5 s. Behind the waiter, its two tokens are there at 30 s.
        let mut refused = ByHand::new(bucket.acquire_at(2, begin + secs(11)));
        assert!(matches!(refused.poll(), Poll::Ready(Err(_))));
        assert_eq!((bucket.available_at(begin), waits.wakes(), bucket.waiting()), (before, 0, 1));
        assert!(waits.poll().is_pending(), "it was served before its time");
        advance(secs(4)).await;
        assert!(matches!(waits.poll(), Poll::Ready(Ok(()))));
    }
}
