//! Limits that a closure chooses for each request.

use crate::support::{Act, Backend, Counted, Failed, Stopwatch, by_status, ms, secs};
use futures::FutureExt;
use std::{
    panic::AssertUnwindSafe,
    pin::pin,
    sync::atomic::{AtomicU32, Ordering},
    task::{Context, Waker},
    time::Duration,
};
use steadfast::{
    CallContext, Error, Rejection,
    circuit_breaker::{Breaker, BreakerState},
    error::{TimedOut, TimedOutBy, TimedOutIn},
    load_shed::Limiter,
    retry::{Backoff, Jitter, Retry},
    stack::live::StackConfig,
    timeout::{PerRequest, TimeoutLayer},
};
use tokio::time::{Instant, advance};
use tower::{Layer, ServiceExt, service_fn};

fn millis(request: &u64) -> Option<Duration> {
    Some(ms(*request))
}

fn details(result: Result<u16, Error<Failed>>) -> TimedOut {
    match result {
        Err(Error::Rejected(Rejection::TimedOut(details))) => details,
        other => panic!("no timeout: {other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn each_request_has_the_limit_that_the_closure_chooses() {
    let hangs = || Backend::always(Act::hang());
    let layer = TimeoutLayer::by(millis).typed_error().layer(hangs());
    let call = steadfast::client().timeout(PerRequest::new(millis)).service(hangs()).unwrap();
    let attempt = steadfast::client().attempt_timeout(PerRequest::new(millis)).service(hangs()).unwrap();
    let server = steadfast::server().timeout(PerRequest::new(millis)).service(hangs()).unwrap();
    for limit in [1, 250, 4000] {
        let watch = Stopwatch::start();
        let results = [
            layer.clone().oneshot(limit).await,
            call.clone().oneshot(limit).await,
            attempt.clone().oneshot(limit).await,
            server.clone().oneshot(limit).await,
        ];
        assert_eq!(watch.read(), 4 * ms(limit));
        let by = [TimedOutBy::Call, TimedOutBy::Call, TimedOutBy::Attempt, TimedOutBy::Call];
        for (result, by) in results.into_iter().zip(by) {
            let details = details(result);
            assert_eq!((details.limit(), details.spent(), details.by()), (Some(ms(limit)), Some(ms(limit)), by));
            assert_eq!((details.phase(), details.was_cut_short()), (TimedOutIn::Service, false));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn none_sets_no_limit_and_the_callers_deadline_still_ends_the_call() {
    let none = PerRequest::new(|_: &()| None);
    let slow = Backend::always(Act::answer(200).after(secs(1_000_000)));
    let layer = TimeoutLayer::by(|_: &()| None).typed_error().layer(slow.clone());
    let both = steadfast::client().timeout(none).attempt_timeout(none).service(slow.clone()).unwrap();
    assert_eq!(layer.clone().oneshot(()).await, Ok(200));
    assert_eq!(both.clone().oneshot(()).await, Ok(200));
    for service in [layer.oneshot(()).boxed(), both.oneshot(()).boxed()] {
        let watch = Stopwatch::start();
        let details = details(CallContext::new().with_deadline(Instant::now() + secs(3)).scope(service).await);
        assert_eq!(watch.read(), secs(3));
        assert_eq!((details.limit(), details.by()), (None, TimedOutBy::Caller));
        // A timeout is reported as cut short if the call had less than half of its limit. Without a limit, a timeout is
        // always reported so.
        assert!(details.was_cut_short());
    }
    // A fixed limit of an inner or outer timeout still counts.
    let hangs = || Backend::always(Act::hang());
    let inside = steadfast::client().timeout(none).attempt_timeout(secs(2)).service(hangs()).unwrap();
    assert_eq!(details(inside.oneshot(()).await).limit(), Some(secs(2)));
    let around = steadfast::client().timeout(secs(2)).attempt_timeout(none).service(hangs()).unwrap();
    assert_eq!(details(around.oneshot(()).await).limit(), Some(secs(2)));
}

#[tokio::test(start_paused = true)]
async fn a_limit_of_zero_refuses_the_call_before_it_begins() {
    let backend = Backend::always(Act::answer(200));
    let breaker = Breaker::builder().consecutive_failures(1).build().unwrap();
    let layer = TimeoutLayer::by(|_: &()| Some(Duration::ZERO)).typed_error().layer(backend.clone());
    let stack = steadfast::client().circuit_breaker(breaker.clone());
    let stack = stack.attempt_timeout(PerRequest::new(|_: &()| Some(Duration::ZERO))).service(backend.clone());
    for (result, by) in
        [(layer.oneshot(()).await, TimedOutBy::Call), (stack.unwrap().oneshot(()).await, TimedOutBy::Attempt)]
    {
        let details = details(result);
        assert_eq!((details.limit(), details.by()), (Some(Duration::ZERO), by));
        assert_eq!((details.phase(), details.spent()), (TimedOutIn::Waiting, Some(Duration::ZERO)));
        assert!(details.to_string().ends_with(", refused before it began; the service was not reached"), "{details}");
    }
    assert_eq!(backend.calls(), 0);
    assert_eq!(breaker.state(), BreakerState::Closed, "the service did not fail");
}

#[tokio::test(start_paused = true)]
async fn the_longest_and_the_shortest_limits_are_safe() {
    for limit in [Duration::MAX, Duration::from_nanos(u64::MAX), secs(u64::MAX / 2), secs(1_000_000_000_000)] {
        let layer = TimeoutLayer::by(move |_: &()| Some(limit)).typed_error();
        let answers = layer.layer(Backend::always(Act::answer(200).after(secs(1_000_000))));
        assert_eq!(answers.oneshot(()).await, Ok(200), "{limit:?}");
        let server = steadfast::server().timeout(PerRequest::new(move |_: &()| Some(limit)));
        let server = server.service(Backend::always(Act::hang())).unwrap();
        let context = CallContext::new().with_deadline(Instant::now() + secs(1));
        assert!(details(context.scope(server.oneshot(())).await).was_cut_short(), "{limit:?}");
    }
    let shortest = TimeoutLayer::by(|_: &()| Some(Duration::from_nanos(1))).typed_error();
    let hangs = shortest.layer(Backend::always(Act::hang()));
    assert_eq!(details(hangs.oneshot(()).await).limit(), Some(Duration::from_nanos(1)));
}

#[tokio::test(start_paused = true)]
async fn an_attempt_timeout_is_chosen_for_each_attempt() {
    static ASKED: AtomicU32 = AtomicU32::new(0);
    let growing = PerRequest::new(|_: &()| Some(secs(1 + u64::from(ASKED.fetch_add(1, Ordering::Relaxed)))));
    let backend = Backend::always(Act::hang());
    let backoff = Backoff::exponential(ms(100), ms(100)).jitter(Jitter::None);
    let retry = Retry::new(3).backoff(backoff).without_budget();
    let stack = steadfast::client().retry(retry).attempt_timeout(growing).classify(by_status);
    let (result, polls) = Counted::new(stack.service(backend.clone()).unwrap().oneshot(())).await;
    assert_eq!(details(result).limit(), Some(secs(3)));
    assert_eq!(backend.arrivals(), [ms(0), ms(1100), ms(3200)]);
    assert_eq!((polls, ASKED.load(Ordering::Relaxed)), (6, 3));
}

#[tokio::test(start_paused = true)]
async fn a_call_whose_deadline_has_passed_does_not_ask_the_closure() {
    let never = PerRequest::new(|_: &()| -> Option<Duration> { panic!("asked in vain") });
    let service = steadfast::client().timeout(never).service(Backend::always(Act::answer(200))).unwrap();
    let result = CallContext::new().with_deadline(Instant::now()).scope(service.oneshot(())).await;
    assert_eq!(details(result).by(), TimedOutBy::Caller);
}

#[tokio::test(start_paused = true)]
async fn the_limit_counts_from_the_end_of_the_closure() {
    let slow = |_: &()| {
        let _ = pin!(advance(ms(60))).poll(&mut Context::from_waker(Waker::noop()));
        Some(ms(100))
    };
    let begin = Instant::now();
    let handler = service_fn(async |(): ()| Ok::<_, Failed>(CallContext::current().deadline()));
    let server = steadfast::server().timeout(PerRequest::new(slow)).service(handler).unwrap();
    assert_eq!(server.oneshot(()).await, Ok(Some(begin + ms(160))));

    let begin = Instant::now();
    let alone = TimeoutLayer::by(slow).typed_error().layer(Backend::always(Act::hang()));
    let details = details(alone.oneshot(()).await);
    assert_eq!((details.spent(), Instant::now() - begin), (Some(ms(100)), ms(160)));
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_the_closure_returns_the_permits_of_the_call() {
    let limiter = Limiter::fixed(1).unwrap();
    let panics = PerRequest::new(|panics: &bool| if *panics { panic!("of the closure") } else { Some(secs(1)) });
    let backend = Backend::always(Act::answer(200));
    let stack = steadfast::client().load_shed(limiter.clone()).attempt_timeout(panics).service(backend.clone());
    let service = stack.unwrap();
    assert!(AssertUnwindSafe(service.clone().oneshot(true)).catch_unwind().await.is_err());
    assert_eq!((limiter.in_flight(), backend.calls()), (0, 0));
    assert_eq!(service.oneshot(false).await, Ok(200));
}

#[test]
fn an_explanation_says_that_the_limit_is_chosen_for_each_request() {
    let stack = steadfast::client().timeout(PerRequest::new(millis)).attempt_timeout(secs(2));
    let explanation = stack.keep_error().layer().unwrap().explain();
    let layers: Vec<_> = explanation.layers().collect();
    assert_eq!(layers, [("timeout", "chosen for each request"), ("attempt timeout", "2s")]);
    assert_eq!(explanation.worst_case_latency(), Some(secs(2)));
    let stack = steadfast::client().timeout(secs(9)).attempt_timeout(PerRequest::new(millis));
    assert_eq!(stack.keep_error().layer().unwrap().explain().worst_case_latency(), Some(secs(9)));
    let unbounded = steadfast::server().timeout(PerRequest::new(millis)).keep_error().layer().unwrap().explain();
    assert_eq!(unbounded.worst_case_latency(), None);
}

#[tokio::test(start_paused = true)]
async fn a_configuration_cannot_set_a_limit_that_a_closure_chooses() {
    let limit = PerRequest::new(millis);
    let (layer, control) = steadfast::client().timeout(limit).attempt_timeout(limit).live().unwrap();
    let rule = "must be left out: the stack chooses this timeout for each request";
    let cases = [
        ("timeout", StackConfig { timeout: Some(secs(1)), ..StackConfig::default() }),
        ("attempt_timeout", StackConfig { attempt_timeout: Some(secs(1)), ..StackConfig::default() }),
    ];
    for (field, config) in cases {
        let error = control.apply(&config).unwrap_err();
        assert_eq!((error.field(), error.rule()), (field, rule));
    }
    control.apply(&StackConfig::default()).unwrap();
    let service = layer.layer(Backend::always(Act::hang()));
    assert_eq!(details(service.oneshot(7).await).limit(), Some(ms(7)));
}
