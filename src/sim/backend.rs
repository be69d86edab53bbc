use super::{
    Call, Failure, Reply, Sim,
    kernel::{Draws, Stream},
};
use crate::error::ConfigError;
use rand::{Rng, RngExt};
use rand_distr::{Distribution, Exp1, LogNormal, StandardNormal};
use std::{
    cell::RefCell,
    collections::VecDeque,
    future::poll_fn,
    ops::Range,
    pin::{Pin, pin},
    rc::Rc,
    task::{Context, Poll},
    time::Duration,
};
use tokio::sync::oneshot;
use tower::Service;

/// How long something takes.
#[derive(Clone, Copy, Debug)]
#[must_use]
pub struct Latency {
    shape: Shape,
}

#[derive(Clone, Copy, Debug)]
enum Shape {
    Fixed(Duration),
    Exponential { mean: Duration },
    LogNormal { median: Duration, sigma: f64 },
    Normal { mean: Duration, deviation: Duration },
    GrowingWithInFlight { base: Duration, per_call: Duration },
}

impl Latency {
    /// Always the same.
    pub const fn fixed(duration: Duration) -> Self {
        Self { shape: Shape::Fixed(duration) }
    }

    /// Exponential, with this mean.
    pub const fn exponential(mean: Duration) -> Self {
        Self { shape: Shape::Exponential { mean } }
    }

    /// Log-normal: `sigma` is the deviation of the logarithm. Sigma 1 has a p99 of ten times the median.
    pub const fn log_normal(median: Duration, sigma: f64) -> Self {
        Self { shape: Shape::LogNormal { median, sigma } }
    }

    /// Normal, cut off at zero.
    pub const fn normal(mean: Duration, deviation: Duration) -> Self {
        Self { shape: Shape::Normal { mean, deviation } }
    }

    /// The model of a collapse: `base`, and `per_call` more for each call in the backend when it begins, itself
    /// included. A busier backend is a slower one (M. Brooker, "Metastability and Distributed Systems", 2021).
    pub const fn growing_with_in_flight(base: Duration, per_call: Duration) -> Self {
        Self { shape: Shape::GrowingWithInFlight { base, per_call } }
    }

    pub(super) fn check(&self) -> Result<(), ConfigError> {
        match self.shape {
            Shape::LogNormal { sigma, .. } if !sigma.is_finite() || sigma < 0.0 => {
                Err(ConfigError::new("sim.latency.sigma", sigma, "must be a number of at least 0"))
            }
            _ => Ok(()),
        }
    }

    /// Draws one, with `in_flight` calls in the backend.
    pub(super) fn draw(&self, in_flight: u64, random: &mut dyn Rng) -> Duration {
        let scaled = |duration: Duration, factor: f64| {
            Duration::try_from_secs_f64((duration.as_secs_f64() * factor).max(0.0)).unwrap_or(Duration::MAX)
        };
        match self.shape {
            Shape::Fixed(duration) => duration,
            Shape::Exponential { mean } => scaled(mean, Exp1.sample(random)),
            Shape::LogNormal { median, sigma } => {
                // The deviation was checked, and so this never falls back to one.
                scaled(median, LogNormal::new(0.0, sigma).map_or(1.0, |factor| factor.sample(random)))
            }
            Shape::Normal { mean, deviation } => {
                let normal: f64 = StandardNormal.sample(random);
                let seconds = mean.as_secs_f64() + deviation.as_secs_f64() * normal;
                Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or(Duration::MAX)
            }
            Shape::GrowingWithInFlight { base, per_call } => {
                let calls = u32::try_from(in_flight).unwrap_or(u32::MAX);
                base.saturating_add(per_call.saturating_mul(calls))
            }
        }
    }
}

/// The properties of a simulated backend. [`Sim::backend`] makes the service.
#[derive(Clone, Debug)]
#[must_use]
pub struct Backend {
    name: String,
    latency: Latency,
    servers: usize,
    queue: Queue,
    failing: f64,
    dead_keys: Option<Range<u64>>,
    disturbances: Vec<(Disturbance, Range<Duration>)>,
    notices_cancellation: bool,
}

