use super::{
    Call, Failure, Load, Reply, Report, Seeds, Sim,
    kernel::{Draws, Ending, Stream},
    ledger::{Ledger, Run},
    load::{LEAST_ROUND, no_such_number_of_calls},
    recovery::Disturbed,
};
use crate::{
    context::CallContext,
    error::{ConfigError, Error, check_duration},
};
use rand::RngExt;
use std::{cell::RefCell, ops::RangeInclusive, rc::Rc, time::Duration};
use tokio::runtime;
use tower::{Service, ServiceExt};

/// The longest settling time. If a call never ends, the run waits and advances the clock in steps of a millisecond. The
/// wait therefore needs a limit.
const LONGEST_SETTLING: Duration = Duration::from_secs(24 * 60 * 60);

/// A run to make: loads, a length and a seed. [`run`](Self::run) adds the system under test.
///
/// ```
/// # fn main() -> Result<(), steadfast::ConfigError> {
/// use std::time::Duration;
/// use steadfast::sim::{Backend, Latency, Load, Scenario};
///
/// let report = Scenario::new(Load::poisson(50.0)).length(Duration::from_secs(10)).run(|sim| {
///     let backend = sim.backend(Backend::new(Latency::fixed(Duration::from_millis(10))));
///     steadfast::client().timeout(Duration::from_millis(100)).service(backend)
/// })?;
/// assert_eq!(report.goodput(), 1.0);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct Scenario {
    loads: Vec<Load>,
    length: Duration,
    warm_up: Duration,
    settle_within: Duration,
    seed: u64,
}

impl Scenario {
    /// Returns a run of 60 s with this load and seed 0.
    pub fn new(load: Load) -> Self {
        Self {
            loads: vec![load],
            length: Duration::from_secs(60),
            warm_up: Duration::ZERO,
            settle_within: Duration::from_secs(120),
            seed: 0,
        }
    }

    /// Adds the load of another class.
    pub fn and(mut self, load: Load) -> Self {
        self.loads.push(load);
        self
    }

    /// Sets the time in which calls arrive. Default: 60 s.
    pub fn length(self, length: Duration) -> Self {
        Self { length, ..self }
    }

    /// Sets the length of the warm-up: the first part of the run, in which the queues fill. The report excludes calls
    /// that arrive in the warm-up, at clients and at backends. The warm-up is part of the [`length`](Self::length), and
    /// must be shorter. Default: zero.
    pub fn warm_up(self, warm_up: Duration) -> Self {
        Self { warm_up, ..self }
    }

    /// Sets the time that the run waits for calls to end after its [`length`](Self::length), at most a day. A call that
    /// has not ended by then counts as unanswered. Default: 120 s.
    pub fn settle_within(self, limit: Duration) -> Self {
        Self { settle_within: limit, ..self }
    }

    /// Sets the seed of all random numbers. Two runs with one seed give the same report, if the stack follows the
    /// [setup](super#setup). Default: 0.
    pub fn seed(self, seed: u64) -> Self {
        Self { seed, ..self }
    }

    /// Replaces the single seed with a range. The returned [`Seeds`] runs the scenario once with each.
    pub fn seeds(self, seeds: RangeInclusive<u64>) -> Seeds {
        Seeds { scenario: self, seeds }
    }

    /// Runs the load through one client, which `build` creates. Create everything that reads the clock inside `build`,
    /// because the run has a clock of its own.
    ///
    /// # Errors
    ///
    /// - The error of `build`.
    /// - The scenario is invalid. For example, no call arrives, a rate is NaN, or a disturbance is outside the run.
    /// - The caller is inside a tokio runtime, such as that of `#[tokio::test]`. A run has its own runtime, with a
    ///   paused clock.
    pub fn run<S, B>(self, build: B) -> Result<Report, ConfigError>
    where
        B: FnOnce(&Sim) -> Result<S, ConfigError>,
        S: Service<Call, Response = Reply> + Clone + 'static,
        S::Error: Into<Error<Failure>>,
    {
        self.run_clients(|sim| Ok(vec![build(sim)?]))
    }

    /// Runs the load through many clients. Each call goes to one of them at random.
    ///
    /// # Errors
    ///
    /// The errors of [`run`](Self::run), and an empty list of clients.
    pub fn run_clients<S, B>(self, build: B) -> Result<Report, ConfigError>
    where
        B: FnOnce(&Sim) -> Result<Vec<S>, ConfigError>,
        S: Service<Call, Response = Reply> + Clone + 'static,
        S::Error: Into<Error<Failure>>,
    {
        check_duration("sim.length", self.length)?;
        if self.settle_within > LONGEST_SETTLING {
            return Err(ConfigError::new("sim.settle_within", self.settle_within, "must be at most a day"));
        }
        if self.warm_up >= self.length {
            return Err(ConfigError::new("sim.warm_up", self.warm_up, "must be shorter than the run"));
        }
        for load in &self.loads {
            load.check(self.length)?;
        }
        if runtime::Handle::try_current().is_ok() {
            return Err(ConfigError::new(
                "sim.run",
                "called inside a tokio runtime",
                "must be called outside a tokio runtime",
            ));
        }
        let runtime = runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        let runtime = runtime
            .map_err(|error| ConfigError::new("sim.run", error, "could not start a tokio runtime of its own"))?;
        // `unconstrained` disables tokio's cooperative budget. When the budget is used up, timers that have fired would
        // appear pending.
        runtime.block_on(tokio::task::unconstrained(self.simulate(build)))
    }

