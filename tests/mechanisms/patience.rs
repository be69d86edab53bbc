//! An attempt that a deadline ends counts against the service only if it had at least half of its full time. The full
//! time is the attempt timeout, or without one the timeout of the stack.

use crate::support::{Act, Backend, Failed, ms, secs};
use std::time::Duration;
use steadfast::{
    CallContext, Error, Outcome, Rejection,
    circuit_breaker::{Breaker, BreakerState, CircuitBreakerLayer},
    classify::{AnyError, Layered},
    rate_limit::{RateLimit, TokenBucket},
    retry::{Backoff, Jitter, Retry, RetryBudget},
    stack::live::StackConfig,
    timeout::TimeoutLayer,
};
use tokio::time::{Instant, sleep};
use tower::{BoxError, Layer, Service, ServiceBuilder, ServiceExt};

fn every(attempts: u32, wait: Duration) -> Retry {
    Retry::new(attempts).backoff(Backoff::exponential(wait, wait).jitter(Jitter::None)).without_budget()
}

/// Counts over a minute, and never opens.
fn counting() -> Breaker {
    Breaker::builder().failure_rate(1.0, secs(60)).minimum_calls(1_000_000).build().unwrap()
}

fn counts(breaker: &Breaker) -> (u64, u64) {
    breaker.counts_at(Instant::now())
}

/// A half-open circuit with this number of probes.
async fn half_open(probes: u32) -> Breaker {
    let builder = Breaker::builder().consecutive_failures(1).open_for(secs(5)).probes(probes);
    let breaker = builder.probe_timeout(secs(30)).build().unwrap();
    breaker.try_acquire().unwrap().failure();
    sleep(secs(5)).await;
    breaker
}

/// Makes one call whose deadline is `left` from now.
async fn call_within<S>(left: Duration, service: &S) -> Result<u16, S::Error>
where
    S: Service<(), Response = u16> + Clone,
{
    let context = CallContext::new().with_deadline(Instant::now() + left);
    context.scope(service.clone().oneshot(())).await
}

