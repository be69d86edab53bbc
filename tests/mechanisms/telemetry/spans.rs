//! The spans of calls and attempts: their tree and their fields.

use super::{collector::Collector, instrument::answers};
use crate::{
    counting::so_far,
    probes::{every, poll, poll_panics},
    support::{Act, Backend, by_status, ms},
};
use std::time::Duration;
use steadfast::{CallContext, circuit_breaker::Breaker, load_shed::Limiter, telemetry::Spans};
use tower::{Layer, Service, ServiceExt};
use tracing::{
    Level,
    subscriber::{NoSubscriber, set_default},
};

/// The trace of one call of a client with two attempts.
async fn traced(acts: impl IntoIterator<Item = Act>, then: Act) -> Vec<String> {
    let (collector, _guard) = Collector::begin(Level::DEBUG);
    let client = steadfast::client()
        .observe("payments", Spans::new())
        .timeout(ms(100))
        .retry(every(2, ms(10)))
        .attempt_timeout(ms(40))
        .classify(by_status)
        .service(Backend::script(acts, then))
        .unwrap();
    let _ = client.oneshot(()).await;
    assert_eq!((collector.open(), collector.entered()), (0, 0));
    collector.take()
}

#[tokio::test(start_paused = true)]
async fn attempts_are_children_of_their_call_and_record_their_outcome() {
    assert_eq!(
        traced([Act::fail().after(ms(3))], Act::answer(200).after(ms(3))).await,
        [
            "steadfast.call > steadfast.attempt stack=payments outcome=failure",
            "DEBUG steadfast.call: retrying stack=payments attempt=1",
            "steadfast.call > steadfast.attempt stack=payments http.request.resend_count=1 outcome=success",
            "steadfast.call stack=payments outcome=success attempts=2",
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn a_denied_retry_is_logged_with_its_reason() {
    assert_eq!(
        traced([], Act::answer(500)).await[3..],
        [
            "DEBUG steadfast.call: a retry was denied stack=payments reason=exhausted",
            "steadfast.call stack=payments outcome=failure attempts=2 error.type=failure",
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn a_rejected_call_names_the_mechanism() {
    let lines = traced([], Act::hang()).await;
    assert_eq!(lines[0], "steadfast.call > steadfast.attempt stack=payments outcome=timed_out");
    assert_eq!(
        lines[3..],
        [
            "DEBUG steadfast.call: timeout: no answer within 40 ms (attempt timeout), given up in the service after 40 ms stack=payments mechanism=timeout reason=limit \
             reached=true",
            "WARN steadfast.call: calls were rejected stack=payments mechanism=timeout count=1",
            "DEBUG steadfast.call: a retry was denied stack=payments reason=exhausted",
            "steadfast.call stack=payments outcome=timed_out attempts=2 error.type=timeout",
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn a_rejection_makes_no_attempt_and_logs_its_hint() {
    let (collector, _guard) = Collector::begin(Level::DEBUG);
    let breaker = Breaker::builder().consecutive_failures(1).open_for(ms(500)).build().unwrap();
    let client = steadfast::client().observe("payments", Spans::new()).circuit_breaker(breaker);
    let client = client.service(Backend::always(Act::fail())).unwrap();
    let _ = client.clone().oneshot(()).await;
    let failed = [
        "steadfast.call > steadfast.attempt stack=payments outcome=failure",
        "steadfast.call stack=payments \
        outcome=failure attempts=1 error.type=failure",
    ];
    let lines = collector.take();
    assert_eq!([&lines[0], lines.last().unwrap()], failed);
    let _ = client.oneshot(()).await;
    assert_eq!(
        collector.take(),
        [
            "DEBUG steadfast.call: circuit breaker: open for another 500 ms stack=payments mechanism=circuit_breaker \
             reason=open reached=false retry_after=500ms",
            "WARN steadfast.call: calls were rejected stack=payments mechanism=circuit_breaker count=1",
            "steadfast.call stack=payments outcome=rejected attempts=1 error.type=circuit_breaker",
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn a_dropped_call_is_cancelled_and_a_call_whose_service_panics_is_panicked() {
    let (collector, _guard) = Collector::begin(Level::DEBUG);
    let client = steadfast::client().observe("payments", Spans::new());
    let client = client.service(Backend::script([Act::hang()], Act::panic_at_once())).unwrap();
    let mut call = Box::pin(client.clone().call(()));
    assert!(poll(&mut call).is_pending());
    assert_eq!((collector.open(), collector.entered()), (2, 0));
    drop(call);
    let cancelled = [
        "steadfast.call > steadfast.attempt stack=payments outcome=cancelled",
        "steadfast.call stack=payments outcome=cancelled attempts=1 error.type=cancelled",
    ];
    assert_eq!(collector.take(), cancelled);
    poll_panics(&mut Box::pin(client.clone().call(())));
    assert_eq!(
        collector.take(),
        [
            "steadfast.call > steadfast.attempt stack=payments outcome=panicked",
            "steadfast.call stack=payments outcome=panicked error.type=panicked",
        ]
    );
    assert_eq!((collector.open(), collector.entered()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn the_parent_of_a_call_is_the_span_of_its_first_poll() {
    let (collector, _guard) = Collector::begin(Level::DEBUG);
    let client = steadfast::client().observe("payments", Spans::new()).service(answers()).unwrap();
    let outer = steadfast::server().observe("shop", Spans::new()).service(client).unwrap();
    outer.oneshot(()).await.unwrap();
    let lines = collector.take();
    assert_eq!(lines.len(), 3);
    assert_eq!(lines[0], "steadfast.call > steadfast.call > steadfast.attempt stack=payments outcome=success",);
    assert_eq!(lines[2], "steadfast.call stack=shop outcome=success attempts=1");
}

#[tokio::test(start_paused = true)]
async fn a_stack_without_a_retry_uses_the_attempt_number_of_its_caller() {
    let (collector, _guard) = Collector::begin(Level::DEBUG);
    let client = steadfast::client().observe("payments", Spans::new()).service(answers()).unwrap();
    CallContext::new().with_attempt(3).scope(client.oneshot(())).await.unwrap();
    assert_eq!(
        collector.take()[..2],
        [
            "DEBUG steadfast.call: retrying stack=payments attempt=3",
            "steadfast.call > steadfast.attempt stack=payments http.request.resend_count=3 outcome=success",
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn above_debug_there_are_warnings_but_no_spans() {
    let (collector, _guard) = Collector::begin(Level::INFO);
    let limiter = Limiter::fixed(1).unwrap();
    let _place = limiter.try_acquire_owned().unwrap();
    let server = steadfast::server().observe("shop", Spans::new()).load_shed(limiter.clone());
    let _ = server.service(answers()).unwrap().oneshot(()).await;
    assert_eq!(collector.take(), ["WARN calls were rejected stack=shop mechanism=load_shed count=1"]);
}

/// The allocations of a thousand calls, admitted and refused.
fn allocations() -> u64 {
    let limiter = Limiter::fixed(1).unwrap();
    let client = steadfast::client()
        .observe("payments", (Spans::new(), Spans::default()))
        .retry(every(2, Duration::from_millis(1)))
        .load_shed(limiter.clone())
        .border(steadfast::shell::TypedError)
        .layer()
        .unwrap()
        .layer(tower::service_fn(|()| std::future::ready(Ok::<_, ()>(()))));
    let call = |answered: bool| {
        let mut call = std::pin::pin!(client.clone().call(()));
        let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
        match call.as_mut().poll(&mut cx) {
            std::task::Poll::Ready(result) => assert_eq!(result.is_ok(), answered),
            std::task::Poll::Pending => panic!("it is decided at once"),
        }
    };
    call(true);
    let before = so_far().times;
    (0..500).for_each(|_| call(true));
    let place = limiter.try_acquire().unwrap();
    (0..500).for_each(|_| call(false));
    drop(place);
    so_far().times - before
}

#[test]
fn without_a_subscriber_or_with_errors_only_nothing_is_allocated() {
    // Other tests set subscribers on their own threads, which turns tracing on in the whole process. This thread gets a
    // subscriber that records nothing.
    let guard = set_default(NoSubscriber::new());
    assert_eq!(allocations(), 0);
    drop(guard);
    let (collector, guard) = Collector::begin(Level::ERROR);
    assert_eq!(allocations(), 0);
    drop(guard);
    assert!(collector.take().is_empty());
}
