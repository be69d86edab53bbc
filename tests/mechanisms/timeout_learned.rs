//! Learned timeouts: which calls they count, and which they refuse.

use crate::support::{Act, Backend, ByHand, Failed, ms, secs};
use futures::FutureExt;
use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use steadfast::{
    CallContext, Error, Rejection,
    circuit_breaker::{Breaker, BreakerState},
    error::{TimedOut, TimedOutBy, TimedOutIn},
    retry::{Backoff, Jitter, Retry},
    timeout::{Quantile, TimeoutLayer},
};
use tokio::time::{Instant, sleep, timeout_at};
use tower::{Layer, Service, ServiceExt, service_fn};

/// The number of calls after which a limit is learned. Calls are learned in slices of 128, and a slice is learned when
/// the next slice ends. The window has 100 calls.
const LEARNED: usize = 256;

fn a_tenth() -> Quantile {
    Quantile::builder(0.1).between(ms(1), secs(30)).build().unwrap()
}

fn details(result: Result<u16, Error<Failed>>) -> TimedOut {
    match result {
        Err(Error::Rejected(Rejection::TimedOut(details))) => details,
        other => panic!("no timeout: {other:?}"),
    }
}

async fn call_within<S>(left: Duration, service: &S) -> Result<u16, S::Error>
where
    S: Service<(), Response = u16> + Clone,
{
    CallContext::new().with_deadline(Instant::now() + left).scope(service.clone().oneshot(())).await
}

/// Returns the number of further calls until the limit is learned.
fn missing(limit: &Quantile) -> usize {
    let is_learned = || limit.current() != limit.ceiling();
    (0..=LEARNED)
        .find(|_| {
            is_learned() || {
                limit.record(ms(20));
                false
            }
        })
        .unwrap()
}

// Each call counts once, or not at all.

