//! The settings of simulated backends. The service is in `service`, its counts are in `counts`.

mod counts;
mod service;

pub use counts::BackendCounts;
pub use service::{Answer, BackendService};

use super::Latency;
use crate::error::ConfigError;
use std::{ops::Range, time::Duration};

/// The settings of a simulated backend. [`Sim::backend`](super::Sim::backend) creates the service.
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

/// How calls wait for a server.
#[derive(Clone, Copy, Debug)]
struct Queue {
    newest_first: bool,
    /// The most calls that wait.
    bound: usize,
}

#[derive(Clone, Copy, Debug)]
enum Disturbance {
    /// Calls that arrive fail at once.
    Outage,
    /// The latency of calls that begin is multiplied by this factor.
    Slow(f64),
    /// No call begins.
    Hang,
}

impl Backend {
    /// Returns a backend with an unlimited number of servers. Each takes this latency for a call.
    ///
    /// Unless other methods say so, the backend never fails. It continues calls whose callers have gone, as most
    /// services do.
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

    /// Sets the name in the report. Default: "backend".
    pub fn named(self, name: impl Into<String>) -> Self {
        Self { name: name.into(), ..self }
    }

    /// Processes at most `servers` calls at once. Further calls wait, first come, first served unless
    /// [`newest_first`](Self::newest_first) is set. Default: no bound.
    pub fn servers(self, servers: usize) -> Self {
        Self { servers, ..self }
    }

    /// Serves the newest waiting call first.
    pub fn newest_first(self) -> Self {
        Self { queue: Queue { newest_first: true, ..self.queue }, ..self }
    }

    /// Lets at most `bound` calls wait. Answers further calls with [`Failure::Overloaded`](super::Failure::Overloaded)
    /// at once. Default: no bound.
    pub fn queue_bound(self, bound: usize) -> Self {
        Self { queue: Queue { bound, ..self.queue }, ..self }
    }

    /// Fails each call with this probability, after the same time as a success.
    pub fn failing(self, probability: f64) -> Self {
        Self { failing: probability, ..self }
    }

    /// Fails calls with these keys at once: shards or endpoints that are down. The range must not be empty. Its keys
    /// must be below the number of keys of at least one load ([`Load::keys`](super::Load::keys)).
    pub fn dead_keys(self, keys: Range<u64>) -> Self {
        Self { dead_keys: Some(keys), ..self }
    }

    /// Fails calls that arrive in this time at once. As with all disturbances, the time counts from the start of the
    /// run, including the warm-up. It must not be empty, and must end by the end of the run.
    pub fn outage(self, during: Range<Duration>) -> Self {
        self.disturbed(Disturbance::Outage, during)
    }

    /// Multiplies the latency of calls that begin in this time by `factor`.
    pub fn slow(self, during: Range<Duration>, factor: f64) -> Self {
        self.disturbed(Disturbance::Slow(factor), during)
    }

    /// Hangs in this time: a call that would begin in it begins when the hang ends. Until then the backend keeps the
    /// call, and the call keeps its server. Calls that began before the hang continue.
    pub fn hang(self, during: Range<Duration>) -> Self {
        self.disturbed(Disturbance::Hang, during)
    }

    fn disturbed(mut self, disturbance: Disturbance, during: Range<Duration>) -> Self {
        self.disturbances.push((disturbance, during));
        self
    }

    /// Stops processing a call when its caller has gone. While the backend [hangs](Self::hang), it keeps a call that
    /// has a server until the hang ends.
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
            let rule = "must begin before they end, and be below a load's number of keys";
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

    /// Returns whether a call with this key that arrives now fails at once.
    fn fails_at_once(&self, key: u64, now: Duration) -> bool {
        let is_dead = self.dead_keys.as_ref().is_some_and(|dead| dead.contains(&key));
        is_dead || self.disturbances_at(now).any(|(disturbance, _)| matches!(disturbance, Disturbance::Outage))
    }

    /// Returns the time until the present hang ends, or `None` if the backend does not hang. If several hangs overlap,
    /// returns the time until the end of the one that was added first.
    fn rest_of_hang(&self, now: Duration) -> Option<Duration> {
        let mut hangs = self.disturbances_at(now).filter(|(disturbance, _)| matches!(disturbance, Disturbance::Hang));
        hangs.next().map(|(_, during)| during.end - now)
    }

    /// Returns the latency of a call that begins now. `latency` is its latency without disturbances.
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

    /// Returns when the first disturbance begins, if there is one.
    pub(super) fn first_disturbance(&self) -> Option<Duration> {
        self.disturbances.iter().map(|(_, during)| during.start).min()
    }

    /// Returns when the last disturbance ends, if there is one.
    pub(super) fn last_disturbance(&self) -> Option<Duration> {
        self.disturbances.iter().map(|(_, during)| during.end).max()
    }
}
