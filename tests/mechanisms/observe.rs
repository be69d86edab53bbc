//! Each call and each attempt reports its beginning and its end to the observer, once. A stack without an observer has
//! no stage for it.

use crate::{
    probes::{Recorder, every, poll},
    support::{Act, Backend, by_status, ms, secs},
};
use futures::FutureExt;
use std::{
    mem::size_of_val,
    task::{Context, Poll},
    time::Duration,
};
use steadfast::{
    CallContext, Outcome, Rejection,
    circuit_breaker::Breaker,
    classify::AnyError,
    load_level::Queue,
    load_shed::Limiter,
    rate_limit::TokenBucket,
    shell::{
        Admission, AdmissionStage, Begin, Decision, End, Ending, Frame, GateStage, Leaf, ObserveStage, Observed,
        Observer, ScopeStage, StackLayer, TypedError,
    },
    stack::live::StackConfig,
};
use tokio::time::{Instant, advance};
use tower::{Layer, Service, ServiceExt};

/// Returns the record of one call of a client with three attempts and waits of 10 ms.
async fn noted(acts: impl IntoIterator<Item = Act>, then: Act) -> Vec<String> {
    let recorder: Recorder = Recorder::default();
    let client = steadfast::client()
        .observe("payments", recorder.clone())
        .timeout(ms(100))
        .retry(every(3, ms(10)))
        .attempt_timeout(ms(40))
        .classify(by_status)
        .service(Backend::script(acts, then))
        .unwrap();
    assert_eq!(recorder.events.take(), ["watches payments"]);
    let _ = client.oneshot(()).await;
    assert_eq!(recorder.open.alive(), 0);
    recorder.events.take()
}