/// Returns whether a call ended in a timeout that reports that it was cut short.
fn was_cut_short<E: std::fmt::Debug>(result: Result<u16, Error<E>>) -> bool {
    match result {
        Err(Error::Rejected(Rejection::TimedOut(details))) => details.was_cut_short(),
        other => panic!("no timeout: {other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_probe_cut_short_by_its_caller_returns_its_place_and_the_next_one_closes_the_circuit() {
    let breaker = half_open(1).await;
    let stack = steadfast::client()
        .timeout(secs(2))
        .circuit_breaker(breaker.clone())
        .attempt_timeout(ms(500))
        .service(Backend::always(Act::answer(200).after(ms(100))))
        .unwrap();
    for _ in 0..10 {
        assert!(was_cut_short(call_within(ms(50), &stack).await));
        assert_eq!(breaker.state(), BreakerState::HalfOpen);
    }
    assert_eq!(call_within(secs(9), &stack).await, Ok(200));
    assert_eq!(breaker.state(), BreakerState::Closed);
}

#[tokio::test(start_paused = true)]
async fn probes_that_are_all_cut_short_open_the_circuit_again_after_the_probe_timeout() {
    let breaker = half_open(1).await;
    let stack = steadfast::client()
        .circuit_breaker(breaker.clone())
        .attempt_timeout(ms(500))
        .service(Backend::always(Act::hang()))
        .unwrap();
    for _ in 0..30 {
        assert!(was_cut_short(call_within(ms(50), &stack).await));
        sleep(ms(950)).await;
    }
    let refused = call_within(ms(50), &stack).await.unwrap_err();
    assert!(matches!(refused.rejection(), Some(Rejection::CircuitOpen(_))));
    assert_eq!(breaker.state(), BreakerState::Open);
}

#[tokio::test(start_paused = true)]
async fn one_probe_that_is_cut_short_never_opens_the_circuit() {
    for silence in [ms(0), secs(14), ms(14_999), secs(15), ms(29_949), ms(29_950), secs(30), secs(36_000)] {
        let breaker = half_open(1).await;
        let stack = steadfast::client()
            .circuit_breaker(breaker.clone())
            .attempt_timeout(ms(500))
            .service(Backend::always(Act::answer(200).after(ms(100))))
            .unwrap();
        assert!(was_cut_short(call_within(ms(50), &stack).await));
        sleep(silence).await;
        assert_eq!(call_within(secs(9), &stack).await, Ok(200), "{silence:?}");
        assert_eq!(breaker.state(), BreakerState::Closed);
    }
}

#[tokio::test(start_paused = true)]
async fn a_callers_deadline_is_a_failure_from_half_of_the_full_time() {
    // An attempt through each of these five stacks has a full time of 400 ms.
    let breaker = counting();
    let backend = Backend::always(Act::hang());
    let client = || steadfast::client().circuit_breaker(breaker.clone());
    let attempt = client().attempt_timeout(ms(400)).service(backend.clone()).unwrap();
    let whole = client().timeout(ms(400)).service(backend.clone()).unwrap();
    let both = client().timeout(secs(2)).attempt_timeout(ms(400)).service(backend.clone()).unwrap();
    let retried = client().timeout(ms(400)).retry(every(3, ms(10))).service(backend.clone()).unwrap();
    let (layer, control) = client().attempt_timeout(secs(9)).live().unwrap();
    control.apply(&StackConfig { attempt_timeout: Some(ms(400)), ..StackConfig::default() }).unwrap();
    let live = layer.layer(backend.clone());

    let mut expected = 0;
    for (left, cut_short) in [(ms(1), true), (ms(199), true), (ms(200), false), (ms(399), false)] {
        let results = [
            call_within(left, &attempt).await,
            call_within(left, &whole).await,
            call_within(left, &both).await,
            call_within(left, &retried).await,
            call_within(left, &live).await,
        ];
        assert_eq!(results.map(was_cut_short), [cut_short; 5], "{left:?}");
        expected += if cut_short { 0 } else { 5 };
        assert_eq!(counts(&breaker), (expected, expected), "{left:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_begins_late_in_the_call_is_judged_by_its_own_time() {
    // The service asks for a wait. The second attempt hangs until the timeout of the whole call, and so runs for the
    // remaining time.
    let cases = [
        // the wait before the second attempt, its attempt timeout, whether it had half of its full time
        (ms(1751), Some(ms(500)), false),
        (ms(1750), Some(ms(500)), true),
        (ms(1001), None, false),
        (ms(1000), None, true),
    ];
    for (wait, attempt_timeout, was_patient) in cases {
        let breaker = counting();
        let backend = Backend::script([Act::answer(503)], Act::hang());
        let client = steadfast::client()
            .timeout(secs(2))
            .retry(Retry::new(2).backoff(Backoff::none()).without_budget())
            .circuit_breaker(breaker.clone())
            .classify(move |_: Result<&u16, &Failed>| Outcome::Overloaded { retry_after: Some(wait) });
        let result = match attempt_timeout {
            Some(limit) => client.attempt_timeout(limit).service(backend.clone()).unwrap().oneshot(()).await,
            None => client.service(backend.clone()).unwrap().oneshot(()).await,
        };
        // The whole call had its 2 s, so its timeout is not reported as cut short.
        assert!(!was_cut_short(result));
        assert_eq!(backend.arrivals(), [ms(0), wait]);
        assert_eq!(counts(&breaker), if was_patient { (2, 1) } else { (1, 0) }, "{wait:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_time_in_the_wait_queue_does_not_count_as_time_of_the_attempt() {
    for (minting, expected) in [(ms(1001), (0, 0)), (ms(1000), (1, 1))] {
        let bucket = TokenBucket::builder(1, minting).max_wait(secs(9)).build().unwrap();
        bucket.try_acquire(1).unwrap();
        let breaker = counting();
        let backend = Backend::always(Act::hang());
        let stack = steadfast::client()
            .timeout(secs(2))
            .circuit_breaker(breaker.clone())
            .rate_limit(RateLimit::new(bucket).wait())
            .service(backend.clone())
            .unwrap();
        stack.oneshot(()).await.unwrap_err();
        assert_eq!(backend.arrivals(), [minting]);
        assert_eq!(counts(&breaker), expected, "{minting:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_attempt_cut_short_has_spent_its_token_and_is_not_retried() {
    let budget = RetryBudget::builder().ratio(0.5).no_floor().build().unwrap();
    let before = budget.balance();
    let bucket = TokenBucket::builder(10, secs(36_000)).build().unwrap();
    let backend = Backend::always(Act::hang());
    let stack = steadfast::client()
        .retry(every(3, ms(1)).budget(budget.clone()))
        .rate_limit(bucket.clone())
        .attempt_timeout(ms(500))
        .service(backend.clone())
        .unwrap();
    assert!(was_cut_short(call_within(ms(50), &stack).await));
    assert_eq!((backend.calls(), bucket.available_at(Instant::now())), (1, 9));
    assert!((budget.balance() - before - 0.5).abs() < 1e-6, "it was a call, and earns its share");
}

#[tokio::test(start_paused = true)]
async fn a_timeout_reports_whether_the_call_was_cut_short_on_a_server_and_alone() {
    let alone = TimeoutLayer::new(ms(400)).unwrap().typed_error().layer(Backend::always(Act::hang()));
    let server = steadfast::server().timeout(ms(400)).service(Backend::always(Act::hang())).unwrap();
    for (left, cut_short) in [(ms(199), true), (ms(200), false), (secs(9), false)] {
        assert_eq!(was_cut_short(call_within(left, &alone).await), cut_short, "{left:?}");
        assert_eq!(was_cut_short(call_within(left, &server).await), cut_short, "{left:?}");
    }
    let context = CallContext::new().with_deadline(Instant::now());
    assert!(was_cut_short(context.scope(alone.oneshot(())).await), "a call that is not begun has no time at all");
}

#[tokio::test(start_paused = true)]
async fn a_breaker_stacked_by_hand_learns_from_the_rejection_that_the_call_was_cut_short() {
    let breaker = counting();
    let typed = ServiceBuilder::new()
        .layer(CircuitBreakerLayer::new(breaker.clone()).classify_with(Layered(AnyError)))
        .layer(TimeoutLayer::new(ms(400)).unwrap())
        .map_err(Error::<Failed>::Service)
        .service(Backend::always(Act::hang()));
    let boxed = ServiceBuilder::new()
        .layer(CircuitBreakerLayer::new(breaker.clone()).classify_with(Layered(AnyError)))
        .layer(TimeoutLayer::new(ms(400)).unwrap())
        .map_err(BoxError::from)
        .service(Backend::always(Act::hang()));
    for (left, expected) in [(ms(199), 0), (ms(200), 2)] {
        call_within(left, &typed).await.unwrap_err();
        call_within(left, &boxed).await.unwrap_err();
        assert_eq!(counts(&breaker), (expected, expected), "{left:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_service_that_fails_at_the_deadline_is_judged_like_a_call_that_was_cut_short() {
    // Two services fail at the deadline of the context. `gives_up` is like a client of a protocol that carries
    // deadlines, and `inner` is a stack inside the outer stack.
    let gives_up = tower::service_fn(|(): ()| async {
        tokio::time::sleep_until(CallContext::current().deadline().unwrap()).await;
        Err::<u16, _>(Error::<Failed>::Service(Failed))
    });
    let inner = |limit| {
        let stack = steadfast::client().timeout(limit).keep_error();
        stack.service(ServiceExt::<()>::map_err(Backend::always(Act::hang()), Error::<Failed>::Service)).unwrap()
    };
    // (calls, failures) at the breaker of the outer stack, whose attempts may take 400 ms.
    for (left, expected) in [(ms(199), (0, 0)), (ms(200), (1, 1)), (secs(9), (1, 1))] {
        let breaker = counting();
        let outer = || steadfast::client().circuit_breaker(breaker.clone()).attempt_timeout(ms(400)).keep_error();
        call_within(left, &outer().service(gives_up).unwrap()).await.unwrap_err();
        assert_eq!(counts(&breaker), expected, "{left:?}");

        for limit in [ms(400), secs(60)] {
            for layered in [false, true] {
                let breaker = counting();
                let outer = steadfast::client().circuit_breaker(breaker.clone()).attempt_timeout(ms(400)).keep_error();
                let result = if layered {
                    call_within(left, &outer.classify_with(Layered(AnyError)).service(inner(limit)).unwrap()).await
                } else {
                    call_within(left, &outer.service(inner(limit)).unwrap()).await
                };
                result.unwrap_err();
                assert_eq!(counts(&breaker), expected, "{left:?}, a limit of {limit:?} in it, layered: {layered}");
            }
        }
    }

    // An inner service may round the deadline down. Here its timer fires at 199 ms, half a millisecond before the
    // deadline of the call. The failure still counts as one at the deadline.
    let early = tower::service_fn(|(): ()| async {
        tokio::time::sleep_until(CallContext::current().deadline().unwrap() - Duration::from_micros(600)).await;
        Err::<u16, _>(Error::<Failed>::Service(Failed))
    });
    let breaker = counting();
    let outer = || steadfast::client().circuit_breaker(breaker.clone()).attempt_timeout(ms(400)).keep_error();
    let start = Instant::now();
    call_within(Duration::from_micros(199_500), &outer().service(early).unwrap()).await.unwrap_err();
    assert_eq!((Instant::now() - start, counts(&breaker)), (ms(199), (0, 0)));

    // A failure before the deadline counts, with any remaining time; so does the timeout of the inner stack.
    let breaker = counting();
    let outer = || steadfast::client().circuit_breaker(breaker.clone()).attempt_timeout(secs(4)).keep_error();
    let fails = ServiceExt::<()>::map_err(Backend::always(Act::fail().after(ms(10))), Error::<Failed>::Service);
    call_within(ms(50), &outer().service(fails).unwrap()).await.unwrap_err();
    assert_eq!(counts(&breaker), (1, 1));
    let inner = outer().classify_with(Layered(AnyError)).service(inner(ms(40))).unwrap();
    call_within(ms(50), &inner).await.unwrap_err();
    assert_eq!(counts(&breaker), (2, 2));
}