    async fn simulate<S, B>(self, build: B) -> Result<Report, ConfigError>
    where
        B: FnOnce(&Sim) -> Result<Vec<S>, ConfigError>,
        S: Service<Call, Response = Reply> + Clone + 'static,
        S::Error: Into<Error<Failure>>,
    {
        let keys = self.loads.iter().map(|load| load.keys).max().unwrap_or_default();
        let counted = self.warm_up..self.length;
        let sim = Sim::new(self.seed, counted.clone(), keys);
        let _ending = Ending(sim.clone());
        let clients: Rc<[S]> = build(&sim)?.into();
        sim.check()?;
        if clients.is_empty() {
            return Err(ConfigError::new("sim.clients", 0, "must be at least 1"));
        }
        let ledger = Rc::new(RefCell::new(Ledger::new(&self.loads, counted)));
        for (class, load) in self.loads.iter().enumerate() {
            let arrivals = sim.stream(Draws::Arrivals);
            let caller = Caller {
                sim: sim.clone(),
                clients: clients.clone(),
                ledger: ledger.clone(),
                load: Rc::new(load.clone()),
                class,
                end: self.length,
                keys: sim.stream(Draws::Keys),
                choices: sim.stream(Draws::Clients),
            };
            match load.callers() {
                None => sim.spawn_untimed(caller.arrive(arrivals)),
                Some((callers, think)) => {
                    (0..callers).for_each(|_| sim.spawn_untimed(caller.clone().call_in_a_loop(think)));
                }
            }
        }
        sim.run(self.length, self.length.saturating_add(self.settle_within)).await;
        // The averages cover the whole run, so the clock advances to its end.
        sim.idle_until(self.length).await;

        let backends = sim.backends();
        let begins = backends.iter().filter_map(|backend| backend.spec().first_disturbance());
        let begin = self.loads.iter().filter_map(Load::first_change).chain(begins).min();
        let ends = backends.iter().filter_map(|backend| backend.spec().last_disturbance());
        let end = self.loads.iter().filter_map(Load::last_change).chain(ends).max();
        let disturbed =
            begin.zip(end).map(|(begin, end)| Disturbed { from: begin.as_secs_f64(), to: end.as_secs_f64() });
        let report = ledger.take().report(Run {
            seed: self.seed,
            disturbed,
            backends: backends.iter().map(super::BackendService::counts).collect(),
            most_tasks: sim.most_tasks(),
            held: sim.held(),
        });
        if report.offered() == 0 {
            return Err(no_such_number_of_calls(0));
        }
        Ok(report)
    }
}

/// Makes the calls of one class: all calls of an open loop, or those of one caller of a closed loop.
struct Caller<S> {
    sim: Sim,
    clients: Rc<[S]>,
    ledger: Rc<RefCell<Ledger>>,
    load: Rc<Load>,
    class: usize,
    /// No call begins at or after this time.
    end: Duration,
    /// Draws the key of each call.
    keys: Stream,
    /// Chooses the client of each call.
    choices: Stream,
}

impl<S> Clone for Caller<S> {
    fn clone(&self) -> Self {
        Self {
            sim: self.sim.clone(),
            clients: self.clients.clone(),
            ledger: self.ledger.clone(),
            load: self.load.clone(),
            class: self.class,
            end: self.end,
            keys: self.keys.clone(),
            choices: self.choices.clone(),
        }
    }
}

impl<S> Caller<S>
where
    S: Service<Call, Response = Reply> + Clone + 'static,
    S::Error: Into<Error<Failure>>,
{
    /// Open loop: makes calls at the instants of the load, and does not wait for their ends.
    async fn arrive(self, random: Stream) {
        for instant in self.load.arrivals(random).take_while(|instant| *instant < self.end) {
            self.sim.sleep(instant.saturating_sub(self.sim.elapsed())).await;
            self.sim.spawn_call(self.call());
        }
    }

    /// Closed loop: makes a call, waits for its end, thinks, and makes the next call.
    async fn call_in_a_loop(self, think: Duration) {
        loop {
            let begin = self.sim.elapsed();
            if begin >= self.end {
                return;
            }
            let (done, ended) = tokio::sync::oneshot::channel::<()>();
            let call = self.call();
            self.sim.spawn_call(async move {
                call.await;
                let _ = done.send(());
            });
            let _ = ended.await;
            let took = self.sim.elapsed().saturating_sub(begin);
            self.sim.sleep(think.max(LEAST_ROUND.saturating_sub(took))).await;
        }
    }

    /// Records the arrival of a call in the ledger. The returned future makes the call, and records its end.
    fn call(&self) -> impl Future<Output = ()> + use<S> {
        let Self { sim, clients, ledger, load, class, .. } = self.clone();
        let client = self.choices.draw(|random| random.random_range(0..clients.len()));
        let key = self.keys.draw(|random| random.random_range(0..load.keys));
        let service = clients.get(client).cloned();
        let begin = sim.elapsed();
        ledger.borrow_mut().offered(class, begin);
        async move {
            let Some(service) = service else { return };
            let call = Call { class, key, criticality: load.criticality };
            let context = CallContext::new().with_criticality(load.criticality);
            let result = context.scope(service.oneshot(call)).await.map_err(Into::into);
            ledger.borrow_mut().ended(class, begin, sim.elapsed(), load.in_time, &result);
        }
    }
}
