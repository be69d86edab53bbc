//! E25: a healthy service behind an open circuit. Do its callers fail at once, and does the circuit close after its
//! open time?

mod at_once;

use crate::{
    finding::{Anchor, Bound, Figure, Finding},
    lab::{Client, Lab, ms, secs},
    textbook::{self, Promise},
};
use rand::{RngExt, rngs::Xoshiro256PlusPlus};
use std::{
    cell::RefCell,
    rc::Rc,
    task::{Context, Poll},
    time::Duration,
};
use steadfast::{
    CallContext, ConfigError,
    circuit_breaker::{Breaker, BreakerState},
    retry::Retry,
    sim::{Backend, BackendService, Call, Failure, Latency, Load, Reply, Scenario, Sim},
};
use tokio::time::{Instant, timeout};
use tower::{Service, ServiceExt};

const RPS: f64 = 20.0;
const LATENCY: Duration = ms(100);
const OPEN: Duration = secs(5);
const PROBES: u32 = 3;
const ATTEMPTS: u32 = 3;
const TOTAL: Duration = secs(2);
const ATTEMPT: Duration = ms(500);
/// The remaining time of the callers of the second class: less than the response time of the service.
const LEFT: Duration = ms(50);

/// The share of callers with little time left, and the seconds after the first probe within which half of the circuits
/// close.
const VARIANTS: [(f64, f64); 2] = [(0.0, 0.25), (0.3, 0.3)];

pub fn run(lab: &Lab) -> Result<Vec<Finding>, ConfigError> {
    let seeds = lab.count(100, 100, 20);
    let anchors = lab.beyond_a_glance(|| {
        let total = lab.mean(0..seeds, |seed| Ok(recovery(seed, 0.0, waiting(seed, Some(TOTAL)))?.of_the_early()))?;
        let none = lab.mean(0..seeds, |seed| Ok(recovery(seed, 0.0, waiting(seed, None))?.of_the_early()))?;
        let name = "share of callers who wait: total 2 s, none";
        Ok(vec![Anchor::column(name, [0.39, 1.0], &[total, none], 0)])
    })?;
    // Published: 18 of 100 runs. The tolerance is two standard errors of the difference between a share of 100 runs and
    // one of 400.
    let published = Bound::Within(0.09, 0.27);
    let mut figures = lab.beyond_a_glance(|| {
        let doomed = lab.means_with(4 * seeds, 4 * seeds, |seed| {
            let seen = recovery(seed, 0.3, waiting(seed, Some(TOTAL)))?;
            Ok([f64::from(u8::from(seen.reopened))])
        })?;
        Ok(vec![Figure::new("a retry that waits: re-opened by calls with 50 ms left", [published], doomed)])
    })?;
    let probes = lab.worst(seeds, |seed| Ok([recovery(seed, 0.0, ours)?.wrong_probes()]))?;
    figures.push(Figure::new("calls more or fewer than 3 before it closes", [Bound::AtMost(0.0)], probes));
    for (hurried, limit) in VARIANTS {
        let worst = lab.worst(seeds, |seed| Ok(recovery(seed, hurried, ours)?.worst()))?;
        let in_time = lab.means_with(seeds, seeds, |seed| {
            let took = recovery(seed, hurried, ours)?.recovery().as_secs_f64();
            Ok([f64::from(u8::from(took <= limit))])
        })?;
        let name = if hurried > 0.0 {
            "30% with 50 ms left: the same"
        } else {
            "longest wait, re-opened, last probe to closed"
        };
        let bounds = [Bound::AtMost(0.0), Bound::AtMost(0.0), Bound::Within(0.099, 0.101)];
        figures.push(Figure::new(name, bounds, worst));
        let name =
            if hurried > 0.0 { "closed within .3 s of the first" } else { "closed within .25 s of the first probe" };
        figures.push(Figure::new(name, [Bound::AtLeast(0.5)], in_time));
    }
    figures.extend(at_once::figures(lab, lab.count(10, 5, 1))?);
    Ok(vec![Finding {
        id: "E25",
        what: "healthy service behind a circuit that is open until t=5 s: 20 calls/s, 3 tries, total 2 s, attempt .5 s, 3 probes",
        anchors,
        figures,
        to_come: None,
    }])
}

