//! A user's gates, admissions and stages in the slots of a stack: they behave like the layer of that slot.

use crate::{
    probes::{every, poll},
    support::{Act, Backend, Stopwatch, by_status, ms, secs},
};
use futures::FutureExt;
use std::{
    fmt::Debug,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};
use steadfast::{
    ConfigError, Error, Rejection,
    circuit_breaker::{Breaker, BreakerState},
    error::SwitchedOff,
    load_level::Queue,
    load_shed::Limiter,
    rate_limit::{RateLimit, TokenBucket},
    shell::{DescribeGate, Ending, Explanation, Frame, Gate, GateStage},
    stack::{
        Slot, admission, gate,
        live::{LoadShedConfig, RetryConfig, StackConfig},
    },
};
use tokio::time::{Instant, advance};
use tower::{Layer, Service, ServiceExt};

/// The record of all gates of one stack.
#[derive(Clone, Default)]
struct Notes {
    /// The gates that were asked, in order.
    asked: Arc<Mutex<Vec<usize>>>,
    /// The gates that settled, in order, each with its ending.
    settled: Arc<Mutex<Vec<(usize, Ending)>>>,
    /// The number of permits that the gates have given and that have not settled.
    held: Arc<AtomicUsize>,
    /// The number of the gate that refuses; 0 for none.
    refuses: Arc<AtomicUsize>,
}

impl Notes {
    fn gate(&self, number: usize) -> Numbered {
        Numbered { number, notes: self.clone() }
    }

    fn asked(&self) -> Vec<usize> {
        std::mem::take(&mut self.asked.lock().unwrap())
    }

    fn settled(&self) -> Vec<(usize, Ending)> {
        std::mem::take(&mut self.settled.lock().unwrap())
    }
}

/// A user's gate, with a number.
#[derive(Clone)]
struct Numbered {
    number: usize,
    notes: Notes,
}

impl<Request> Gate<Request> for Numbered {
    type Permit = ();

    fn admit(&self, _: &Request, _: &mut Frame) -> Result<(), Rejection> {
        self.notes.asked.lock().unwrap().push(self.number);
        if self.notes.refuses.load(Relaxed) == self.number {
            return Err(SwitchedOff::new().into());
        }
        self.notes.held.fetch_add(1, Relaxed);
        Ok(())
    }

    fn settle(&self, (): (), ending: Ending, _: &mut Frame) {
        self.notes.held.fetch_sub(1, Relaxed);
        self.notes.settled.lock().unwrap().push((self.number, ending));
    }
}

impl DescribeGate for Numbered {
    fn describe(&self, explanation: &mut Explanation) {
        explanation.layer("numbered", self.number.to_string());
    }
}

