//! Closing a token bucket: which calls are refused, which are admitted, and which tokens are given back. Queues have
//! their own tests.

use crate::support::{Act, Backend, ByHand, Failed, Stopwatch, ms, secs};
use std::{
    sync::{Arc, mpsc},
    task::{Context, Poll, Wake, Waker},
    thread,
    time::Duration,
};
use steadfast::{
    Error, Rejection,
    error::{Closed, RateLimited},
    rate_limit::{Acquire, Quota, RateLimit, RateLimitLayer, TokenBucket},
    retry::{Backoff, Retry},
};
use tokio::{
    runtime,
    time::{Instant, advance},
};
use tower::{Layer, ServiceExt, service_fn};

const HOUR: Duration = Duration::from_secs(60 * 60);

/// Returns an empty bucket. It mints a token every 10 ms, holds up to `burst` tokens, and lets calls wait for up to an
/// hour.
fn empty(burst: u64) -> TokenBucket {
    let bucket = TokenBucket::builder(100, secs(1)).burst(burst).max_wait(HOUR).build().unwrap();
    bucket.try_acquire(burst).unwrap();
    bucket
}

fn waiters<const N: usize>(bucket: &TokenBucket) -> [ByHand<Acquire>; N] {
    [(); N].map(|()| ByHand::pending(bucket.acquire(1)))
}

fn closed<T>() -> Poll<Result<T, RateLimited>> {
    Poll::Ready(Err(RateLimited::closed()))
}

fn available(bucket: &TokenBucket) -> u64 {
    bucket.available_at(Instant::now())
}

// Waiters.

#[tokio::test(start_paused = true)]
async fn each_waiter_is_woken_once_and_refused_as_closed() {
    let bucket = empty(5);
    let mut waiting: Vec<_> = (0..40).map(|number| ByHand::pending(bucket.acquire(1 + number % 5))).collect();
    bucket.close();
    assert!(waiting.iter().all(|waiter| waiter.wakes() == 1));
    assert_eq!(bucket.waiting(), 0);
    for waiter in &mut waiting {
        assert_eq!(waiter.poll(), closed());
    }
    advance(HOUR).await;
    assert!(waiting.iter().all(|waiter| waiter.wakes() == 1), "and no timer is left");
    assert_eq!(available(&bucket), 5, "no waiter has taken any");
}

#[tokio::test(start_paused = true)]
async fn a_closed_refusal_says_closed_and_names_no_time() {
    let bucket = empty(1);
    let [mut waiter] = waiters(&bucket);
    bucket.close();
    let Poll::Ready(Err(refused)) = waiter.poll() else { panic!("it waits") };
    assert!(refused.is_closed());
    assert_eq!((refused.retry_after(), refused.to_string().as_str()), (None, "closed"));
    let rejection = Rejection::from(refused.named("partner"));
    assert_eq!((rejection.mechanism(), rejection.reached_service()), ("rate_limit", false));
    assert_eq!((rejection.retry_after(), rejection.to_string().as_str()), (None, "rate limit: partner: closed"));
    assert_eq!(rejection, Closed::rate_limit(Some("partner")).into());
    let Rejection::Closed(details) = rejection else { panic!("{rejection:?}") };
    assert_eq!(details.limit(), Some("partner"));
    for open in [RateLimited::new(None), RateLimited::new(Some(HOUR)), RateLimited::long_key(9, 3)] {
        assert!(!open.is_closed() && matches!(open.into(), Rejection::RateLimited(_)));
    }
}

#[tokio::test(start_paused = true)]
async fn a_waiter_whose_turn_came_before_the_close_is_admitted_even_if_its_task_did_not_run() {
    let bucket = empty(10);
    let [mut first, mut second, mut third] = waiters(&bucket);
    advance(ms(29)).await;
    bucket.close();
    assert_eq!((first.poll(), second.poll(), third.poll()), (Poll::Ready(Ok(())), Poll::Ready(Ok(())), closed()));
    assert_eq!(available(&bucket), 0);
    advance(ms(1)).await;
    assert_eq!(available(&bucket), 1, "the third one has taken none");
}

#[tokio::test(start_paused = true)]
async fn the_instant_of_the_close_may_be_given() {
    let bucket = empty(10);
    let begin = Instant::now();
    let [mut first, mut second] = waiters(&bucket);
    bucket.close_at(begin + ms(10));
    assert_eq!((first.poll(), second.poll()), (Poll::Ready(Ok(())), closed()));
}

