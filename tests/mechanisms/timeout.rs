//! Timeouts: what the limit covers, which deadline ends the call, and which context the service and its clients see.

use crate::support::{Act, Backend, Counted, Failed, Stopwatch, by_status, ms, secs};
use futures::{
    FutureExt,
    future::{BoxFuture, join_all},
};
use std::{
    pin::pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};
use steadfast::{
    CallContext, Error, Rejection,
    error::{TimedOut, TimedOutBy, TimedOutIn},
    retry::{Backoff, Jitter, Retry},
    shell::TypedError,
    stack::live::StackConfig,
    timeout::{Quantile, TimeoutLayer},
};
use tokio::{
    spawn,
    task::yield_now,
    time::{Instant, advance, sleep},
};
use tower::{Layer, Service, ServiceExt, limit::ConcurrencyLimit, service_fn};

fn timed_out(limit: Option<Duration>, reached_service: bool) -> Result<u16, Error<Failed>> {
    Err(Error::Rejected(TimedOut::new(limit, reached_service).into()))
}

/// Ended by the attempt timeout, in the service.
fn attempt_timed_out(limit: Duration) -> Result<u16, Error<Failed>> {
    Err(Error::Rejected(TimedOut::new(Some(limit), true).ended_by(TimedOutBy::Attempt).into()))
}

/// Ended by a deadline that came before half of the limit.
fn cut_short(reached_service: bool) -> Result<u16, Error<Failed>> {
    Err(Error::Rejected(TimedOut::new(None, reached_service).cut_short().into()))
}

fn within(limit: Duration) -> TimeoutLayer<TypedError> {
    TimeoutLayer::new(limit).unwrap().typed_error()
}

// What the limit covers.

#[tokio::test(start_paused = true)]
async fn a_service_that_is_never_ready_ends_the_call_at_the_limit() {
    let backend = Backend::always(Act::answer(200)).ready_for(0);
    let watch = Stopwatch::start();
    assert_eq!(within(secs(10)).layer(backend.clone()).oneshot(()).await, timed_out(Some(secs(10)), false));
    assert_eq!(watch.read(), secs(10));
    assert_eq!(backend.calls(), 0);
}

#[tokio::test(start_paused = true)]
async fn the_limit_covers_the_wait_for_another_call_in_the_service() {
    let backend = Backend::always(Act::answer(200).after(secs(20)));
    let one_at_a_time = ConcurrencyLimit::new(backend.clone(), 1);
    let holds_the_place = spawn(one_at_a_time.clone().oneshot(()));
    yield_now().await;

    let watch = Stopwatch::start();
    assert_eq!(within(secs(10)).layer(one_at_a_time).oneshot(()).await, timed_out(Some(secs(10)), false));
    assert_eq!(watch.read(), secs(10));
    assert_eq!(backend.calls(), 1);
    assert_eq!(holds_the_place.await.unwrap().unwrap(), 200);
}

#[tokio::test(start_paused = true)]
async fn readiness_and_answer_share_one_limit() {
    let backend = Backend::always(Act::answer(200).after(secs(6))).ready_for(0);
    let call = spawn(within(secs(10)).layer(backend.clone()).oneshot(()));
    sleep(secs(6)).await;
    backend.set_ready_for(1);
    let watch = Stopwatch::start();
    assert_eq!(call.await.unwrap(), timed_out(Some(secs(10)), true));
    assert_eq!(watch.read(), secs(4));
}

#[tokio::test(start_paused = true)]
async fn the_limit_counts_from_the_first_poll_and_not_from_the_call() {
    let call = within(secs(10)).layer(Backend::always(Act::hang())).oneshot(());
    sleep(secs(7)).await;
    let watch = Stopwatch::start();
    assert_eq!(call.await, timed_out(Some(secs(10)), true));
    assert_eq!(watch.read(), secs(10));
}

