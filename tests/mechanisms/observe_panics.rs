//! Panics of observed calls and of observers: all permits are returned, and each call and attempt that began ends.

use crate::{
    probes::{Recorder, every, poll, poll_panics},
    support::{Act, Backend, Failed, ms, secs},
};
use std::panic::{AssertUnwindSafe, catch_unwind, panic_any};
use steadfast::{
    Outcome,
    circuit_breaker::{Breaker, BreakerState},
    load_shed::Limiter,
    rate_limit::{RateLimit, TokenBucket},
    retry::RetryBudget,
    shell::{Begin, End, Observer},
};
use tokio::time::{Instant, advance};
use tower::{Service, ServiceExt};

/// The parts of a client that has one place and one probe. A failure opens its breaker. A permit that is not returned
/// therefore shows at once.
struct Observed {
    recorder: Recorder,
    limiter: Limiter,
    breaker: Breaker,
    backend: Backend,
}

impl Observed {
    fn new(backend: Backend) -> Self {
        let breaker = Breaker::builder().consecutive_failures(1).open_for(ms(1)).probes(1).build().unwrap();
        Self { recorder: Recorder::default(), limiter: Limiter::fixed(1).unwrap(), breaker, backend }
    }

    fn client(&self) -> impl Service<u32, Response = u16, Error = steadfast::Error<Failed>> + Clone + use<> {
        self.observed_by(self.recorder.clone())
    }

    fn observed_by<O: Observer + Clone>(
        &self,
        observer: O,
    ) -> impl Service<u32, Response = u16, Error = steadfast::Error<Failed>> + Clone + use<O> {
        steadfast::client()
            .observe("payments", observer)
            .timeout(ms(500))
            .retry(every(2, ms(10)))
            .circuit_breaker(self.breaker.clone())
            .load_shed(self.limiter.clone())
            .attempt_timeout(ms(40))
            .service(self.backend.clone())
            .unwrap()
    }

    #[track_caller]
    fn assert_nothing_left(&self, when: &str) {
        assert_eq!((self.limiter.in_flight(), self.backend.in_flight()), (0, 0), "{when}");
        assert_eq!(self.recorder.open.alive(), 0, "{when}");
        let events = self.recorder.events.take();
        assert!(events.iter().all(|event| !event.contains("lost")), "{when}: {events:?}");
    }
}

/// All places at which a [`Recorder`] can panic. `enter` is before a poll, and `leave` after it.
const PLACES: [&str; 8] = [
    "begin call",
    "enter call",
    "leave call",
    "end call",
    "begin attempt",
    "enter attempt",
    "leave attempt",
    "end attempt",
];

#[tokio::test(start_paused = true)]
async fn a_panic_of_an_observer_in_a_poll_leaks_no_permit() {
    for place in PLACES {
        let test = Observed::new(Backend::always(Act::answer(200)));
        test.recorder.panics_at(place);
        let mut call = Box::pin(test.client().call(1));
        poll_panics(&mut call);
        poll_panics(&mut call);
        drop(call);
        test.assert_nothing_left(place);
    }
}