#[tokio::test(start_paused = true)]
async fn tokens_granted_before_the_close_are_given_back_if_the_waiter_is_dropped() {
    let bucket = empty(10);
    let [first, _second] = waiters(&bucket);
    advance(ms(10)).await;
    bucket.close();
    assert_eq!(available(&bucket), 0);
    drop(first);
    assert_eq!(available(&bucket), 1);
}

#[tokio::test(start_paused = true)]
async fn a_future_dropped_after_any_poll_before_or_after_the_close_loses_no_token() {
    for (before, after) in (0..4).flat_map(|before| (0..2).map(move |after| (before, after))) {
        for is_due in [false, true] {
            let bucket = empty(10);
            let mut acquire = ByHand::new(bucket.acquire(2));
            for _ in 0..before {
                assert!(acquire.poll().is_pending());
            }
            advance(if is_due { ms(20) } else { ms(10) }).await;
            bucket.close();
            let polled = (0..after).map(|_| acquire.poll()).last();
            let is_admitted = is_due && before > 0;
            match polled {
                Some(answer) if is_admitted => assert_eq!(answer, Poll::Ready(Ok(()))),
                Some(answer) => assert_eq!(answer, closed()),
                None => {}
            }
            drop(acquire);
            let left = if is_admitted && after > 0 { 0 } else { 1 + u64::from(is_due) };
            assert_eq!((available(&bucket), bucket.waiting()), (left, 0), "{before}, {after}, due: {is_due}");
        }
    }
}

// Later calls.

#[tokio::test(start_paused = true)]
async fn a_later_call_is_refused_at_once_although_there_are_tokens() {
    let bucket = TokenBucket::builder(100, secs(1)).burst(10).build().unwrap();
    assert!(!bucket.is_closed());
    bucket.close();
    assert!(bucket.is_closed() && bucket.clone().is_closed());
    for tokens in [1, 10, 11, u64::MAX] {
        assert_eq!(ByHand::new(bucket.acquire(tokens)).poll(), closed());
        assert_eq!(bucket.try_acquire(tokens), Err(RateLimited::closed()));
        assert_eq!(bucket.reserve(tokens).unwrap_err(), RateLimited::closed());
        assert_eq!(bucket.try_acquire_or_owe_at(tokens, Instant::now()), Err(RateLimited::closed()));
    }
    assert_eq!(available(&bucket), 10, "a refusal takes nothing, and leaves no debt");
    assert_eq!((bucket.try_acquire(0), ByHand::new(bucket.acquire(0)).poll()), (Ok(()), Poll::Ready(Ok(()))));
}

#[tokio::test(start_paused = true)]
async fn a_bucket_stays_closed_through_all_changes() {
    for warm_up in [Duration::ZERO, secs(10)] {
        let bucket = TokenBucket::builder(100, secs(1)).warm_up(warm_up).build().unwrap();
        let reservation = bucket.reserve(1).unwrap();
        bucket.close();
        let check = || assert_eq!(bucket.try_acquire(1), Err(RateLimited::closed()));
        check();
        bucket.close();
        check();
        bucket.refund(1);
        check();
        drop(reservation);
        check();
        bucket.set_quota(Quota::new(1000, secs(1))).unwrap();
        check();
        // After an hour, this change also moves the bucket's anchor: the instant from which it counts minted tokens.
        advance(HOUR).await;
        bucket.set_quota(Quota::new(1000, secs(1))).unwrap();
        check();
        assert_eq!(ByHand::new(bucket.acquire(1)).poll(), closed());
        check();
        assert!(bucket.is_closed());
    }
}

#[tokio::test(start_paused = true)]
async fn a_refund_to_a_closed_bucket_is_kept_and_wakes_no_task() {
    let bucket = empty(3);
    let [mut waiter] = waiters(&bucket);
    bucket.close();
    bucket.refund(2);
    assert_eq!((available(&bucket), waiter.wakes()), (2, 1));
    assert_eq!(waiter.poll(), closed());
}

// In a stack.