// The answer and the end.

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_ready_at_the_deadline_is_returned() {
    let backend = Backend::always(Act::answer(200).after(secs(10)));
    let watch = Stopwatch::start();
    assert_eq!(within(secs(10)).layer(backend).oneshot(()).await, Ok(200));
    assert_eq!(watch.read(), secs(10));
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_was_ready_before_a_late_poll_is_returned() {
    let (answer, received) = tokio::sync::oneshot::channel();
    let received = Arc::new(Mutex::new(Some(received)));
    let service = service_fn(move |_: ()| received.lock().unwrap().take().unwrap());
    let mut call = Box::pin(within(secs(10)).layer(service).oneshot(()));
    assert!(futures::poll!(call.as_mut()).is_pending());
    answer.send(200).unwrap();
    advance(secs(60)).await;
    assert_eq!(call.await.unwrap(), 200);
}

#[tokio::test(start_paused = true)]
async fn an_answer_a_millisecond_after_the_deadline_is_not_waited_for() {
    let backend = Backend::always(Act::answer(200).after(ms(10_001)));
    let watch = Stopwatch::start();
    assert_eq!(within(secs(10)).layer(backend).oneshot(()).await, timed_out(Some(secs(10)), true));
    assert_eq!(watch.read(), secs(10));
}

#[tokio::test(start_paused = true)]
async fn the_services_own_error_passes_unchanged() {
    let backend = Backend::always(Act::fail().after(secs(1)));
    assert_eq!(within(secs(10)).layer(backend).oneshot(()).await, Err(Error::Service(Failed)));
}

#[tokio::test(start_paused = true)]
async fn the_services_future_is_dropped_before_the_caller_gets_the_timeout() {
    let backend = Backend::always(Act::hang());
    let seen_in_flight = Arc::new(AtomicUsize::new(usize::MAX));
    let layer = TimeoutLayer::new(secs(1)).unwrap().respond_with({
        let (backend, seen_in_flight) = (backend.clone(), seen_in_flight.clone());
        move |_: Rejection| {
            seen_in_flight.store(backend.in_flight(), Ordering::Relaxed);
            504
        }
    });
    let call = spawn(layer.layer(backend.clone()).oneshot(()));
    yield_now().await;
    assert_eq!(backend.in_flight(), 1);
    assert_eq!(call.await.unwrap(), Ok(504));
    assert_eq!(seen_in_flight.load(Ordering::Relaxed), 0);
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_call_leaves_nothing_in_the_service() {
    let backend = Backend::always(Act::hang());
    let mut call = Box::pin(within(secs(1)).layer(backend.clone()).oneshot(()));
    assert!(futures::poll!(call.as_mut()).is_pending());
    assert_eq!(backend.in_flight(), 1);
    drop(call);
    assert_eq!(backend.in_flight(), 0);
}

// The inherited deadline.

#[tokio::test(start_paused = true)]
async fn an_earlier_deadline_of_the_caller_ends_the_call_and_the_error_names_no_limit() {
    let context = CallContext::new().with_deadline(Instant::now() + secs(3));
    let watch = Stopwatch::start();
    let result = context.scope(within(secs(10)).layer(Backend::always(Act::hang())).oneshot(())).await;
    assert_eq!(result, cut_short(true));
    assert_eq!(watch.read(), secs(3));
}

#[tokio::test(start_paused = true)]
async fn the_deadline_of_a_context_never_moves_later() {
    let now = Instant::now();
    let context = CallContext::new().with_deadline(now + secs(2));
    assert_eq!(context.with_deadline(now + secs(5)).deadline(), Some(now + secs(2)));
    assert_eq!(context.with_deadline(now + secs(1)).deadline(), Some(now + secs(1)));
}

#[tokio::test(start_paused = true)]
async fn a_later_deadline_of_the_caller_does_not_extend_the_limit() {
    let context = CallContext::new().with_deadline(Instant::now() + secs(30));
    let watch = Stopwatch::start();
    let result = context.scope(within(secs(10)).layer(Backend::always(Act::hang())).oneshot(())).await;
    assert_eq!(result, timed_out(Some(secs(10)), true));
    assert_eq!(watch.read(), secs(10));
}

#[tokio::test(start_paused = true)]
async fn a_call_whose_callers_deadline_has_passed_is_not_begun() {
    let backend = Backend::always(Act::answer(200));
    let service = within(secs(10)).layer(backend.clone());
    let context = CallContext::new().with_deadline(Instant::now() + secs(1));
    sleep(ms(999)).await;
    assert_eq!(context.scope(service.clone().oneshot(())).await, Ok(200));
    sleep(ms(1)).await;
    assert_eq!(context.scope(service.oneshot(())).await, cut_short(false));
    assert_eq!(backend.calls(), 1);
}

#[test]
fn a_timeout_names_its_limit_or_the_caller_and_says_whether_the_service_was_reached() {
    let text = |limit, reached| TimedOut::new(limit, reached).to_string();
    assert_eq!(text(Some(ms(250)), true), "no answer within 250 ms");
    assert_eq!(text(Some(ms(250)), false), "no answer within 250 ms; the service was not reached");
    assert_eq!(text(None, true), "no answer by the deadline of the caller");
    assert_eq!(text(None, false), "no answer by the deadline of the caller; the service was not reached");
}

#[tokio::test(start_paused = true)]
async fn a_timeout_says_which_deadline_ended_the_call_in_which_phase_and_after_how_long() {
    let details = |result: Result<u16, Error<Failed>>| match result {
        Err(Error::Rejected(Rejection::TimedOut(details))) => details,
        other => panic!("{other:?}"),
    };
    let hangs = Backend::always(Act::hang());
    let unready = Backend::always(Act::answer(200)).ready_for(0);
    let by_attempt = steadfast::client().attempt_timeout(ms(1500)).service(hangs.clone()).unwrap();
    let timed_out = details(by_attempt.oneshot(()).await);
    assert_eq!(timed_out.to_string(), "no answer within 1.5 s (attempt timeout), given up in the service after 1.5 s");
    assert_eq!((timed_out.by(), timed_out.phase()), (TimedOutBy::Attempt, TimedOutIn::Service));

    let timed_out = details(within(secs(10)).layer(unready).oneshot(()).await);
    assert_eq!((timed_out.by(), timed_out.phase()), (TimedOutBy::Call, TimedOutIn::Readiness));
    assert_eq!(timed_out.spent(), Some(secs(10)));

    let context = CallContext::new().with_deadline(Instant::now() + secs(3));
    let timed_out = details(context.scope(within(secs(10)).layer(hangs).oneshot(())).await);
    assert_eq!((timed_out.by(), timed_out.phase()), (TimedOutBy::Caller, TimedOutIn::Service));
    assert_eq!((timed_out.limit(), timed_out.spent()), (None, Some(secs(3))));

    let context = CallContext::new().with_deadline(Instant::now());
    let timed_out = details(context.scope(within(secs(10)).layer(Backend::always(Act::hang())).oneshot(())).await);
    assert_eq!((timed_out.by(), timed_out.phase()), (TimedOutBy::Caller, TimedOutIn::Waiting));
    assert_eq!(timed_out.spent(), Some(Duration::ZERO));
    let text = "no answer by the deadline of the caller, refused before it began; the service was not reached";
    assert_eq!(timed_out.to_string(), text);
}

// A learned timeout.

#[test]
fn a_learned_attempt_timeout_does_not_contradict_a_shorter_timeout_of_the_call() {
    let learned = Quantile::builder(0.001).build().unwrap();
    let stack = steadfast::client().timeout(secs(2)).attempt_timeout(learned.clone()).keep_error().layer().unwrap();
    let explanation = stack.explain();
    assert_eq!(explanation.worst_case_latency(), Some(secs(2)));
    let layers: Vec<_> = explanation.layers().collect();
    assert_eq!(layers, [("timeout", "2s"), ("attempt timeout", "learned, at most 30s")]);
    // No attempt can take its 31 s, since the learned timeout of the whole call is at most 30 s.
    let error = steadfast::client().timeout(learned).attempt_timeout(secs(31)).keep_error().layer().unwrap_err();
    assert_eq!(error.field(), "timeout");
}

#[test]
fn a_configuration_that_sets_a_learned_timeout_is_refused() {
    let learned = || Quantile::builder(0.001).build().unwrap();
    let (_, control) = steadfast::client().timeout(learned()).attempt_timeout(learned()).keep_error().live().unwrap();
    let rule = "must be left out: the stack learns this timeout";
    let cases = [
        ("timeout", StackConfig { timeout: Some(secs(1)), ..StackConfig::default() }),
        ("attempt_timeout", StackConfig { attempt_timeout: Some(secs(1)), ..StackConfig::default() }),
    ];
    for (field, config) in cases {
        let error = control.apply(&config).unwrap_err();
        assert_eq!((error.field(), error.rule()), (field, rule));
    }
    control.apply(&StackConfig::default()).unwrap();
}

// Several timeouts.

#[tokio::test(start_paused = true)]
async fn the_shorter_of_two_nested_timeouts_ends_the_call() {
    for (outer, inner) in [(1, 5), (5, 1)] {
        let service =
            TimeoutLayer::new(secs(outer)).unwrap().layer(within(secs(inner)).layer(Backend::always(Act::hang())));
        let watch = Stopwatch::start();
        assert_eq!(service.oneshot(()).await, timed_out(Some(secs(1)), true), "{outer} s around {inner} s");
        assert_eq!(watch.read(), secs(1));
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_that_the_stacks_timeout_ends_names_that_limit_even_during_an_attempt() {
    // The service asks for a wait of a second. The second attempt begins at 1001 ms and may take until 1901 ms.
    let backend = Backend::script([Act::answer(503)], Act::hang());
    let stack = steadfast::client()
        .timeout(secs(2))
        .retry(Retry::new(2).without_budget().backoff(Backoff::exponential(ms(1), ms(1)).jitter(Jitter::None)))
        .attempt_timeout(ms(900))
        .classify(by_status);
    let service = stack.service(backend.clone()).unwrap();
    let in_time = Stopwatch::start();
    assert_eq!(service.oneshot(()).await, attempt_timed_out(ms(900)));
    assert_eq!(in_time.read(), ms(1901));

    // Here the attempt may take until 2.1 s, and the limit of the whole call comes first.
    let backend = Backend::script([Act::answer(503)], Act::hang());
    let stack = steadfast::client()
        .timeout(secs(2))
        .retry(Retry::new(2).without_budget().backoff(Backoff::exponential(ms(200), ms(200)).jitter(Jitter::None)))
        .attempt_timeout(ms(900))
        .classify(by_status);
    let watch = Stopwatch::start();
    let result = stack.service(backend.clone()).unwrap().oneshot(()).await;
    assert_eq!(watch.read(), secs(2));
    assert_eq!(result, timed_out(Some(secs(2)), true));
}

#[tokio::test(start_paused = true)]
async fn the_longest_allowed_limit_works() {
    let year = secs(366 * 24 * 60 * 60);
    let patient = within(year).layer(Backend::always(Act::answer(200).after(year - secs(1))));
    assert_eq!(patient.oneshot(()).await, Ok(200));

    let watch = Stopwatch::start();
    assert_eq!(within(year).layer(Backend::always(Act::hang())).oneshot(()).await, timed_out(Some(year), true));
    assert_eq!(watch.read(), year);
}

#[tokio::test(start_paused = true)]
async fn a_deadline_beyond_any_timer_acts_as_no_deadline() {
    let far = Instant::now() + secs(1_000_000_000_000);
    let service = within(secs(1)).layer(Backend::always(Act::hang()));
    let result = CallContext::new().with_deadline(far).scope(service.oneshot(())).await;
    assert_eq!(result, timed_out(Some(secs(1)), true));
}

// Cost: a pending call is polled only when something happened, never to look at the clock.

#[tokio::test(start_paused = true)]
async fn a_call_that_times_out_is_polled_twice() {
    let backend = Backend::always(Act::hang());
    let (result, polls) = Counted::new(within(secs(10)).layer(backend.clone()).oneshot(())).await;
    assert_eq!(result, timed_out(Some(secs(10)), true));
    assert_eq!((polls, backend.polls()), (2, 2));
}

#[tokio::test(start_paused = true)]
async fn a_stack_of_timeouts_and_retries_has_one_timer() {
    // Two attempts of 1 s, 100 ms apart: polled at 0, 1, 1.1 and 2.1 s, and not at the limit of 10 s.
    let backend = Backend::always(Act::hang());
    let stack = steadfast::client()
        .timeout(secs(10))
        .retry(Retry::new(2).backoff(Backoff::exponential(ms(100), ms(100)).jitter(Jitter::None)).without_budget())
        .attempt_timeout(secs(1));
    let watch = Stopwatch::start();
    let (result, polls) = Counted::new(stack.service(backend.clone()).unwrap().oneshot(())).await;
    assert_eq!(result, attempt_timed_out(secs(1)));
    assert_eq!(watch.read(), ms(2100));
    assert_eq!((polls, backend.polls()), (4, 4));
}

#[tokio::test(start_paused = true)]
async fn an_answered_call_leaves_no_timer_behind_even_if_its_future_is_kept() {
    let wakes = Arc::new(Wakes::default());
    let waker = Waker::from(wakes.clone());
    let mut cx = Context::from_waker(&waker);
    // `oneshot` would drop the future of the service.
    let mut call = pin!(within(secs(1)).layer(Backend::always(Act::answer(200).after(ms(5)))).call(()));
    assert!(call.as_mut().poll(&mut cx).is_pending());
    sleep(ms(5)).await;
    assert_eq!(call.as_mut().poll(&mut cx), Poll::Ready(Ok(200)));
    let until_the_answer = wakes.0.load(Ordering::Relaxed);
    sleep(secs(10)).await;
    assert_eq!((until_the_answer, wakes.0.load(Ordering::Relaxed)), (1, 1));
}

#[derive(Default)]
struct Wakes(AtomicUsize);

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn a_call_that_is_answered_at_once_needs_no_timer() {
    // Without a runtime, making a timer would panic.
    let service = within(secs(1)).layer(Backend::always(Act::answer(200)));
    assert_eq!(service.oneshot(()).now_or_never(), Some(Ok(200)));
}

// The deadline inside a server, and in the clients that its handler calls.

/// A server with this limit, whose handler answers with the deadline that it sees.
async fn deadline_seen_by_a_handler(limit: Duration, inherited: Option<Instant>) -> Option<Instant> {
    let handler = service_fn(async |_: ()| Ok::<_, Failed>(CallContext::current().deadline()));
    let server = steadfast::server().timeout(limit).service(handler).unwrap();
    let context = inherited.map_or(CallContext::new(), |deadline| CallContext::new().with_deadline(deadline));
    context.scope(server.oneshot(())).await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_handler_sees_the_earlier_of_its_servers_limit_and_its_callers_deadline() {
    let now = Instant::now();
    assert_eq!(deadline_seen_by_a_handler(secs(2), None).await, Some(now + secs(2)));
    assert_eq!(deadline_seen_by_a_handler(secs(2), Some(now + secs(1))).await, Some(now + secs(1)));
    assert_eq!(deadline_seen_by_a_handler(secs(2), Some(now + secs(5))).await, Some(now + secs(2)));
    assert_eq!(CallContext::current().deadline(), None);
}

#[tokio::test(start_paused = true)]
async fn a_handler_sees_the_deadline_in_every_poll_of_its_readiness_its_call_and_its_future() {
    #[derive(Clone, Default)]
    struct Handler(Arc<Mutex<Vec<Option<Instant>>>>);

    impl Handler {
        fn look(&self) {
            self.0.lock().unwrap().push(CallContext::current().deadline());
        }
    }

    impl Service<()> for Handler {
        type Response = ();
        type Error = Failed;
        type Future = BoxFuture<'static, Result<(), Failed>>;

        fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Failed>> {
            self.look();
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, (): ()) -> Self::Future {
            self.look();
            let this = self.clone();
            Box::pin(async move {
                this.look();
                sleep(ms(500)).await;
                this.look();
                Ok(())
            })
        }
    }

    let handler = Handler::default();
    let now = Instant::now();
    steadfast::server().timeout(secs(2)).service(handler.clone()).unwrap().oneshot(()).await.unwrap();
    assert_eq!(*handler.0.lock().unwrap(), [Some(now + secs(2)); 4]);
}

#[tokio::test(start_paused = true)]
async fn nested_servers_pass_on_the_earliest_deadline() {
    let handler = service_fn(async |_: ()| Ok::<_, Failed>(CallContext::current().deadline()));
    let inner = steadfast::server().timeout(secs(9)).service(handler).unwrap();
    let middle = steadfast::server().timeout(secs(3)).service(inner).unwrap();
    let outer = steadfast::server().timeout(secs(6)).service(middle).unwrap();
    let now = Instant::now();
    assert_eq!(outer.oneshot(()).await.unwrap(), Some(now + secs(3)));
}

/// Five attempts, 400 ms apart.
fn patient_retry() -> Retry {
    let backoff = Backoff::exponential(ms(400), ms(400)).jitter(Jitter::None);
    Retry::new(5).backoff(backoff).without_budget()
}

#[tokio::test(start_paused = true)]
async fn a_client_inside_a_handler_does_not_wait_past_the_servers_deadline() {
    let backend = Backend::always(Act::fail());
    let client = steadfast::client().retry(patient_retry()).service(backend.clone()).unwrap();
    let handler = service_fn(move |_: ()| client.clone().oneshot(()));
    let server = steadfast::server().timeout(secs(1)).service(handler).unwrap();

    let watch = Stopwatch::start();
    let error = server.oneshot(()).await.unwrap_err();
    // The third attempt fails at 800 ms. A fourth would begin at 1200 ms.
    assert_eq!(error, Error::Service(Error::Service(Failed)));
    assert_eq!(watch.read(), ms(800));
    assert_eq!(backend.arrivals(), [ms(0), ms(400), ms(800)]);
}

#[tokio::test(start_paused = true)]
async fn a_client_with_a_longer_limit_inside_a_handler_ends_by_the_servers_deadline() {
    let client = steadfast::client().timeout(secs(30)).service(Backend::always(Act::hang())).unwrap();
    let results = Arc::new(Mutex::new(Vec::new()));
    let handler = service_fn({
        let results = results.clone();
        move |_: ()| {
            let (call, results) = (client.clone().oneshot(()), results.clone());
            async move {
                let result = call.await;
                results.lock().unwrap().push(result);
                Ok::<_, Failed>(())
            }
        }
    });
    let server = steadfast::server().timeout(secs(1)).service(handler).unwrap();
    let watch = Stopwatch::start();
    // Client and server both reach their deadline at 1 s. The handler is polled first, so its answer counts.
    assert_eq!(server.oneshot(()).await, Ok(()));
    assert_eq!(watch.read(), secs(1));
    assert_eq!(*results.lock().unwrap(), [cut_short(true)]);
}

#[tokio::test(start_paused = true)]
async fn a_spawned_task_loses_the_deadline_and_a_scope_carries_it_across() {
    for (carried, attempts) in [(false, 5), (true, 3)] {
        let backend = Backend::always(Act::fail());
        let client = steadfast::client().retry(patient_retry()).service(backend.clone()).unwrap();
        let handler = service_fn(move |_: ()| {
            let call = client.clone().oneshot(());
            let task = if carried { spawn(CallContext::current().scope(call)) } else { spawn(call) };
            async move { task.await.unwrap() }
        });
        let server = steadfast::server().timeout(secs(1)).service(handler).unwrap();
        let watch = Stopwatch::start();
        let result = server.oneshot(()).await;
        if carried {
            assert_eq!(result, Err(Error::Service(Error::Service(Failed))));
            assert_eq!(watch.read(), ms(800));
        } else {
            assert_eq!(result, Err(Error::Rejected(TimedOut::new(Some(secs(1)), true).into())));
            assert_eq!(watch.read(), secs(1));
        }
        sleep(secs(10)).await;
        assert_eq!(backend.calls(), attempts);
    }
}

#[tokio::test(start_paused = true)]
async fn concurrent_calls_do_not_see_each_others_deadlines() {
    let handler = service_fn(async |_: ()| {
        yield_now().await;
        Ok::<_, Failed>(CallContext::current().deadline())
    });
    let now = Instant::now();
    let calls = (1..=5).map(|limit| steadfast::server().timeout(secs(limit)).service(handler).unwrap().oneshot(()));
    let seen: Vec<_> = join_all(calls).await.into_iter().map(|result| result.unwrap().unwrap() - now).collect();
    assert_eq!(seen, [secs(1), secs(2), secs(3), secs(4), secs(5)]);
}