#[tokio::test(start_paused = true)]
async fn each_call_and_each_attempt_begins_and_ends_once_with_its_result() {
    assert_eq!(
        noted([], Act::answer(200).after(ms(7))).await,
        [
            "call 0 begins",
            "attempt 0 begins",
            "attempt ends in 7 ms: Answered(Success)",
            "call ends in 7 ms: Answered(Success)",
        ]
    );
    assert_eq!(
        noted([Act::fail().after(ms(3)), Act::hang()], Act::answer(404)).await,
        [
            "call 0 begins",
            "attempt 0 begins",
            "attempt ends in 3 ms: Answered(Failure)",
            "attempt 1 begins",
            "attempt ends in 40 ms: TimedOut",
            "attempt 2 begins",
            "attempt ends in 0 ms: Answered(Ignored)",
            "call ends in 63 ms: Answered(Ignored)",
            "3 attempts, waited 20 ms, denied: None",
        ]
    );
    assert_eq!(
        noted([], Act::answer(500)).await[6..],
        [
            "attempt ends in 0 ms: Answered(Failure)",
            "call ends in 20 ms: Answered(Failure)",
            "3 attempts, waited 20 ms, denied: Some(Exhausted)",
        ]
    );
    assert_eq!(
        noted([], Act::hang()).await[3..],
        [
            "attempt 1 begins",
            "attempt ends in 40 ms: TimedOut",
            "call ends in 90 ms: TimedOut, timeout",
            "2 attempts, waited 10 ms, denied: Some(Deadline)",
        ]
    );
    // The third attempt has 15 ms, less than half of its timeout, so it is cut short. The call had all of its 100 ms.
    assert_eq!(
        noted([Act::fail().after(ms(30)), Act::fail().after(ms(35))], Act::hang()).await[5..],
        [
            "attempt 2 begins",
            "attempt ends in 15 ms: CutShort",
            "call ends in 100 ms: TimedOut, timeout",
            "3 attempts, waited 20 ms, denied: None",
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn an_attempt_at_an_unready_service_ends_as_refused() {
    let recorder: Recorder = Recorder::default();
    let client = steadfast::client().observe("payments", recorder.clone()).attempt_timeout(ms(40));
    let _ = client.service(Backend::always(Act::answer(200)).ready_for(0)).unwrap().oneshot(()).await;
    assert_eq!(
        recorder.events.take()[1..],
        [
            "call 0 begins",
            "attempt 0 begins",
            "attempt ends in 40 ms: Refused { retry_after: None }",
            "call ends in 40 ms: Refused { retry_after: None }, timeout",
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn a_refused_call_makes_no_attempt() {
    let (breaker, limiter) = (Breaker::builder().build().unwrap(), Limiter::fixed(1).unwrap());
    let bucket = TokenBucket::builder(1, secs(3600)).build().unwrap();
    let recorder: Recorder = Recorder::default();
    let (layer, control) = steadfast::client()
        .observe("payments", recorder.clone())
        .retry(every(3, ms(1)))
        .circuit_breaker(breaker.clone())
        .rate_limit(bucket.clone())
        .load_shed(limiter.clone())
        .live()
        .unwrap();
    let client = layer.layer(Backend::always(Act::answer(200)));
    let refused = || {
        let _ = client.clone().oneshot(()).now_or_never().unwrap();
        let mut events = recorder.events.take();
        events.retain(|event| !event.starts_with("watches"));
        assert_eq!((events.len(), events[0].as_str()), (2, "call 0 begins"));
        events.pop().unwrap()
    };
    let place = limiter.try_acquire_owned().unwrap();
    assert_eq!(refused(), "call ends in 0 ms: Refused { retry_after: None }, load_shed");
    drop(place);
    bucket.try_acquire(1).unwrap();
    assert_eq!(refused(), "call ends in 0 ms: Refused { retry_after: Some(3600s) }, rate_limit");
    breaker.force_open();
    assert_eq!(refused(), "call ends in 0 ms: Refused { retry_after: None }, circuit_breaker");
    control.apply(&StackConfig { switched_off: true, ..StackConfig::default() }).unwrap();
    assert_eq!(refused(), "call ends in 0 ms: Refused { retry_after: None }, kill_switch");
}

#[tokio::test(start_paused = true)]
async fn a_server_reports_its_refused_waiting_and_served_calls() {
    let recorder: Recorder = Recorder::default();
    let queue = Queue::builder(1, 1).max_wait(ms(30)).build().unwrap();
    let (layer, _control) = steadfast::server()
        .observe("shop", recorder.clone())
        .load_level(queue)
        .timeout(ms(50))
        .classify(by_status)
        .live()
        .unwrap();
    let mut server = layer.layer(Backend::script([Act::answer(500).after(ms(20))], Act::hang()));
    let mut calls = [server.call(()), server.call(()), server.call(())].map(Box::pin);
    for call in &mut calls {
        let _ = poll(call);
    }
    assert_eq!(
        recorder.events.take(),
        [
            "watches shop",
            "call 0 begins",
            "call 0 begins",
            "call 0 begins",
            "call ends in 0 ms: Refused { retry_after: None }, load_level",
        ]
    );
    advance(ms(20)).await;
    assert!(poll(&mut calls[0]).is_ready() && poll(&mut calls[1]).is_pending());
    advance(ms(50)).await;
    assert!(poll(&mut calls[1]).is_ready());
    assert_eq!(
        recorder.events.take(),
        ["call ends in 20 ms: Answered(Failure)", "call ends in 70 ms: TimedOut, timeout"]
    );
}

#[tokio::test(start_paused = true)]
async fn a_server_reports_the_calls_that_its_limits_refuse() {
    let (limiter, bucket) = (Limiter::fixed(1).unwrap(), TokenBucket::builder(1, secs(60)).build().unwrap());
    let recorder: Recorder = Recorder::default();
    let server =
        steadfast::server().observe("shop", recorder.clone()).rate_limit(bucket.clone()).load_shed(limiter.clone());
    let server = server.service(Backend::always(Act::answer(200))).unwrap();
    let refused = || {
        assert!(server.clone().oneshot(()).now_or_never().unwrap().is_err());
        recorder.events.take().pop().unwrap()
    };
    let place = limiter.try_acquire().unwrap();
    assert_eq!(refused(), "call ends in 0 ms: Refused { retry_after: None }, load_shed");
    drop(place);
    bucket.try_acquire(1).unwrap();
    assert_eq!(refused(), "call ends in 0 ms: Refused { retry_after: Some(60s) }, rate_limit");
}

#[tokio::test(start_paused = true)]
async fn a_dropped_call_ends_as_cancelled_and_a_call_that_was_never_polled_does_not_count() {
    let recorder: Recorder = Recorder::default();
    let client = steadfast::client().observe("payments", recorder.clone()).retry(every(3, ms(10)));
    let client = client.service(Backend::script([Act::fail()], Act::hang()).ready_for(0)).unwrap();
    recorder.events.take();
    drop(client.clone().call(()));
    assert_eq!(recorder.events.take(), [""; 0]);

    // The call is dropped before the service is ready, then between two attempts, and then in the service.
    let cancelled = |reached| format!("ends in 0 ms: Cancelled {{ reached_service: {reached} }}");
    let mut call = Box::pin(client.clone().call(()));
    assert!(poll(&mut call).is_pending());
    drop(call);
    let expected = [format!("attempt {}", cancelled(false)), format!("call {}", cancelled(false))];
    assert_eq!(recorder.events.take()[2..], expected);

    client.get_ref().set_ready_for(9);
    let mut call = Box::pin(client.clone().call(()));
    assert!(poll(&mut call).is_pending());
    drop(call);
    let events = recorder.events.take();
    assert_eq!(events[2], "attempt ends in 0 ms: Answered(Failure)");
    assert_eq!(events[3..], [format!("call {}", cancelled(true)), "1 attempts, waited 10 ms, denied: None".to_owned()]);

    let mut call = Box::pin(client.clone().call(()));
    assert!(poll(&mut call).is_pending());
    drop(call);
    let expected = [format!("attempt {}", cancelled(true)), format!("call {}", cancelled(true))];
    assert_eq!(recorder.events.take()[2..], expected);
}

#[tokio::test(start_paused = true)]
async fn a_call_dropped_at_any_time_ends_everything_that_it_began() {
    for polls in 0..12 {
        let recorder = Recorder::<false> { notes_polls: true, ..Recorder::default() };
        let limiter = Limiter::fixed(1).unwrap();
        let mut client = steadfast::client()
            .observe("payments", recorder.clone())
            .timeout(ms(150))
            .retry(every(3, ms(10)))
            .load_shed(limiter.clone())
            .attempt_timeout(ms(40))
            .service(Backend::script([Act::fail().after(ms(10)), Act::hang()], Act::hang()))
            .unwrap();
        let mut call = Box::pin(client.call(()));
        for _ in 0..polls {
            if poll(&mut call).is_ready() {
                break;
            }
            advance(ms(10)).await;
        }
        drop(call);
        let events = recorder.events.take();
        let count = |part: &str| events.iter().filter(|event| event.contains(part)).count();
        assert_eq!((recorder.open.alive(), limiter.in_flight()), (0, 0));
        assert_eq!(count("begins"), count("ends in"), "{events:?}");
        assert_eq!((count("lost"), count("call 0 begins")), (0, usize::from(polls > 0)));
        assert_eq!((count("enter call"), count("enter attempt")), (count("leave call"), count("leave attempt")));
        // Spans nest.
        let mut open: Vec<&str> = vec![];
        for event in &events {
            match event.split_once(' ') {
                Some(("enter", what)) => {
                    assert!(what == "call" || open == ["call"], "{events:?}");
                    open.push(what);
                }
                Some(("leave", what)) => assert_eq!(open.pop(), Some(what), "{events:?}"),
                Some(("attempt", _)) => assert_eq!(open, ["call"], "{events:?}"),
                Some(("call", _)) => assert!(open.is_empty(), "{events:?}"),
                _ => {}
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_pair_of_observers_nests_and_each_learns_the_name_once() {
    let recorder = Recorder::<false> { notes_polls: true, ..Recorder::default() };
    let pair = (recorder.clone(), recorder.clone());
    let server = steadfast::server().observe("shop", pair).service(Backend::always(Act::answer(200))).unwrap();
    server.oneshot(()).await.unwrap();
    let events = recorder.events.take();
    assert_eq!(events[..2], ["watches shop"; 2]);
    let shape: Vec<_> = events[2..].iter().map(|event| event.split(' ').next().unwrap()).collect();
    assert_eq!(shape.join(" "), "call call enter enter leave leave call call");
}

/// An admission that records how far the time of its frame lags behind the clock.
#[derive(Clone, Default)]
struct Lag(std::sync::Arc<std::sync::Mutex<Vec<Duration>>>);

impl<Request, Response, E> Admission<Request, Response, E> for Lag {
    const READS_DEADLINE: bool = false;

    type Permit = ();
    type Place = ();

    fn admit(&self, _: &Request, _: &mut Frame) -> Decision<(), ()> {
        Decision::Waits(())
    }

    fn poll(&self, (): &mut (), _: &mut Context<'_>, frame: &mut Frame) -> Poll<Result<(), Rejection>> {
        let now = frame.now();
        self.0.lock().unwrap().push(Instant::now() - now);
        Poll::Ready(Ok(()))
    }

    fn leave(&self, (): &mut (), _: &mut Frame) {}

    fn settle(&self, (): (), _: Ending, _: &mut Frame) {}
}

/// Returns how far the time of the frame lags behind the clock in an admission inside two observers. Each observer
/// takes 5 ms in `begin`, and 5 ms before and after each poll.
async fn lag<const QUICK: bool>() -> Vec<Duration> {
    let (recorder, lag) = (Recorder::<QUICK> { takes: ms(5), ..Recorder::default() }, Lag::default());
    let next = AdmissionStage::with(lag.clone(), Leaf::new(AnyError));
    let next = ObserveStage::new("shop", Observed::Attempt, recorder.clone(), next);
    let stages = ObserveStage::new("shop", Observed::Call, recorder, next);
    let layer = StackLayer::from_stages(stages, TypedError);
    layer.layer(Backend::always(Act::answer(200))).oneshot(()).await.unwrap();
    lag.0.lock().unwrap().clone()
}

#[tokio::test(start_paused = true)]
async fn the_clock_is_read_again_after_an_observer_that_is_not_quick() {
    assert_eq!(lag::<false>().await, [Duration::ZERO]);
    // The stages inside quick observers share the reading at the beginning of the call. Since then, each of the two
    // observers has taken 5 ms in `begin` and 5 ms before the poll.
    assert_eq!(lag::<true>().await, [ms(20)]);
}

/// An observer that keeps nothing.
#[derive(Clone)]
struct Silent;

impl Observer for Silent {
    const IS_QUICK: bool = true;

    type Watch = ();

    fn begin(&self, _: &Begin) {}

    fn end(&self, (): (), _: &End<'_>) {}
}

#[tokio::test(start_paused = true)]
async fn a_stack_without_an_observer_has_no_stage_for_one() {
    let limiter = || Limiter::fixed(1).unwrap();
    let by_hand = GateStage::new(limiter(), ScopeStage::new(Leaf::new(AnyError)));
    let by_hand = StackLayer::from_stages(by_hand, TypedError).layer(Backend::always(Act::answer(200)));
    let stack = steadfast::client().load_shed(limiter()).service(Backend::always(Act::answer(200))).unwrap();
    fn is_one_type<T>(_: &T, _: &T) {}
    is_one_type(&by_hand, &stack);

    let observed = steadfast::client().observe("payments", Silent).load_shed(limiter());
    let observed = observed.service(Backend::always(Act::answer(200))).unwrap();
    let (plain, observed) = (size_of_val(&stack.clone().call(())), size_of_val(&observed.clone().call(())));
    // The observed call keeps up to two contexts, of the call and of the attempt, and the instants at which both began.
    let most = 2 * (size_of::<CallContext>() + size_of::<Instant>());
    assert!(observed > plain && observed <= plain + most, "{plain} and {observed}");
}

#[tokio::test(start_paused = true)]
async fn each_verdict_of_a_classifier_reaches_the_observer() {
    for outcome in [
        Outcome::Overloaded { retry_after: Some(ms(7)) },
        Outcome::Unprocessed { retry_after: None },
        Outcome::Unprocessed { retry_after: Some(secs(9)) },
        Outcome::Permanent,
    ] {
        let recorder: Recorder = Recorder::default();
        let server = steadfast::server().observe("shop", recorder.clone());
        let server = server.classify(move |_: Result<&u16, &crate::support::Failed>| outcome);
        server.service(Backend::always(Act::answer(200))).unwrap().oneshot(()).await.unwrap();
        assert_eq!(recorder.events.take()[2], format!("call ends in 0 ms: Answered({outcome:?})"));
    }
}