#[tokio::test(start_paused = true)]
async fn each_slot_of_a_client_takes_a_gate_in_order_and_a_refusal_settles_the_outer_gates() {
    let (notes, backend) = (Notes::default(), Backend::always(Act::answer(200)));
    // The order of the builder calls does not matter.
    let client = steadfast::client()
        .own_attempt_timeout(gate(notes.gate(6)))
        .own_rate_limit(gate(notes.gate(4)))
        .own_timeout(gate(notes.gate(1)))
        .own_circuit_breaker(gate(notes.gate(3)))
        .own_load_shed(gate(notes.gate(5)))
        .own_retry(gate(notes.gate(2)));
    let layer = client.layer().unwrap();
    let texts: Vec<_> = layer.explain().layers().map(|(name, text)| format!("{name} {text}")).collect();
    assert_eq!(texts, (1..=6).map(|number| format!("numbered {number}")).collect::<Vec<_>>());
    let client = layer.layer(backend.clone());
    assert_refusals_give_back(client, &notes, 6).await;
    assert_eq!(backend.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn each_slot_of_a_server_takes_a_gate_in_order_and_a_refusal_settles_the_outer_gates() {
    let (notes, backend) = (Notes::default(), Backend::always(Act::answer(200)));
    let server = steadfast::server()
        .own_timeout(gate(notes.gate(4)))
        .own_load_level(gate(notes.gate(3)))
        .own_rate_limit(gate(notes.gate(1)))
        .own_load_shed(gate(notes.gate(2)));
    assert_refusals_give_back(server.service(backend.clone()).unwrap(), &notes, 4).await;
    assert_eq!(backend.calls(), 1);
}

/// Calls a stack with this number of gates, and checks that each gate settles. In one call for each gate, that gate
/// refuses. In the last call, no gate refuses.
async fn assert_refusals_give_back<S>(stack: S, notes: &Notes, gates: usize)
where
    S: Service<u32, Response = u16, Error: Debug> + Clone,
{
    for refusing in 1..=gates {
        notes.refuses.store(refusing, Relaxed);
        stack.clone().oneshot(1).await.unwrap_err();
        assert_eq!(notes.asked(), (1..=refusing).collect::<Vec<_>>());
        let refused = |number| (number, Ending::Refused { retry_after: None });
        assert_eq!(notes.settled(), (1..refusing).rev().map(refused).collect::<Vec<_>>());
        assert_eq!(notes.held.load(Relaxed), 0);
    }
    notes.refuses.store(0, Relaxed);
    assert_eq!(stack.oneshot(1).await.unwrap(), 200);
    assert_eq!(notes.asked(), (1..=gates).collect::<Vec<_>>());
    assert_eq!((notes.settled().len(), notes.held.load(Relaxed)), (gates, 0));
}

#[tokio::test(start_paused = true)]
async fn gates_inside_the_retry_see_each_attempt_and_outer_gates_see_the_call() {
    let (notes, backend) = (Notes::default(), Backend::script([Act::fail(), Act::fail()], Act::answer(200)));
    let client = steadfast::client()
        .own_timeout(gate(notes.gate(1)))
        .retry(every(3, ms(10)))
        .own_circuit_breaker(gate(notes.gate(3)))
        .own_attempt_timeout(gate(notes.gate(6)))
        .service(backend)
        .unwrap();
    let mut call = Box::pin(client.clone().oneshot(1));
    assert!(poll(&mut call).is_pending());
    // Between two attempts only the stages around the retry hold permits.
    assert_eq!((notes.asked(), notes.held.load(Relaxed)), (vec![1, 3, 6], 1));
    assert_eq!(call.await.unwrap(), 200);
    assert_eq!((notes.asked(), notes.held.load(Relaxed)), (vec![3, 6, 3, 6], 0));
    // A refusal by an inner layer is not retried.
    notes.refuses.store(6, Relaxed);
    client.oneshot(1).await.unwrap_err();
    assert_eq!((notes.asked(), notes.held.load(Relaxed)), (vec![1, 3, 6], 0));
}

#[tokio::test(start_paused = true)]
async fn a_breaker_in_a_slot_for_gates_opens_and_the_retry_asks_it_before_a_backoff() {
    let breaker = Breaker::builder().consecutive_failures(1).open_for(secs(5)).build().unwrap();
    let (backend, stopwatch) = (Backend::always(Act::fail()), Stopwatch::start());
    let client = steadfast::client().retry(every(3, ms(10))).own_circuit_breaker(gate(breaker.clone()));
    let client = client.service(backend.clone()).unwrap();
    let error = client.clone().oneshot(1).await.unwrap_err();
    assert!(matches!(error, Error::Service(_)), "{error:?}");
    assert_eq!((stopwatch.read(), backend.calls(), breaker.state()), (ms(0), 1, BreakerState::Open));
    let error = client.oneshot(1).await.unwrap_err();
    assert_eq!(error.rejection().unwrap().mechanism(), "circuit_breaker");
    assert_eq!(backend.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn user_admissions_let_calls_wait_and_return_their_permits() {
    let (bucket, limiter) = (TokenBucket::builder(1, secs(1)).build().unwrap(), Limiter::fixed(1).unwrap());
    let client = steadfast::client()
        .own_rate_limit(admission(RateLimit::new(bucket.clone()).wait()))
        .own_load_shed(gate(limiter.clone()))
        .service(Backend::always(Act::answer(200)))
        .unwrap();
    let (taken, stopwatch) = (limiter.try_acquire().unwrap(), Stopwatch::start());
    client.clone().oneshot(1).await.unwrap_err();
    assert_eq!(bucket.available_at(Instant::now()), 1);
    drop(taken);
    client.clone().oneshot(1).await.unwrap();
    client.clone().oneshot(1).await.unwrap();
    assert_eq!((stopwatch.read(), limiter.in_flight()), (secs(1), 0));

    let queue = Queue::builder(1, 1).max_wait(secs(9)).build().unwrap();
    let server = steadfast::server().own_load_level(admission(steadfast::load_level::LoadLevel::from(queue.clone())));
    let mut server = server.timeout(secs(1)).service(Backend::always(Act::hang())).unwrap();
    let mut calls = [server.call(1), server.call(2), server.call(3)].map(Box::pin);
    let polled = [0, 1, 2].map(|call| poll(&mut calls[call]).is_ready());
    assert_eq!((polled, queue.in_service(), queue.readings().waiting), ([false, false, true], 1, 1));
    advance(secs(1)).await;
    assert!(poll(&mut calls[0]).is_ready() && poll(&mut calls[1]).is_pending());
    assert_eq!((queue.in_service(), queue.readings().waiting), (1, 0));
    drop(calls);
    assert_eq!(queue.in_service(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_live_stack_takes_own_gates_and_refuses_a_configuration_for_them() {
    let (notes, breaker) = (Notes::default(), Breaker::builder().consecutive_failures(1).build().unwrap());
    let (layer, control) = steadfast::client()
        .retry(every(2, ms(10)))
        .own_circuit_breaker(gate(breaker.clone()))
        .own_load_shed(gate(notes.gate(5)))
        .classify(by_status)
        .live()
        .unwrap();
    let (backend, all) = (Backend::script([Act::answer(200)], Act::fail()), StackConfig::default());
    let client = layer.layer(backend.clone());
    assert_eq!(client.clone().oneshot(1).await.unwrap(), 200);
    assert!(control.built().circuit_breaker.is_none() && control.built().load_shed.is_none());
    let error = control.apply(&StackConfig { load_shed: Some(LoadShedConfig::new(3)), ..all.clone() }).unwrap_err();
    assert_eq!(error.field(), "load_shed");
    control.apply(&StackConfig { switched_off: true, ..all.clone() }).unwrap();
    client.clone().oneshot(1).await.unwrap_err();
    assert_eq!(notes.asked(), [5]);
    // A configuration can still change the settings of the other layers, such as the attempts of the retry.
    let retry = RetryConfig { attempts: 1, ..control.built().retry.clone().unwrap() };
    control.apply(&StackConfig { retry: Some(retry), ..all }).unwrap();
    client.clone().oneshot(1).await.unwrap_err();
    assert_eq!((notes.asked(), notes.held.load(Relaxed), breaker.state()), (vec![5], 0, BreakerState::Open));
    let explained = control.explain();
    let names: Vec<_> = explained.layers().map(|(name, _)| name).collect();
    assert_eq!(names, ["retry", "circuit breaker", "numbered"]);

    let (layer, _control) = steadfast::server()
        .own_rate_limit(gate(notes.gate(1)))
        .own_load_shed(gate(notes.gate(2)))
        .own_load_level(gate(notes.gate(3)))
        .own_timeout(gate(notes.gate(4)))
        .live()
        .unwrap();
    assert_eq!(layer.layer(Backend::always(Act::answer(200))).oneshot(1).now_or_never().unwrap(), Ok(200));
    assert_eq!((notes.asked(), notes.held.load(Relaxed)), (vec![1, 2, 3, 4], 0));
}

/// A bulkhead that describes its limit.
#[derive(Clone)]
struct Bulkhead(&'static str, usize);

impl<Request> Gate<Request> for Bulkhead {
    type Permit = ();

    fn admit(&self, _: &Request, _: &mut Frame) -> Result<(), Rejection> {
        Ok(())
    }

    fn settle(&self, (): (), _: Ending, _: &mut Frame) {}
}

impl DescribeGate for Bulkhead {
    fn describe(&self, explanation: &mut Explanation) {
        explanation.layer("bulkhead", self.1.to_string());
        explanation.limit_in_flight(self.0, self.1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_user_limit_around_a_queue_must_leave_room_for_waiting_calls() {
    let queue = || Queue::builder(4, 9).build().unwrap();
    let field = |built: Result<Explanation, ConfigError>| built.err().map(|error| error.field().to_owned());
    let shed = |limit| {
        let server = steadfast::server().own_load_shed(gate(Bulkhead("tenants", limit))).load_level(queue());
        field(server.layer().map(|layer| layer.explain()))
    };
    assert_eq!((shed(4), shed(5)), (Some("tenants".to_owned()), None));
    // A limit that is too narrow is found even if a wider limit is between it and the queue, or around it.
    let two = |outer, inner| {
        let server = steadfast::server().own_rate_limit(gate(Bulkhead("outer", outer)));
        let server = server.own_load_shed(gate(Bulkhead("inner", inner))).load_level(queue());
        field(server.live().map(|(layer, _)| layer.explain()))
    };
    assert_eq!(two(4, 100), Some("outer".to_owned()));
    assert_eq!(two(100, 4), Some("inner".to_owned()));
    assert_eq!(two(5, 5), None);
    let server = steadfast::server().own_load_shed(gate(Bulkhead("tenants", 7))).layer().unwrap();
    assert_eq!(server.explain().max_in_flight(), Some(7));
}

/// Two gates in one slot. If the flag is false, the slot fails instead.
struct Pair(Numbered, Numbered, bool);

impl Slot for Pair {
    type Stage<Next> = GateStage<Numbered, GateStage<Numbered, Next>>;

    fn build<Next>(self, next: Next) -> Result<Self::Stage<Next>, ConfigError> {
        if !self.2 {
            // Stands for any error of a builder.
            Limiter::fixed(0)?;
        }
        Ok(GateStage::new(self.0, GateStage::new(self.1, next)))
    }
}

#[tokio::test(start_paused = true)]
async fn a_user_slot_makes_its_own_stages_or_fails() {
    let notes = Notes::default();
    let pair = |works| Pair(notes.gate(1), notes.gate(2), works);
    let server = steadfast::server().own_timeout(pair(true)).service(Backend::always(Act::answer(200))).unwrap();
    assert_refusals_give_back(server, &notes, 2).await;
    let error = steadfast::server().own_timeout(pair(false)).layer().err().unwrap();
    assert_eq!(error.field(), "load_shed.limit");
    assert!(steadfast::server().own_timeout(pair(false)).live().is_err());
}