#[derive(Clone, Copy, Debug)]
struct Queue {
    newest_first: bool,
    bound: usize,
}

#[derive(Clone, Copy, Debug)]
enum Disturbance {
    Outage,
    Slow(f64),
    Hang,
}

impl Backend {
    /// A backend with any number of servers, each of which takes this long for a call.
    ///
    /// It never fails, and goes on working on a call whose caller has gone, as most do.
    pub fn new(latency: Latency) -> Self {
        Self {
            name: "backend".to_owned(),
            latency,
            servers: usize::MAX,
            queue: Queue { newest_first: false, bound: usize::MAX },
            failing: 0.0,
            dead_keys: None,
            disturbances: Vec::new(),
            notices_cancellation: false,
        }
    }

    /// The name in the report. Default: "backend".
    pub fn named(self, name: impl Into<String>) -> Self {
        Self { name: name.into(), ..self }
    }

    /// Works on `servers` calls at once. Further ones wait, first come, first served. Default: no bound.
    pub fn servers(self, servers: usize) -> Self {
        Self { servers, ..self }
    }

    /// The newest waiting call is served first.
    pub fn newest_first(self) -> Self {
        Self { queue: Queue { newest_first: true, ..self.queue }, ..self }
    }

    /// At most `bound` calls wait. Further ones are answered with [`Failure::Overloaded`] at once. Default: no bound.
    pub fn queue_bound(self, bound: usize) -> Self {
        Self { queue: Queue { bound, ..self.queue }, ..self }
    }

    /// Each call fails with this probability, after the same time as a success.
    pub fn failing(self, probability: f64) -> Self {
        Self { failing: probability, ..self }
    }

    /// Calls with these keys fail at once: the shards or endpoints that are down. The keys are below the number that a load
    /// has ([`Load::keys`](super::Load::keys)).
    pub fn dead_keys(self, keys: Range<u64>) -> Self {
        Self { dead_keys: Some(keys), ..self }
    }

    /// Calls that arrive in this time fail at once. Times count from the begin of the run, warm-up included, and end
    /// with the run at the latest.
    pub fn outage(self, during: Range<Duration>) -> Self {
        self.disturbed(Disturbance::Outage, during)
    }

    /// Calls that begin in this time take `factor` times as long.
    pub fn slow(self, during: Range<Duration>, factor: f64) -> Self {
        self.disturbed(Disturbance::Slow(factor), during)
    }

    /// Calls that would begin in this time begin at its end: the backend stands still, and holds on to them.
    pub fn hang(self, during: Range<Duration>) -> Self {
        self.disturbed(Disturbance::Hang, during)
    }

    fn disturbed(mut self, disturbance: Disturbance, during: Range<Duration>) -> Self {
        self.disturbances.push((disturbance, during));
        self
    }

    /// Stops working on a call when its caller has gone.
    pub fn notices_cancellation(self) -> Self {
        Self { notices_cancellation: true, ..self }
    }

    pub(super) fn check(&self, length: Duration, keys: u64) -> Result<(), ConfigError> {
        if self.servers == 0 {
            return Err(ConfigError::new("sim.backend.servers", self.servers, "must be at least 1"));
        }
        if !(0.0..=1.0).contains(&self.failing) {
            return Err(ConfigError::new("sim.backend.failing", self.failing, "must be a number from 0 to 1"));
        }
        if let Some(dead) = self.dead_keys.as_ref().filter(|dead| dead.is_empty() || dead.end > keys) {
            let rule = "must begin before they end, and be keys of a load";
            return Err(ConfigError::new("sim.backend.dead_keys", dead, rule));
        }
        self.latency.check()?;
        for (disturbance, during) in &self.disturbances {
            if during.start >= during.end || during.end > length {
                let rule = "must begin before it ends, and end within the run";
                return Err(ConfigError::new("sim.backend.disturbance", during, rule));
            }
            if let Disturbance::Slow(factor) = disturbance {
                if !factor.is_finite() || *factor <= 0.0 {
                    return Err(ConfigError::new("sim.backend.slow", factor, "must be a number above 0"));
                }
            }
        }
        Ok(())
    }