#[tokio::test(start_paused = true)]
async fn in_a_stack_waiters_and_later_calls_are_refused_as_closed() {
    let bucket = empty(1);
    let backend = Backend::always(Act::answer(200));
    let limit = RateLimit::new(bucket.clone()).named("partner").wait();
    let refused = limit.refused();
    let service = RateLimitLayer::new(limit).typed_error().layer(backend.clone());
    let mut waiting = ByHand::pending(service.clone().oneshot(()));
    bucket.close();
    assert_eq!(waiting.wakes(), 1);
    let rejected = Error::Rejected(Closed::rate_limit(Some("partner")).into());
    assert_eq!(waiting.poll(), Poll::Ready(Err(rejected.clone())));
    assert_eq!(service.oneshot(()).await, Err(rejected));
    assert_eq!((refused.get(), backend.calls()), (2, 0));
}

#[tokio::test(start_paused = true)]
async fn layers_that_do_not_wait_refuse_as_closed_and_one_in_shadow_lets_calls_pass() {
    let bucket = TokenBucket::builder(100, secs(1)).build().unwrap();
    bucket.close();
    let backend = Backend::always(Act::answer(200));
    let rejected = Err(Error::Rejected(Closed::rate_limit(None).into()));
    let service = RateLimitLayer::new(bucket.clone()).typed_error().layer(backend.clone());
    assert_eq!(service.oneshot(()).await, rejected);
    let owing = RateLimit::new(bucket.clone()).count_refused();
    assert_eq!(RateLimitLayer::new(owing).typed_error().layer(backend.clone()).oneshot(()).await, rejected);
    let shadow = RateLimit::new(bucket.clone()).shadow();
    let refused = shadow.refused();
    assert_eq!(RateLimitLayer::new(shadow).typed_error().layer(backend.clone()).oneshot(()).await, Ok(200));
    assert_eq!((refused.get(), available(&bucket)), (1, 100));
}

#[tokio::test(start_paused = true)]
async fn a_retry_does_not_wait_for_a_closed_bucket() {
    for waits in [false, true] {
        for asked_to_wait in [false, true] {
            let bucket = TokenBucket::builder(100, secs(1)).build().unwrap();
            let closing = bucket.clone();
            let service = service_fn(move |()| {
                closing.close();
                async { Err::<u16, _>(Failed) }
            });
            let retry = Retry::new(3).backoff(Backoff::exponential(secs(1), secs(1))).without_budget();
            let retry = if asked_to_wait { retry.wait_for_refusals() } else { retry };
            let client = steadfast::client().retry(retry);
            let stopwatch = Stopwatch::start();
            let end = match waits {
                true => client.rate_limit(RateLimit::new(bucket).wait()).service(service).unwrap().oneshot(()).await,
                false => client.rate_limit(bucket).service(service).unwrap().oneshot(()).await,
            };
            if asked_to_wait {
                // The bucket refuses the second attempt, and names no time. So the retry does not wait for a third one.
                let Err(Error::Rejected(Rejection::Closed(_))) = end else { panic!("{end:?}") };
            } else {
                assert_eq!((end, stopwatch.read()), (Err(Error::Service(Failed)), Duration::ZERO));
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_closed_bucket_is_explained_as_closed() {
    let bucket = TokenBucket::builder(100, secs(1)).build().unwrap();
    let explained = || {
        [
            steadfast::server().rate_limit(bucket.clone()).layer().unwrap().explain().to_string(),
            steadfast::server()
                .rate_limit(RateLimit::new(bucket.clone()).wait())
                .layer()
                .unwrap()
                .explain()
                .to_string(),
        ]
    };
    assert!(explained().iter().all(|text| !text.contains("closed")));
    bucket.close();
    assert!(explained().iter().all(|text| text.contains("closed")), "{:?}", explained());
}

// Wakers.

/// A waker that reads the bucket when it is woken, and sends what it has read.
struct Returns(TokenBucket, mpsc::Sender<(bool, usize)>);

impl Wake for Returns {
    fn wake(self: Arc<Self>) {
        let _ = self.1.send((self.0.is_closed(), self.0.waiting()));
    }
}

/// Runs on its own thread, because a deadlock would block the thread forever.
#[test]
fn refused_waiters_are_woken_without_the_lock_and_find_the_bucket_closed() {
    let (sender, ended) = mpsc::channel();
    thread::spawn(move || {
        let clock = runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        let _guard = clock.enter();
        let bucket = empty(1);
        let mut acquire = Box::pin(bucket.acquire(1));
        let waker = Waker::from(Arc::new(Returns(bucket.clone(), sender)));
        assert!(acquire.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        bucket.close();
    });
    assert_eq!(ended.recv_timeout(secs(20)), Ok((true, 0)), "the lock was held");
}