/// The observations of a circuit.
#[derive(Clone, Copy, Default)]
pub struct Seen {
    /// The callers that arrived while the circuit was open.
    early: u64,
    /// The early callers that were not refused at once, and the longest time that an early caller took.
    waited: u64,
    longest: Duration,
    first_probe: Option<Duration>,
    /// When the last call began that was answered before the circuit closed.
    last_probe: Option<Duration>,
    closed: Option<Duration>,
    /// The calls that the service had received when the circuit closed.
    probes: Option<u64>,
    reopened: bool,
}

impl Seen {
    fn note(&mut self, begin: Duration, end: Duration, answered: bool, state: BreakerState, received: u64) {
        if begin < OPEN {
            self.early += 1;
            self.waited += u64::from(end > begin);
            self.longest = self.longest.max(end - begin);
        } else if self.closed.is_none() {
            self.first_probe.get_or_insert(begin);
            self.last_probe = if answered { Some(begin) } else { self.last_probe };
            self.closed = (state == BreakerState::Closed).then_some(end);
            self.probes = self.closed.map(|_| received);
        }
        self.reopened |= end > OPEN && state == BreakerState::Open;
    }

    /// Returns the bounded values of every run: the longest wait, whether the circuit opened again, and the time from
    /// the last probe to its closing.
    fn worst(&self) -> [f64; 3] {
        let last = self.last_probe.zip(self.closed).map_or(Duration::MAX, |(probe, closed)| closed - probe);
        [self.longest.as_secs_f64(), f64::from(u8::from(self.reopened)), last.as_secs_f64()]
    }

    /// Returns the time from the first probe to the closing of the circuit.
    fn recovery(&self) -> Duration {
        self.first_probe.zip(self.closed).map_or(Duration::MAX, |(probe, closed)| closed - probe)
    }

    /// Returns how many calls more or fewer than required reached the service before the circuit closed.
    fn wrong_probes(&self) -> f64 {
        self.probes.map_or(f64::INFINITY, |probes| probes.abs_diff(PROBES.into()) as f64)
    }

    fn of_the_early(&self) -> [f64; 1] {
        [self.waited as f64 / self.early as f64]
    }
}

/// A client, and the state of its circuit.
type Watched<S> = (S, Rc<dyn Fn() -> BreakerState>);

/// Calls a healthy service whose circuit is open for the first five seconds.
pub fn recovery<S: Client>(
    seed: u64,
    hurried: f64,
    client: impl FnOnce(&Sim, BackendService) -> Result<Watched<S>, ConfigError>,
) -> Result<Seen, ConfigError> {
    let patient = Load::poisson(RPS * (1.0 - hurried)).in_time(TOTAL);
    let mut scenario = Scenario::new(patient);
    if hurried > 0.0 {
        scenario = scenario.and(Load::poisson(RPS * hurried).named("hurried"));
    }
    let seen = Rc::new(RefCell::new(Seen::default()));
    scenario.length(secs(15)).seed(seed).run(|sim| {
        let backend = sim.backend(Backend::new(Latency::fixed(LATENCY)));
        let (service, state) = client(sim, backend.clone())?;
        Ok(Watch { sim: sim.clone(), seen: seen.clone(), service, state, backend })
    })?;
    let seen = *seen.borrow();
    Ok(seen)
}

/// This crate's layers.
pub fn ours(sim: &Sim, backend: BackendService) -> Result<Watched<impl Client + use<>>, ConfigError> {
    let breaker =
        Breaker::builder().consecutive_failures(1).open_for(OPEN).probes(PROBES).random(sim.random()).build()?;
    if let Ok(permit) = breaker.try_acquire() {
        permit.failure();
    }
    let client = steadfast::client()
        .timeout(TOTAL)
        .retry(Retry::new(ATTEMPTS).random(sim.random()))
        .circuit_breaker(breaker.clone())
        .attempt_timeout(ATTEMPT)
        .service(backend)?;
    Ok((client, Rc::new(move || breaker.state())))
}

/// Records how each call ends.
#[derive(Clone)]
struct Watch<S> {
    sim: Sim,
    seen: Rc<RefCell<Seen>>,
    service: S,
    state: Rc<dyn Fn() -> BreakerState>,
    backend: BackendService,
}