    /// When the first disturbance begins, if there is one.
    pub(super) fn first_disturbance(&self) -> Option<Duration> {
        self.disturbances.iter().map(|(_, during)| during.start).min()
    }

    /// When the last disturbance is over, if there is one.
    pub(super) fn last_disturbance(&self) -> Option<Duration> {
        self.disturbances.iter().map(|(_, during)| during.end).max()
    }
}

/// A backend at work: a tower service. Clones are the same backend.
#[derive(Clone)]
pub struct BackendService {
    sim: Sim,
    random: Stream,
    spec: Rc<Backend>,
    state: Rc<RefCell<State>>,
}

#[derive(Default)]
struct State {
    /// Servers that have a call, which they may not have begun with while the backend stands still.
    busy: usize,
    waiting: VecDeque<oneshot::Sender<()>>,
    /// Calls that are in it, those of the warm-up too.
    in_flight: u64,
    averages: Averages,
    counts: BackendCounts,
}

/// The calls that came to a backend after the warm-up. Each that it received was answered, refused, wasted or
/// abandoned, or is in flight.
#[derive(Clone, Debug, Default, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct BackendCounts {
    /// The backend's name.
    pub name: String,
    /// Calls that arrived.
    pub received: u64,
    /// Calls that it finished, failures included and refusals not, while their callers still waited.
    pub answered: u64,
    /// Calls that it finished when their callers had gone.
    pub wasted: u64,
    /// Calls that it stopped working on, or never began with, since it noticed that their callers had gone.
    pub abandoned: u64,
    /// Calls that it refused since its queue was full.
    pub refused: u64,
    /// The most calls that were in it at once, waiting ones included.
    pub most_in_flight: u64,
    /// The number of servers that worked, as an average over the time from the end of the warm-up to the end of the
    /// run. The time after the run, while the last calls settle, is no part of it.
    pub mean_busy: f64,
    /// The number of calls that waited for a server, as an average over the same time.
    pub mean_waiting: f64,
    /// The share of the same time in which a server worked, on average over the servers: from 0 to 1. `None` where their
    /// number has no bound.
    pub utilization: Option<f64>,
    /// Calls that are in it at present, or were at the end of the run.
    pub in_flight: u64,
}

impl BackendService {
    pub(super) fn new(sim: Sim, spec: Backend) -> Self {
        let counts = BackendCounts { name: spec.name.clone(), ..BackendCounts::default() };
        let state = State { counts, ..State::default() };
        let random = sim.stream(Draws::Backend);
        Self { sim, random, spec: Rc::new(spec), state: Rc::new(RefCell::new(state)) }
    }

    /// The counts up to now.
    pub fn counts(&self) -> BackendCounts {
        let mut state = self.state.borrow_mut();
        self.look(&mut state);
        let averages = &state.averages;
        let bounded = self.spec.servers != usize::MAX;
        BackendCounts {
            mean_busy: averages.busy(),
            mean_waiting: averages.waiting(),
            utilization: bounded.then(|| averages.busy() / self.spec.servers as f64),
            ..state.counts.clone()
        }
    }

    /// Whether the calls that come to it now count.
    fn counts_now(&self) -> bool {
        self.sim.elapsed() >= self.sim.counted().start
    }

    /// Takes the present numbers into the averages. To be called before any of them changes.
    fn look(&self, state: &mut State) {
        let counted = self.sim.counted();
        let now = self.sim.elapsed();
        if now >= counted.start && state.averages.until < counted.start {
            state.counts.most_in_flight = state.in_flight;
        }
        let waiting = state.waiting.len();
        state.averages.look(now, &counted, waiting);
    }

