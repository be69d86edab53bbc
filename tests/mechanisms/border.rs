//! A border that a user writes: the calls that it sees, when it runs relative to the stages, and when its values are
//! dropped.

use crate::{
    probes::{Census, Counted, Events, Holds, OnTime, every, poll, poll_panics, take},
    support::{Act, Backend, Failed, Stopwatch, by_status, ms, secs},
};
use futures::FutureExt;
use std::{
    convert::Infallible,
    future::{Ready, pending, ready},
    mem::size_of_val,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::Duration,
};
use steadfast::{
    CallContext, Criticality, Error, Rejection,
    load_level::Queue,
    load_shed::{Limiter, LoadShedLayer},
    shell::{Border, Frame, TypedError},
    stack::gate,
};
use tokio::time::{Instant, advance};
use tower::{Layer, Service, ServiceExt, service_fn};

/// A border that records each entry and each exit, and at an exit whether a call still holds a resource. It answers
/// with a text.
#[derive(Clone)]
struct Noted {
    events: Events,
    holds: Holds,
    census: Census,
    /// Whether an entry panics.
    panics_in: bool,
    /// Whether an exit panics.
    panics_out: bool,
}

impl Noted {
    fn new(holds: &Holds) -> Self {
        let (events, census) = (Events::default(), Census::default());
        Self { events, holds: holds.clone(), census, panics_in: false, panics_out: false }
    }
}

/// The border's value for one call. When it is dropped, it records whether a call still holds a resource.
struct Seen {
    number: u32,
    dropped: Events,
    holds: Holds,
    _counted: Counted,
}

impl Drop for Seen {
    fn drop(&mut self) {
        self.dropped.add(format!("seen dropped, nothing held: {}", self.holds.nothing()));
    }
}

impl Border<u32, u16, Failed> for Noted {
    type Response = String;
    type Error = Infallible;
    type Seen = Seen;

    fn enter(&self, number: &mut u32, _: &mut Frame) -> Seen {
        let seen = Seen {
            number: *number,
            dropped: self.events.clone(),
            holds: self.holds.clone(),
            _counted: self.census.one(),
        };
        self.events.add("enter");
        assert!(!self.panics_in, "on the way in");
        *number += 1;
        seen
    }

    fn exit(&self, seen: Seen, result: Result<u16, Error<Failed>>, frame: &mut Frame) -> Result<String, Infallible> {
        assert_eq!(frame.now(), Instant::now());
        self.events.add(format!("exit, nothing held: {}", self.holds.nothing()));
        assert!(!self.panics_out, "on the way out");
        let ending = match result {
            Ok(status) => status.to_string(),
            Err(Error::Service(Failed)) => "failed".to_owned(),
            Err(Error::Rejected(rejection)) => rejection.mechanism().to_owned(),
        };
        Ok(format!("{}: {ending}", seen.number))
    }
}

const HELD_NOTHING: [&str; 3] = ["enter", "exit, nothing held: true", "seen dropped, nothing held: true"];

#[tokio::test(start_paused = true)]
async fn a_call_crosses_the_border_once_in_each_direction_with_any_number_of_attempts() {
    let backend = Backend::script([Act::fail(), Act::fail().after(ms(3))], Act::answer(200));
    let holds = Holds::new(backend.clone());
    let border = Noted::new(&holds);
    let client = steadfast::client()
        .retry(every(3, ms(10)))
        .load_shed(holds.limiter.clone())
        .border(border.clone())
        .service(backend.clone())
        .unwrap();
    assert_eq!(client.oneshot(7).await.unwrap(), "7: 200");
    assert_eq!(backend.calls(), 3);
    assert_eq!(border.events.take(), HELD_NOTHING);
}