impl<S: Client> Service<Call> for Watch<S> {
    type Response = Reply;
    type Error = S::Error;
    type Future = Promise<Reply, S::Error>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, call: Call) -> Self::Future {
        let Self { sim, seen, service, state, backend } = self.clone();
        Box::pin(async move {
            let begin = sim.elapsed();
            let context = CallContext::new();
            let context = if is_hurried(call) { context.with_deadline(Instant::now() + LEFT) } else { context };
            let result = context.scope(service.oneshot(call)).await;
            seen.borrow_mut().note(begin, sim.elapsed(), result.is_ok(), state(), backend.counts().received);
            result
        })
    }
}

fn is_hurried(call: Call) -> bool {
    call.class == 1
}

/// A retry that treats a refusal as a failure: it waits until the circuit lets probes through, plus a random time. And
/// a breaker that counts every timeout as a failure.
fn waiting(
    seed: u64,
    total: Option<Duration>,
) -> impl FnOnce(&Sim, BackendService) -> Result<Watched<Waiting<BackendService>>, ConfigError> {
    move |sim, service| {
        let circuit = Rc::new(RefCell::new(Circuit::Open { until: OPEN }));
        let random = Rc::new(RefCell::new(textbook::random(seed)));
        let state = circuit.clone();
        let client = Waiting { sim: sim.clone(), circuit, random, total, service };
        Ok((client, Rc::new(move || state.borrow().state())))
    }
}

#[derive(Clone, Copy)]
enum Circuit {
    Closed,
    Open { until: Duration },
    HalfOpen { admitted: u32, succeeded: u32 },
}

impl Circuit {
    fn state(self) -> BreakerState {
        match self {
            Self::Closed => BreakerState::Closed,
            Self::Open { .. } => BreakerState::Open,
            Self::HalfOpen { .. } => BreakerState::HalfOpen,
        }
    }

    /// Admits a call, or returns how long it must wait.
    fn admit(&mut self, now: Duration) -> Result<(), Duration> {
        match self {
            Self::Closed => {}
            Self::Open { until } if now < *until => return Err(*until - now),
            Self::Open { .. } => *self = Self::HalfOpen { admitted: 1, succeeded: 0 },
            Self::HalfOpen { admitted: PROBES, .. } => return Err(Duration::ZERO),
            Self::HalfOpen { admitted, .. } => *admitted += 1,
        }
        Ok(())
    }

    fn ended(&mut self, now: Duration, answered: bool) {
        match self {
            Self::HalfOpen { .. } if !answered => *self = Self::Open { until: now + OPEN },
            Self::HalfOpen { succeeded, .. } if *succeeded + 1 == PROBES => *self = Self::Closed,
            Self::HalfOpen { succeeded, .. } => *succeeded += 1,
            Self::Open { .. } | Self::Closed => {}
        }
    }
}

#[derive(Clone)]
struct Waiting<S> {
    sim: Sim,
    circuit: Rc<RefCell<Circuit>>,
    random: Rc<RefCell<Xoshiro256PlusPlus>>,
    total: Option<Duration>,
    service: S,
}

impl<S: Service<Call, Response = Reply, Error = Failure> + Clone + 'static> Service<Call> for Waiting<S> {
    type Response = Reply;
    type Error = Failure;
    type Future = Promise<Reply, Failure>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, call: Call) -> Self::Future {
        let Self { sim, circuit, random, total, service } = self.clone();
        Box::pin(async move {
            let patience = if is_hurried(call) { Some(LEFT) } else { total };
            let deadline = patience.map(|patience| sim.elapsed() + patience);
            let left = |sim: &Sim| deadline.map_or(Duration::MAX, |at| at.saturating_sub(sim.elapsed()));
            for attempt in 0..ATTEMPTS {
                let admitted = circuit.borrow_mut().admit(sim.elapsed());
                let refused_for = match admitted {
                    Err(refused_for) => refused_for,
                    Ok(()) => {
                        let result = timeout(left(&sim).min(ATTEMPT), service.clone().oneshot(call)).await;
                        circuit.borrow_mut().ended(sim.elapsed(), matches!(result, Ok(Ok(_))));
                        if let Ok(Ok(reply)) = result {
                            return Ok(reply);
                        }
                        Duration::ZERO
                    }
                };
                let jitter = random.borrow_mut().random_range(Duration::ZERO..ms(100) * 2_u32.pow(attempt));
                let wait = refused_for + jitter;
                if wait >= left(&sim) {
                    break;
                }
                sim.sleep(wait).await;
            }
            Err(Failure::Failed)
        })
    }
}