#[tokio::test(start_paused = true)]
async fn a_probe_returns_its_place_if_its_observer_panics_before_the_service_is_called() {
    for place in ["begin call", "enter call", "begin attempt", "enter attempt"] {
        let test = Observed::new(Backend::always(Act::answer(200)));
        test.breaker.try_acquire().unwrap().failure();
        advance(ms(1)).await;
        test.recorder.panics_at(place);
        let mut call = Box::pin(test.client().call(1));
        poll_panics(&mut call);
        drop(call);
        assert_eq!(test.limiter.in_flight(), 0, "{place}");
        let is_free = test.breaker.free_probes() == 1 || test.breaker.state() != BreakerState::HalfOpen;
        assert!(is_free && test.backend.calls() == 0, "{place}");
        test.assert_nothing_left(place);
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_of_an_observer_during_a_call_leaks_no_permit() {
    for place in ["enter call", "leave call", "enter attempt", "leave attempt"] {
        let test = Observed::new(Backend::always(Act::hang()));
        let mut call = Box::pin(test.client().call(1));
        assert!(poll(&mut call).is_pending());
        test.recorder.panics_at(place);
        poll_panics(&mut call);
        drop(call);
        test.assert_nothing_left(place);
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_of_an_observer_when_a_call_is_dropped_leaks_no_permit() {
    for place in PLACES.into_iter().filter(|place| !place.starts_with("begin")) {
        let test = Observed::new(Backend::always(Act::hang()));
        let mut call = Box::pin(test.client().call(1));
        assert!(poll(&mut call).is_pending());
        assert_eq!((test.limiter.in_flight(), test.backend.in_flight()), (1, 1));
        test.recorder.panics_at(place);
        assert!(catch_unwind(AssertUnwindSafe(|| drop(call))).is_err(), "{place}");
        test.assert_nothing_left(place);
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_of_an_observer_when_an_attempt_times_out_leaks_no_permit() {
    for place in ["enter attempt", "leave attempt", "end attempt", "leave call"] {
        let test = Observed::new(Backend::always(Act::hang()));
        let mut call = Box::pin(test.client().call(1));
        assert!(poll(&mut call).is_pending());
        advance(ms(40)).await;
        test.recorder.panics_at(place);
        poll_panics(&mut call);
        assert_eq!(test.limiter.in_flight(), 0, "{place}");
        drop(call);
        test.assert_nothing_left(place);
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_of_the_service_ends_the_attempt_and_the_call_as_panicked() {
    for act in [Act::panic(), Act::panic_at_once(), Act::panic().after(ms(5))] {
        let test = Observed::new(Backend::always(act));
        let mut call = Box::pin(test.client().call(1));
        if let Ok(polled) = catch_unwind(AssertUnwindSafe(|| poll(&mut call).is_pending())) {
            assert!(polled);
            advance(ms(5)).await;
            poll_panics(&mut call);
        }
        let events = test.recorder.events.take();
        let ended: Vec<_> = events.iter().filter_map(|event| event.split_once(" ms: ")).map(|(_, how)| how).collect();
        assert_eq!(ended, ["Panicked", "Panicked"], "{events:?}");
        drop(call);
        assert_eq!(test.recorder.events.take(), [""; 0]);
        test.assert_nothing_left("service");
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_of_an_observer_during_a_panic_of_the_service_is_swallowed() {
    for place in ["end attempt", "end call"] {
        let test = Observed::new(Backend::always(Act::panic()));
        test.recorder.panics_at(place);
        let mut call = Box::pin(test.client().oneshot(1));
        let panic = catch_unwind(AssertUnwindSafe(|| poll(&mut call).is_ready())).unwrap_err();
        drop(call);
        // It is the panic of the service.
        assert_eq!(panic.downcast_ref::<&str>(), Some(&"the scripted panic, in `poll`"), "{place}");
        test.assert_nothing_left(place);
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_of_a_classifier_or_of_a_cost_function_ends_the_call_and_the_attempt() {
    let recorder: Recorder = Recorder::default();
    let client = steadfast::client()
        .observe("payments", recorder.clone())
        .classify(|_: Result<&u16, &Failed>| -> Outcome { panic!("a classifier") })
        .service(Backend::always(Act::answer(200)))
        .unwrap();
    assert!(tokio::spawn(client.oneshot(1_u32)).await.unwrap_err().is_panic());
    let ends = ["attempt ends in 0 ms: Panicked", "call ends in 0 ms: Panicked"];
    assert_eq!(recorder.events.take()[3..], ends);

    let bucket = TokenBucket::builder(1, secs(3600)).build().unwrap();
    let limit = RateLimit::new(bucket.clone()).cost(|_: &u32| -> u64 { panic!("a cost") });
    let client = steadfast::client().observe("payments", Recorder { name: None, ..recorder.clone() }).rate_limit(limit);
    let client = client.service(Backend::always(Act::answer(200))).unwrap();
    assert!(tokio::spawn(client.oneshot(1_u32)).await.unwrap_err().is_panic());
    assert_eq!(recorder.events.take()[1..], ["call 0 begins", "call ends in 0 ms: Panicked"]);
    assert_eq!((recorder.open.alive(), bucket.available_at(Instant::now())), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn an_attempt_whose_observer_panics_is_spent_like_one_whose_service_panics() {
    for place in ["begin attempt", "enter attempt", "end attempt"] {
        let recorder: Recorder = Recorder::default();
        let bucket = TokenBucket::builder(2, secs(3600)).build().unwrap();
        let budget = RetryBudget::builder().ratio(0.1).no_floor().initial(1).build().unwrap();
        let client = steadfast::client()
            .observe("payments", recorder.clone())
            .retry(steadfast::retry::Retry::new(2).budget(budget.clone()))
            .rate_limit(bucket.clone())
            .service(Backend::always(Act::answer(200)))
            .unwrap();
        recorder.panics_at(place);
        assert!(tokio::spawn(client.oneshot(1)).await.unwrap_err().is_panic());
        assert_eq!(bucket.available_at(Instant::now()), 1, "{place}");
        assert_eq!(budget.balance().floor(), 1.0);
    }
}

/// An observer that panics in its method of this name.
#[derive(Clone)]
struct Panics(&'static str);

impl Observer for Panics {
    type Watch = ();

    fn begin(&self, _: &Begin) {
        assert_ne!(self.0, "begin");
    }

    fn end(&self, (): (), _: &End<'_>) {
        assert_ne!(self.0, "end");
    }
}

#[tokio::test(start_paused = true)]
async fn in_a_pair_the_outer_observer_ends_its_calls_although_the_inner_one_panics() {
    for (place, ending) in [("begin", "Panicked"), ("end", "Answered(Success)")] {
        let recorder: Recorder = Recorder::default();
        let server = steadfast::server().observe("shop", (recorder.clone(), Panics(place)));
        let server = server.service(Backend::always(Act::answer(200))).unwrap();
        assert!(tokio::spawn(server.oneshot(1)).await.unwrap_err().is_panic());
        let expected = ["watches shop".to_owned(), "call 0 begins".to_owned(), format!("call ends in 0 ms: {ending}")];
        assert_eq!(recorder.events.take(), expected);
    }
}

#[test]
fn a_call_dropped_during_a_panic_survives_a_panicking_observer() {
    #[derive(Clone)]
    struct Panics;

    impl Observer for Panics {
        type Watch = ();

        fn begin(&self, _: &Begin) {}

        fn end(&self, (): (), _: &End<'_>) {
            panic!("the second one");
        }
    }

    let places = Limiter::fixed(1).unwrap();
    let stack =
        steadfast::client().observe("prices", Panics).load_shed(places.clone()).service(Backend::always(Act::hang()));
    let stack = stack.unwrap();
    let panic = catch_unwind(AssertUnwindSafe(|| {
        let mut call = Box::pin(stack.oneshot(7));
        assert!(poll(&mut call).is_pending());
        assert_eq!(places.in_flight(), 1);
        panic!("the first one");
    }));
    assert_eq!(panic.unwrap_err().downcast_ref(), Some(&"the first one"));
    assert_eq!(places.in_flight(), 0);
}

/// The payload of a panic. It panics again when it is dropped.
struct Hot;

impl Drop for Hot {
    fn drop(&mut self) {
        panic!("the payload fails");
    }
}

/// An observer that panics in `end`. The payload of its panic panics when it is dropped.
#[derive(Clone)]
struct Burns;

impl Observer for Burns {
    type Watch = ();

    fn begin(&self, _: &Begin) {}

    fn end(&self, (): (), _: &End<'_>) {
        panic_any(Hot);
    }
}

#[tokio::test(start_paused = true)]
async fn a_payload_that_panics_when_dropped_does_not_abort_during_another_panic() {
    let client =
        steadfast::client().observe("payments", (Burns, Burns)).service(Backend::always(Act::panic())).unwrap();
    let mut call = Box::pin(client.oneshot(1));
    let panic = catch_unwind(AssertUnwindSafe(|| poll(&mut call).is_ready())).unwrap_err();
    assert_eq!(panic.downcast_ref::<&str>(), Some(&"the scripted panic, in `poll`"));
    drop(call);

    let client = steadfast::client().observe("payments", (Burns, Burns)).service(Backend::always(Act::hang())).unwrap();
    let panic = catch_unwind(AssertUnwindSafe(|| {
        let mut call = Box::pin(client.oneshot(1));
        assert!(poll(&mut call).is_pending());
        panic!("the first one");
    }));
    assert_eq!(panic.unwrap_err().downcast_ref::<&str>(), Some(&"the first one"));
}

/// An observer that keeps the default `poll`, and otherwise records like a [`Recorder`].
#[derive(Clone)]
struct Quiet(Recorder);

impl Observer for Quiet {
    type Watch = <Recorder as Observer>::Watch;

    fn watches(&mut self, stack: &'static str) {
        self.0.watches(stack);
    }

    fn begin(&self, begin: &Begin) -> Self::Watch {
        self.0.begin(begin)
    }

    fn end(&self, watch: Self::Watch, end: &End<'_>) {
        self.0.end(watch, end);
    }
}

#[tokio::test(start_paused = true)]
async fn an_observer_with_the_default_poll_ends_each_call_once() {
    for act in [Act::answer(200).after(ms(5)), Act::panic().after(ms(5)), Act::panic_at_once(), Act::hang()] {
        for place in [None, Some("begin call"), Some("begin attempt"), Some("end attempt"), Some("end call")] {
            for polls in 0..3 {
                let test = Observed::new(Backend::always(act));
                place.into_iter().for_each(|place| test.recorder.panics_at(place));
                let mut call = Box::pin(test.observed_by(Quiet(test.recorder.clone())).call(1));
                for _ in 0..polls {
                    match catch_unwind(AssertUnwindSafe(|| poll(&mut call).is_pending())) {
                        Ok(true) => advance(ms(5)).await,
                        _ => break,
                    }
                }
                let _ = catch_unwind(AssertUnwindSafe(|| drop(call)));
                let when = format!("{act:?}, {place:?}, {polls} polls");
                let events = test.recorder.events.take();
                let of = |word: &str| events.iter().filter(|event| event.contains(word)).count();
                assert_eq!((of(" ends"), of("lost")), (of(" begins"), 0), "{when}: {events:?}");
                test.assert_nothing_left(&when);
            }
        }
    }
}