    pub(super) fn spec(&self) -> &Backend {
        &self.spec
    }

    /// Works on one call that has been let in.
    async fn work(
        self,
        turn: Option<oneshot::Receiver<()>>,
        answer: &mut oneshot::Sender<Result<Reply, Failure>>,
    ) -> Option<Result<Reply, Failure>> {
        let _server = self.server(turn, answer).await?;
        // One after the other, should they overlap.
        while let Some(rest) = self.rest_of_hang() {
            self.sim.sleep(rest).await;
        }
        if self.spec.notices_cancellation && answer.is_closed() {
            return None;
        }
        let now = self.sim.elapsed();
        let in_flight = self.state.borrow().in_flight;
        let mut latency = self.random.draw(|random| self.spec.latency.draw(in_flight, random));
        for (disturbance, during) in &self.spec.disturbances {
            if let (Disturbance::Slow(factor), true) = (disturbance, during.contains(&now)) {
                let slowed = Duration::try_from_secs_f64(latency.as_secs_f64() * factor);
                latency = slowed.unwrap_or(Duration::MAX);
            }
        }
        let mut done = pin!(self.sim.sleep(latency));
        let gone = poll_fn(|cx| {
            if self.spec.notices_cancellation && answer.poll_closed(cx).is_ready() {
                return Poll::Ready(true);
            }
            done.as_mut().poll(cx).map(|()| false)
        });
        self.works(true);
        let gone = gone.await;
        self.works(false);
        if gone {
            return None;
        }
        let failing = self.spec.failing;
        let failed = failing > 0.0 && self.random.draw(|random| random.random_bool(failing));
        Some(if failed { Err(Failure::Failed) } else { Ok(Reply) })
    }

    /// A server begins to work, or ends.
    fn works(&self, begins: bool) {
        let mut state = self.state.borrow_mut();
        self.look(&mut state);
        let working = &mut state.averages.working;
        *working = if begins { *working + 1 } else { *working - 1 };
    }

    /// How much longer the backend stands still, if it does.
    fn rest_of_hang(&self) -> Option<Duration> {
        let now = self.sim.elapsed();
        self.spec.disturbances.iter().find_map(|(disturbance, during)| match disturbance {
            Disturbance::Hang if during.contains(&now) => Some(during.end - now),
            _ => None,
        })
    }

    /// Waits for the server: `None` if the caller has gone before, and the backend notices.
    async fn server(
        &self,
        turn: Option<oneshot::Receiver<()>>,
        answer: &mut oneshot::Sender<Result<Reply, Failure>>,
    ) -> Option<Server<'_>> {
        let Some(mut turn) = turn else { return Some(Server(self)) };
        // The turn first: a server that was handed over must not be lost. It stays busy meanwhile.
        let gone = poll_fn(|cx| match Pin::new(&mut turn).poll(cx) {
            Poll::Ready(_) => Poll::Ready(false),
            Poll::Pending if self.spec.notices_cancellation => answer.poll_closed(cx).map(|()| true),
            Poll::Pending => Poll::Pending,
        });
        if gone.await {
            // A place in the queue that is given up is nobody's turn any more.
            drop(turn);
            let mut state = self.state.borrow_mut();
            self.look(&mut state);
            state.waiting.retain(|waiting| !waiting.is_closed());
            return None;
        }
        Some(Server(self))
    }
}

impl State {
    /// Takes a free server, or a place in the queue, whose turn comes later.
    fn enter(&mut self, servers: usize) -> Option<oneshot::Receiver<()>> {
        self.in_flight += 1;
        self.counts.most_in_flight = self.counts.most_in_flight.max(self.in_flight);
        if self.busy < servers {
            self.busy += 1;
            return None;
        }
        let (sender, receiver) = oneshot::channel();
        self.waiting.push_back(sender);
        Some(receiver)
    }
}