#[tokio::test(start_paused = true)]
async fn the_exit_runs_after_all_permits_are_returned_however_the_call_ends() {
    let broken = Backend::always(Act::hang()).broken();
    for (backend, ending) in [
        (Backend::always(Act::answer(200)), "200"),
        (Backend::always(Act::answer(200).after(ms(5))), "200"),
        (Backend::always(Act::fail().after(ms(5))), "failed"),
        (Backend::always(Act::hang()), "timeout"),
        (Backend::always(Act::hang()).ready_for(0), "timeout"),
        (broken, "failed"),
    ] {
        let holds = Holds::new(backend.clone());
        let border = Noted::new(&holds);
        let server = steadfast::server().load_shed(holds.limiter.clone()).timeout(ms(10)).border(border.clone());
        assert_eq!(server.service(backend).unwrap().oneshot(1).await.unwrap(), format!("1: {ending}"));
        assert_eq!(border.events.take(), HELD_NOTHING, "{ending}");
    }
    let holds = Holds::new(Backend::always(Act::answer(200)));
    let border = Noted::new(&holds);
    let layer = LoadShedLayer::new(holds.limiter.clone()).border(border.clone());
    let taken = holds.limiter.try_acquire().unwrap();
    assert_eq!(layer.layer(holds.backend.clone()).oneshot(1).await.unwrap(), "1: load_shed");
    drop(taken);
    assert_eq!(border.events.take()[..2], ["enter", "exit, nothing held: false"]);
}

#[tokio::test(start_paused = true)]
async fn the_service_sees_the_changes_of_the_border_to_the_request() {
    #[derive(Clone)]
    struct Double;
    impl Border<u32, u32, Infallible> for Double {
        type Response = u32;
        type Error = Error<Infallible>;
        type Seen = ();

        fn enter(&self, number: &mut u32, _: &mut Frame) {
            *number *= 2;
        }

        fn exit(&self, (): (), result: Result<u32, Error<Infallible>>, _: &mut Frame) -> Result<u32, Self::Error> {
            result
        }
    }
    let server = steadfast::server().border(Double).service(service_fn(|n: u32| ready(Ok(n)))).unwrap();
    assert_eq!(server.oneshot(21).await, Ok(42));
}

/// A border that reads the deadline and the criticality of a call from its request.
#[derive(Clone)]
struct FromHeader;

impl<E> Border<Duration, u16, E> for FromHeader {
    type Response = u16;
    type Error = Error<E>;
    type Seen = ();

    fn enter(&self, within: &mut Duration, frame: &mut Frame) {
        let context = CallContext::new().with_deadline(frame.now() + *within).with_criticality(Criticality::Sheddable);
        let inherited = frame.inherited().with_context(context);
        frame.set_inherited(inherited);
    }

    fn exit(&self, (): (), result: Result<u16, Error<E>>, _: &mut Frame) -> Result<u16, Error<E>> {
        result
    }
}

#[tokio::test(start_paused = true)]
async fn a_timeout_and_the_service_see_the_deadline_that_a_border_read() {
    let seen = Events::default();
    let notes = seen.clone();
    let began = Instant::now();
    let handler = service_fn(move |_: Duration| {
        let context = CallContext::current();
        let left = context.deadline().map(|deadline| deadline - began);
        notes.add(format!("{left:?} {:?}", context.criticality()));
        pending::<Result<u16, Failed>>()
    });
    let server = steadfast::server().timeout(secs(10)).border(FromHeader).service(handler).unwrap();
    let stopwatch = Stopwatch::start();
    let error = server.clone().oneshot(ms(300)).await.unwrap_err();
    assert_eq!(stopwatch.read(), ms(300));
    let Some(Rejection::TimedOut(details)) = error.rejection() else { panic!("{error:?}") };
    assert!(details.was_cut_short() && error.rejection().unwrap().reached_service());
    assert_eq!(seen.take(), ["Some(300ms) Sheddable"]);

    // The caller's own deadline stays, if it is earlier.
    let caller = CallContext::new().with_deadline(Instant::now() + ms(50));
    caller.scope(server.oneshot(secs(5))).await.unwrap_err();
    assert_eq!(stopwatch.read(), ms(350));
    assert_eq!(seen.take(), ["Some(350ms) Sheddable"]);
}

