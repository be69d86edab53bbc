//! Backends of a simulation: their properties. The service is in `service`, what it counts in `counts`.

mod counts;
mod service;

pub use counts::BackendCounts;
pub use service::{Answer, BackendService};

use super::Latency;
use crate::error::ConfigError;
use std::{ops::Range, time::Duration};

/// The properties of a simulated backend. [`Sim::backend`](super::Sim::backend) makes the service.
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
    /// Calls that arrive fail at once.
    Outage,
    /// Calls that begin take this many times as long.
    Slow(f64),
    /// No call begins.
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

    /// At most `bound` calls wait. Further ones are answered with [`Failure::Overloaded`](super::Failure::Overloaded)
    /// at once. Default: no bound.
    pub fn queue_bound(self, bound: usize) -> Self {
        Self { queue: Queue { bound, ..self.queue }, ..self }
    }

    /// Each call fails with this probability, after the same time as a success.
    pub fn failing(self, probability: f64) -> Self {
        Self { failing: probability, ..self }
    }

    /// Calls with these keys fail at once: the shards or endpoints that are down. The keys are below the number that a
    /// load has ([`Load::keys`](super::Load::keys)).
    pub fn dead_keys(self, keys: Range<u64>) -> Self {
        Self { dead_keys: Some(keys), ..self }
    }

    /// Calls that arrive in this time fail at once. Times count from the start of the run, warm-up included, and end
    /// with the run at the latest.
    pub fn outage(self, during: Range<Duration>) -> Self {
        self.disturbed(Disturbance::Outage, during)
    }

    /// Calls that begin in this time take `factor` times as long.
    pub fn slow(self, during: Range<Duration>, factor: f64) -> Self {
        self.disturbed(Disturbance::Slow(factor), during)
    }

    /// Calls that would begin in this time begin at its end. The backend stands still, and keeps them.
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

    /// Whether a call with this key that arrives now fails at once.
    fn fails_at_once(&self, key: u64, now: Duration) -> bool {
        let is_dead = self.dead_keys.as_ref().is_some_and(|dead| dead.contains(&key));
        is_dead || self.disturbances_at(now).any(|(disturbance, _)| matches!(disturbance, Disturbance::Outage))
    }

    /// How much longer the backend stands still, if it does.
    fn rest_of_hang(&self, now: Duration) -> Option<Duration> {
        let mut hangs = self.disturbances_at(now).filter(|(disturbance, _)| matches!(disturbance, Disturbance::Hang));
        hangs.next().map(|(_, during)| during.end - now)
    }

    /// The time that a call takes which begins now and would take this long in calm times.
    fn slowed(&self, latency: Duration, now: Duration) -> Duration {
        self.disturbances_at(now).fold(latency, |latency, (disturbance, _)| match disturbance {
            Disturbance::Slow(factor) => {
                Duration::try_from_secs_f64(latency.as_secs_f64() * factor).unwrap_or(Duration::MAX)
            }
            Disturbance::Outage | Disturbance::Hang => latency,
        })
    }

    fn disturbances_at(&self, now: Duration) -> impl Iterator<Item = &(Disturbance, Range<Duration>)> {
        self.disturbances.iter().filter(move |(_, during)| during.contains(&now))
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