/// Numbers of a backend, summed up over time.
#[derive(Default)]
struct Averages {
    /// Servers that work.
    working: usize,
    /// Up to when they are summed up.
    until: Duration,
    /// How long the sums are.
    length: Duration,
    /// Each times the seconds for which it was so.
    working_seconds: f64,
    waiting_seconds: f64,
}

impl Averages {
    /// Adds the time since the last look, in which `waiting` calls waited.
    fn look(&mut self, now: Duration, counted: &Range<Duration>, waiting: usize) {
        let (from, to) = (self.until.max(counted.start), now.min(counted.end));
        let passed = to.saturating_sub(from);
        self.length += passed;
        self.working_seconds += self.working as f64 * passed.as_secs_f64();
        self.waiting_seconds += waiting as f64 * passed.as_secs_f64();
        self.until = now;
    }

    fn busy(&self) -> f64 {
        self.over_time(self.working_seconds)
    }

    fn waiting(&self) -> f64 {
        self.over_time(self.waiting_seconds)
    }

    fn over_time(&self, seconds: f64) -> f64 {
        if self.length.is_zero() { 0.0 } else { seconds / self.length.as_secs_f64() }
    }
}

/// One busy server, handed to the next waiting call when dropped.
struct Server<'a>(&'a BackendService);

impl Drop for Server<'_> {
    fn drop(&mut self) {
        let mut state = self.0.state.borrow_mut();
        self.0.look(&mut state);
        loop {
            let next =
                if self.0.spec.queue.newest_first { state.waiting.pop_back() } else { state.waiting.pop_front() };
            let Some(waiting) = next else {
                state.busy -= 1;
                return;
            };
            if waiting.send(()).is_ok() {
                return;
            }
        }
    }
}

impl Service<Call> for BackendService {
    type Response = Reply;
    type Error = Failure;
    type Future = Answer;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, call: Call) -> Answer {
        let (mut sender, receiver) = oneshot::channel();
        let now = self.sim.elapsed();
        let counts = u64::from(self.counts_now());
        let mut state = self.state.borrow_mut();
        self.look(&mut state);
        state.counts.received += counts;
        let outage = |(disturbance, during): &(Disturbance, Range<Duration>)| {
            matches!(disturbance, Disturbance::Outage) && during.contains(&now)
        };
        let dead = self.spec.dead_keys.as_ref().is_some_and(|dead| dead.contains(&call.key));
        let refusal = if dead || self.spec.disturbances.iter().any(outage) {
            state.counts.answered += counts;
            Some(Failure::Failed)
        } else if state.busy >= self.spec.servers && state.waiting.len() >= self.spec.queue.bound {
            state.counts.refused += counts;
            Some(Failure::Overloaded)
        } else {
            None
        };
        if let Some(failure) = refusal {
            return Answer(Err(failure));
        }
        state.counts.in_flight += counts;
        let turn = state.enter(self.spec.servers);
        drop(state);

        let backend = self.clone();
        self.sim.spawn_untimed(async move {
            let result = backend.clone().work(turn, &mut sender).await;
            let mut state = backend.state.borrow_mut();
            state.in_flight -= 1;
            state.counts.in_flight -= counts;
            let fate = match result.map(|result| sender.send(result)) {
                Some(Ok(())) => &mut state.counts.answered,
                Some(Err(_)) => &mut state.counts.wasted,
                None => &mut state.counts.abandoned,
            };
            *fate += counts;
        });
        Answer(Ok(receiver))
    }
}

/// The answer of a backend, to come.
pub struct Answer(Result<oneshot::Receiver<Result<Reply, Failure>>, Failure>);

impl Future for Answer {
    type Output = Result<Reply, Failure>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.0 {
            Err(failure) => Poll::Ready(Err(*failure)),
            // A backend that ends with the run does not answer any more.
            Ok(receiver) => Pin::new(receiver).poll(cx).map(|result| result.unwrap_or(Err(Failure::Failed))),
        }
    }
}