#[tokio::test(start_paused = true)]
async fn a_queue_and_a_retry_see_the_deadline_that_a_border_read() {
    let queue = Queue::builder(1, 1).max_wait(secs(60)).build().unwrap();
    let _taken = queue.try_acquire().unwrap();
    let server = steadfast::server().load_level(queue).border(FromHeader);
    let stopwatch = Stopwatch::start();
    server.service(Backend::always(Act::answer(200))).unwrap().oneshot(ms(100)).await.unwrap_err();
    // By default, a call waits in a queue for at most half of the time until its deadline.
    assert_eq!(stopwatch.read(), ms(50));

    let backend = Backend::always(Act::fail());
    let client = steadfast::client().retry(every(9, ms(40))).border(FromHeader).service(backend.clone()).unwrap();
    client.oneshot(ms(100)).await.unwrap_err();
    assert_eq!(backend.calls(), 3);
}

/// A service whose drop takes time.
#[derive(Clone)]
struct SlowToGo;

impl Drop for SlowToGo {
    fn drop(&mut self) {
        take(ms(60));
    }
}

impl Service<u32> for SlowToGo {
    type Response = u16;
    type Error = Failed;
    type Future = Ready<Result<u16, Failed>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Failed>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: u32) -> Self::Future {
        ready(Ok(200))
    }
}

#[tokio::test(start_paused = true)]
async fn the_exit_sees_the_time_after_the_drop_of_the_service() {
    // The gate reads the clock when the call ends. Then the service is dropped, which takes time. Then the exit runs.
    let gate_outside = OnTime::default();
    let border = Noted::new(&Holds::new(Backend::always(Act::answer(200))));
    let server = steadfast::server().own_rate_limit(gate(gate_outside.clone())).border(border);
    assert_eq!(server.service(SlowToGo).unwrap().oneshot(1).await.unwrap(), "1: 200");
    assert_eq!(gate_outside.0.load(Relaxed), 2);
}

#[tokio::test(start_paused = true)]
async fn the_stages_see_the_time_after_a_slow_border() {
    #[derive(Clone)]
    struct SlowToEnter;
    impl Border<u32, u16, Failed> for SlowToEnter {
        type Response = u16;
        type Error = Error<Failed>;
        type Seen = ();

        fn enter(&self, _: &mut u32, frame: &mut Frame) {
            assert_eq!(frame.now(), Instant::now());
            take(ms(60));
        }

        fn exit(&self, (): (), result: Result<u16, Error<Failed>>, _: &mut Frame) -> Result<u16, Self::Error> {
            result
        }
    }
    let gate_inside = OnTime::default();
    let server = steadfast::server().own_rate_limit(gate(gate_inside.clone())).border(SlowToEnter);
    let backend = Backend::always(Act::answer(200));
    assert_eq!(server.service(backend).unwrap().oneshot(1).await, Ok(200));
    assert_eq!(gate_inside.0.load(Relaxed), 2);
}

