//! Ten workers behind a limit, and a record of each call that arrived, for E11 and E13.

use crate::{
    lab::{Client, settled, watch_limiter},
    textbook::Promise,
};
use std::task::{Context, Poll};
use std::{cell::RefCell, mem::take, rc::Rc, time::Duration};
use steadfast::{
    ConfigError, Error,
    load_shed::Limiter,
    sim::{Backend, Call, Failure, Latency, Link, Load, Reply, Scenario, Sim},
};
use tower::{Service, ServiceExt};

pub const WORKERS: usize = 10;
/// The mean service time, which is one round trip.
pub const MEAN_SERVICE: Duration = Duration::from_millis(10);
/// The capacity of the workers, per second.
pub const CAPACITY: f64 = 1000.0;
/// How long a caller waits.
pub const DEADLINE: Duration = Duration::from_millis(300);

/// A call as the server saw it. The network takes no time, so the caller saw the same.
#[derive(Clone, Copy)]
pub struct Record {
    /// When it arrived, in seconds.
    pub came: f64,
    /// The response time, in seconds. `None` if it was refused.
    pub took: Option<f64>,
}

impl Record {
    pub fn is_in_time(&self) -> bool {
        self.took.is_some_and(|took| took <= DEADLINE.as_secs_f64())
    }

    /// Returns whether the call was answered in time, and between these instants.
    pub fn was_answered_in(&self, from: f64, to: f64) -> bool {
        self.is_in_time() && self.took.is_some_and(|took| (from..to).contains(&(self.came + took)))
    }

    pub fn is_refused(&self) -> bool {
        self.took.is_none()
    }

    pub fn came_in(&self, from: f64, to: f64) -> bool {
        (from..to).contains(&self.came)
    }
}

/// The adaptive limit.
pub fn adaptive() -> Result<Limiter, ConfigError> {
    Limiter::adaptive().deadline(DEADLINE).build()
}

/// Workers with an unbounded queue in front of them.
pub fn workers() -> Backend {
    Backend::new(Latency::exponential(MEAN_SERVICE)).servers(WORKERS)
}

/// Makes one run. The callers are on another machine, make one attempt, and give up at the deadline.
pub fn run(
    seed: u64,
    length: Duration,
    load: Load,
    workers: Backend,
    limiter: impl FnOnce() -> Result<Limiter, ConfigError>,
) -> Result<Vec<Record>, ConfigError> {
    let log = Log::default();
    let client = |sim: &Sim| {
        let limiter = limiter()?;
        watch_limiter(sim, &limiter);
        let server = steadfast::server().load_shed(limiter).service(sim.backend(workers))?;
        let server = Recorded { server, sim: sim.clone(), log: log.clone() };
        let server = Link::new(sim, Latency::fixed(Duration::ZERO), server);
        steadfast::client().attempt_timeout(DEADLINE).keep_error().service(server)
    };
    settled(Scenario::new(load.in_time(DEADLINE)).length(length).seed(seed).run(client)?)?;
    let records = take(&mut *log.borrow_mut());
    Ok(records)
}

type Log = Rc<RefCell<Vec<Record>>>;

#[derive(Clone)]
struct Recorded<S> {
    server: S,
    sim: Sim,
    log: Log,
}

impl<S: Client<Error = Error<Failure>>> Service<Call> for Recorded<S> {
    type Response = Reply;
    type Error = S::Error;
    type Future = Promise<Reply, S::Error>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, call: Call) -> Self::Future {
        let Self { server, sim, log } = self.clone();
        Box::pin(async move {
            let came = sim.elapsed();
            let result = server.oneshot(call).await;
            let took = result.is_ok().then(|| (sim.elapsed() - came).as_secs_f64());
            log.borrow_mut().push(Record { came: came.as_secs_f64(), took });
            result
        })
    }
}