#[tokio::test(start_paused = true)]
async fn a_call_dropped_after_any_poll_does_not_count_and_an_answered_call_counts_once() {
    // The first poll finds the service unready, the second calls it, the third gets the answer.
    for polls in 0..=3 {
        let learned = a_tenth();
        let backend = Backend::always(Act::answer(200).after(ms(20)));
        let alone = TimeoutLayer::learned(learned.clone()).typed_error().layer(backend.clone());
        let client = steadfast::client().attempt_timeout(learned.clone()).service(backend.clone()).unwrap();
        for _ in 0..50 {
            backend.set_ready_for(0);
            let calls = [alone.clone().call(()).boxed(), client.clone().call(()).boxed()];
            let mut calls = calls.map(ByHand::new);
            for poll in 0..polls {
                match poll {
                    1 => backend.set_ready_for(usize::MAX),
                    2 => sleep(ms(20)).await,
                    _ => {}
                }
                assert!(calls.iter_mut().all(|call| call.poll().is_ready() == (poll == 2)));
            }
        }
        backend.set_ready_for(usize::MAX);
        assert_eq!(alone.oneshot(()).await, Ok(200));
        assert_eq!(client.oneshot(()).await, Ok(200));
        let counted = if polls == 3 { 2 * 50 + 2 } else { 2 };
        assert_eq!(missing(&learned), LEARNED - counted, "dropped after {polls} polls");
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_counts_at_most_once_however_it_ends() {
    let short = || Quantile::builder(0.1).between(ms(1), ms(50)).build().unwrap();
    let backoff = || Backoff::none();
    // How the call ends, what the service does, the caller's deadline, and whether the attempt counts.
    let cases = [
        ("answered", Act::answer(200).after(ms(20)), secs(9), 1),
        ("failed", Act::fail().after(ms(20)), secs(9), 0),
        ("given up at the limit", Act::hang(), secs(9), 1),
        ("ended by the caller's deadline", Act::hang(), ms(20), 1),
        ("refused, since the deadline had passed", Act::hang(), ms(0), 0),
    ];
    for (what, act, left, counted) in cases {
        let learned = short();
        let backend = Backend::always(act);
        let alone = TimeoutLayer::learned(learned.clone()).typed_error().layer(backend.clone());
        let _ = call_within(left, &alone).await;
        assert_eq!(missing(&learned), LEARNED - counted, "alone: {what}");

        // Both timeouts of the stack see the deadline of the caller. Only the attempt timeout learns.
        let learned = short();
        let client = steadfast::client().timeout(secs(5)).retry(Retry::new(1).backoff(backoff()).without_budget());
        let client = client.attempt_timeout(learned.clone()).service(backend.clone()).unwrap();
        let _ = call_within(left, &client).await;
        assert_eq!(missing(&learned), LEARNED - counted, "in a stack: {what}");
    }
}

#[tokio::test(start_paused = true)]
async fn calls_in_flight_at_a_reset_do_not_count_after_it() {
    let learned = a_tenth();
    let backend = Backend::always(Act::answer(200).after(ms(20)));
    let service = TimeoutLayer::learned(learned.clone()).typed_error().layer(backend);
    let mut calls: Vec<_> = (0..100).map(|_| ByHand::pending(service.clone().call(()))).collect();
    learned.reset();
    sleep(ms(20)).await;
    assert!(calls.iter_mut().all(|call| call.poll().is_ready()));
    // The 100 calls are not learned, but each has taken one of the 128 cells of the current slice. The reset does not
    // begin a new slice.
    (0..28).for_each(|_| learned.record(ms(20)));
    assert_eq!(missing(&learned), 128 + 128, "the first slice has 28 calls, which is fewer than half of a window");
}

// A call whose deadline passes before the fastest answer.

/// A limit that has learned that answers take 20 ms, and a service with that latency.
async fn knows_20_ms() -> (Quantile, Backend) {
    let learned = a_tenth();
    (0..2 * LEARNED).for_each(|_| learned.record(ms(20)));
    (learned, Backend::always(Act::answer(200).after(ms(20))))
}

#[tokio::test(start_paused = true)]
async fn a_call_that_would_end_before_the_fastest_answer_is_refused_except_one_in_a_second() {
    let (learned, backend) = knows_20_ms().await;
    let layer = TimeoutLayer::learned(learned.clone()).typed_error().layer(backend.clone());
    // The first call passes, to find out whether the service became faster.
    let passed = details(call_within(ms(15), &layer).await);
    assert_eq!((passed.spent(), backend.calls()), (Some(ms(15)), 1));
    for _ in 0..3 {
        let watch = Instant::now();
        for _ in 0..10 {
            let refused = details(call_within(ms(15), &layer).await);
            assert_eq!((refused.limit(), refused.by()), (None, TimedOutBy::Caller));
            assert_eq!((refused.phase(), refused.spent()), (TimedOutIn::Waiting, Some(Duration::ZERO)));
            assert!(refused.was_cut_short());
            assert!(!Rejection::from(refused).reached_service());
        }
        assert_eq!(Instant::now() - watch, Duration::ZERO);
        // The fastest answer is rounded down to its bucket of latencies, which is less than 0.8% wide. So a call with
        // 20 ms left passes.
        assert_eq!(call_within(ms(20), &layer).await, Ok(200));
        let calls = backend.calls();
        sleep(ms(1000)).await;
        details(call_within(ms(15), &layer).await);
        assert_eq!(backend.calls(), calls + 1, "one in a second");
    }
}

#[tokio::test(start_paused = true)]
async fn the_one_call_in_a_second_notices_a_service_that_became_faster() {
    let (learned, backend) = knows_20_ms().await;
    let service = steadfast::server().timeout(learned).service(backend.clone()).unwrap();
    details(call_within(ms(15), &service).await);
    backend.becomes(Act::answer(200).after(ms(5)));
    details(call_within(ms(15), &service).await);
    sleep(secs(1)).await;
    for _ in 0..10 {
        assert_eq!(call_within(ms(15), &service).await, Ok(200));
    }
}

#[tokio::test(start_paused = true)]
async fn no_call_is_refused_while_too_few_calls_are_known() {
    let (learned, backend) = knows_20_ms().await;
    let layer = TimeoutLayer::learned(learned.clone()).typed_error().layer(backend.clone());
    learned.reset();
    for calls in 1..20 {
        details(call_within(ms(15), &layer).await);
        assert_eq!(backend.calls(), calls);
    }
}

#[tokio::test(start_paused = true)]
async fn a_refused_attempt_names_the_timeout_of_the_call_that_left_it_too_little_time() {
    let (learned, backend) = knows_20_ms().await;
    learned.record(ms(20));
    let breaker = Breaker::builder().consecutive_failures(1).build().unwrap();
    let client = steadfast::client().timeout(ms(15)).circuit_breaker(breaker.clone());
    let service = client.attempt_timeout(learned).service(backend.clone()).unwrap();
    details(service.clone().oneshot(()).await);
    breaker.reset();
    let refused = details(service.oneshot(()).await);
    assert_eq!((refused.limit(), refused.by()), (Some(ms(15)), TimedOutBy::Call));
    assert_eq!((refused.spent(), backend.calls()), (Some(Duration::ZERO), 1));
    assert_eq!(breaker.state(), BreakerState::Closed, "the service did not fail");
}

#[tokio::test(start_paused = true)]
async fn a_retry_that_would_have_too_little_time_is_not_made() {
    let (learned, _) = knows_20_ms().await;
    let backend = Backend::always(Act::fail().after(ms(20)));
    let retry = Retry::new(2).backoff(Backoff::fixed(ms(10)).jitter(Jitter::None)).without_budget();
    let client = steadfast::client().timeout(ms(40)).retry(retry).attempt_timeout(learned.clone());
    let service = client.service(backend.clone()).unwrap();
    // This call is the one in a second that passes, so the retry cannot be it.
    let alone = TimeoutLayer::learned(learned).typed_error().layer(Backend::always(Act::hang()));
    details(call_within(ms(5), &alone).await);
    let begin = Instant::now();
    assert!(matches!(service.oneshot(()).await, Err(Error::Service(_))));
    assert_eq!((Instant::now() - begin, backend.calls()), (ms(20), 1));
}

#[tokio::test(start_paused = true)]
async fn a_service_that_gives_up_at_the_deadline_does_not_draw_the_limit_down() {
    let limit = Quantile::builder(0.05).between(ms(1), secs(2)).build().unwrap();
    let latency = Arc::new(AtomicU64::new(0));
    let work = latency.clone();
    // Like a client that ends at the inherited deadline, before the timeout around it is polled.
    let handler = service_fn(move |(): ()| {
        let takes = ms(work.load(Ordering::Relaxed));
        async move {
            let deadline = CallContext::current().deadline().unwrap();
            timeout_at(deadline, sleep(takes)).await.map_err(|_| io::Error::other("late"))
        }
    });
    let client = steadfast::client().attempt_timeout(limit.clone()).service(handler).unwrap();
    // The latencies are 1 to 100 ms, each as often as the others. The exact quantile is 95 ms.
    for call in 0..20_000_u64 {
        latency.store(1 + call * 37 % 100, Ordering::Relaxed);
        let _ = client.clone().oneshot(()).await;
    }
    assert!(limit.current() >= ms(90) && limit.current() <= ms(105), "{:?}", limit.current());
    assert!(limit.achieved_rate() > 0.02 && limit.achieved_rate() < 0.1, "{}", limit.achieved_rate());
}