#[tokio::test(start_paused = true)]
async fn a_dropped_call_does_not_exit_and_drops_its_border_value_last() {
    for act in [Act::hang(), Act::fail().after(ms(5))] {
        for polls in 0..4 {
            let holds = Holds::new(Backend::always(act));
            let border = Noted::new(&holds);
            let mut client = steadfast::client()
                .retry(every(9, ms(15)))
                .load_shed(holds.limiter.clone())
                .border(border.clone())
                .service(holds.backend.clone())
                .unwrap();
            let mut call = Box::pin(client.call(1));
            for _ in 0..polls {
                assert!(poll(&mut call).is_pending());
                advance(ms(10)).await;
            }
            drop(call);
            let expected: &[&str] = if polls == 0 { &[] } else { &["enter", "seen dropped, nothing held: true"] };
            assert_eq!(border.events.take(), expected, "{act:?}, {polls} polls");
            assert_eq!((border.census.alive(), holds.nothing()), (0, true));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_a_border_leaks_no_permit() {
    for (panics_in, panics_out) in [(true, false), (false, true)] {
        let holds = Holds::new(Backend::always(Act::answer(200)));
        let border = Noted { panics_in, panics_out, ..Noted::new(&holds) };
        let server = steadfast::server().load_shed(holds.limiter.clone()).border(border.clone());
        let mut server = server.service(holds.backend.clone()).unwrap();
        let mut call = Box::pin(server.call(1));
        poll_panics(&mut call);
        assert!(holds.nothing());
        assert_eq!(holds.backend.calls(), usize::from(panics_out));
        // The call has ended: a further poll panics, and the drop records nothing.
        poll_panics(&mut call);
        let events = border.events.take();
        drop(call);
        assert_eq!((border.events.take(), border.census.alive()), (vec![], 0), "{events:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_of_the_service_skips_the_exit_and_the_call_drops_the_border_value() {
    let holds = Holds::new(Backend::always(Act::panic()));
    let border = Noted::new(&holds);
    let server = steadfast::server().load_shed(holds.limiter.clone()).border(border.clone());
    let mut server = server.service(holds.backend.clone()).unwrap();
    let mut call = Box::pin(server.call(1));
    poll_panics(&mut call);
    assert_eq!((border.events.take(), border.census.alive()), (vec!["enter".to_owned()], 1));
    drop(call);
    assert_eq!((border.census.alive(), border.census.made()), (0, 1));
}

/// A border that keeps `N` bytes of each request.
#[derive(Clone)]
struct Keeps<const N: usize>;

impl<const N: usize> Border<u32, u16, Failed> for Keeps<N> {
    type Response = u16;
    type Error = Error<Failed>;
    type Seen = [u8; N];

    fn enter(&self, _: &mut u32, _: &mut Frame) -> [u8; N] {
        [1; N]
    }

    fn exit(&self, _: [u8; N], result: Result<u16, Error<Failed>>, _: &mut Frame) -> Result<u16, Error<Failed>> {
        result
    }
}

#[tokio::test(start_paused = true)]
async fn a_border_adds_exactly_the_size_of_its_value_to_a_call() {
    fn size<X: Border<u32, u16, Failed> + Clone>(border: X) -> usize {
        let server = steadfast::server().load_shed(Limiter::fixed(1).unwrap()).timeout(secs(1)).border(border);
        size_of_val(&server.service(Backend::always(Act::answer(200))).unwrap().call(1))
    }
    let nothing = size(TypedError);
    assert_eq!(size(Keeps::<0>), nothing);
    assert_eq!(size(Keeps::<64>), nothing + 64);
    // The parts of a call are aligned to words, so a value of one byte adds at most a word.
    assert!(size(Keeps::<1>) <= nothing + size_of::<usize>());
}

#[tokio::test(start_paused = true)]
async fn a_border_of_a_live_stack_sees_calls_that_its_kill_switch_refuses() {
    let crossed = Arc::new(AtomicUsize::new(0));
    #[derive(Clone)]
    struct Counts(Arc<AtomicUsize>);
    impl<Response, E> Border<u32, Response, E> for Counts {
        type Response = Option<Response>;
        type Error = E;
        type Seen = ();

        fn enter(&self, _: &mut u32, _: &mut Frame) {
            self.0.fetch_add(1, Relaxed);
        }

        fn exit(&self, (): (), result: Result<Response, Error<E>>, _: &mut Frame) -> Result<Option<Response>, E> {
            self.0.fetch_add(10, Relaxed);
            match result {
                Ok(response) => Ok(Some(response)),
                Err(Error::Rejected(_)) => Ok(None),
                Err(Error::Service(error)) => Err(error),
            }
        }
    }
    let (layer, control) = steadfast::client().classify(by_status).border(Counts(crossed.clone())).live().unwrap();
    let off = steadfast::stack::live::StackConfig { switched_off: true, ..Default::default() };
    control.apply(&off).unwrap();
    let answer = layer.layer(Backend::always(Act::answer(200))).oneshot(1).now_or_never();
    assert_eq!((answer, crossed.load(Relaxed)), (Some(Ok(None)), 11));
}
