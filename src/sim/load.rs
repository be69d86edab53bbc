//! Loads: the calls of one class over time. `arrivals` computes their instants.

mod arrivals;

use super::kernel::Stream;
use crate::{context::Criticality, error::ConfigError};
use arrivals::{Rate, Segment};
use std::{fmt, time::Duration};

/// The most calls of one class in a run. More would take more than half an hour to simulate, or would never end.
const MOST_CALLS: f64 = 1e9;
const RULE_OF_CALLS: &str = "must be above 0, and at most 1e9 in the whole run";

/// The shortest time from the start of a call to the start of the same caller's next call, in a closed loop. Without
/// it, callers that do not think and a service that answers at once would keep the clock from advancing.
pub(super) const LEAST_ROUND: Duration = Duration::from_millis(1);

/// The most callers of a closed load, because each takes memory.
const MOST_CALLERS: usize = 1_000_000;

/// The calls of one class over time. A load is an open loop: a call arrives whether or not earlier calls were answered.
/// The exception is a [`closed`](Self::closed) load.
///
/// ```
/// use std::time::Duration;
/// use steadfast::sim::Load;
///
/// let secs = Duration::from_secs;
/// let visitors = Load::poisson(40.0).spike(secs(20), secs(25), 200.0);
/// let batch = Load::constant(10.0).named("batch").step(secs(60), 0.0);
/// # let _ = (visitors, batch);
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct Load {
    pub(super) name: String,
    pub(super) criticality: Criticality,
    pub(super) keys: u64,
    pub(super) in_time: Duration,
    arrivals: Arrivals,
    rate: Rate,
}

#[derive(Clone, Copy, Debug)]
enum Arrivals {
    Constant,
    Poisson,
    /// `callers` callers. Each thinks between the end of a call and its next call.
    Closed {
        callers: usize,
        think: Duration,
    },
}

impl Load {
    /// Returns calls at equal intervals, `rps` per second.
    pub fn constant(rps: f64) -> Self {
        Self::new(Arrivals::Constant, rps)
    }

    /// Returns calls at independent random instants (a Poisson process), `rps` per second on average.
    pub fn poisson(rps: f64) -> Self {
        Self::new(Arrivals::Poisson, rps)
    }

    /// Returns a closed loop, for comparison: each caller calls, waits for the end of its call, thinks, and calls
    /// again. A slow service slows its callers down, so such tests show no collapse. The rate follows from the loop, so
    /// a spike, step or ramp is an error when the scenario runs. A caller makes at most one call per millisecond.
    pub fn closed(callers: usize, think: Duration) -> Self {
        Self::new(Arrivals::Closed { callers, think }, 0.0)
    }

    fn new(arrivals: Arrivals, base: f64) -> Self {
        Self {
            name: "calls".to_owned(),
            criticality: Criticality::default(),
            keys: 1,
            in_time: Duration::from_secs(1),
            arrivals,
            rate: Rate { base, segments: Vec::new() },
        }
    }

    /// Sets the name of this class in the report. Default: "calls".
    pub fn named(self, name: impl Into<String>) -> Self {
        Self { name: name.into(), ..self }
    }

    /// Sets the criticality of these calls. The layers read it in the [context](crate::CallContext) of each call.
    /// Default: [`Criticality::default`].
    pub fn criticality(self, criticality: Criticality) -> Self {
        Self { criticality, ..self }
    }

    /// Draws the key of each call, such as a shard or a user, uniformly from 0 to `keys - 1`. Default: one key, 0.
    pub fn keys(self, keys: u64) -> Self {
        Self { keys, ..self }
    }

    /// Sets the time in which an answer is useful: a later one counts as late. Default: 1 s. Only the report uses it.
    /// The stack does not see it, and needs a timeout of its own.
    pub fn in_time(self, limit: Duration) -> Self {
        Self { in_time: limit, ..self }
    }

    /// Sets another rate, in calls per second, from one instant of the run to another. The end must be within the run.
    /// A spike, a step and a ramp count as disturbances for [`Report::recovery`](super::Report::recovery). Where they
    /// overlap, the one that was added last sets the rate.
    pub fn spike(self, from: Duration, to: Duration, rps: f64) -> Self {
        self.ramp(from, to, rps, rps)
    }

    /// Sets another rate, in calls per second, from this instant of the run on.
    pub fn step(self, from: Duration, rps: f64) -> Self {
        self.segment(from, None, rps, rps)
    }

    /// Changes the rate linearly, from `rps_from` at one instant of the run to `rps_to` at another. The end must be
    /// within the run. After the ramp, the rate is what it would be without the ramp. Add a [`step`](Self::step) to
    /// keep `rps_to`.
    pub fn ramp(self, from: Duration, to: Duration, rps_from: f64, rps_to: f64) -> Self {
        self.segment(from, Some(to), rps_from, rps_to)
    }

    fn segment(mut self, from: Duration, to: Option<Duration>, rate_from: f64, rate_to: f64) -> Self {
        self.rate.segments.push(Segment { from, to, rate_from, rate_to });
        self
    }

    pub(super) fn check(&self, length: Duration) -> Result<(), ConfigError> {
        let bad = |rate: f64| !rate.is_finite() || !(0.0..=1e9).contains(&rate);
        let rates = self.rate.segments.iter().flat_map(|segment| [segment.rate_from, segment.rate_to]);
        if let Some(rate) = rates.chain([self.rate.base]).find(|rate| bad(*rate)) {
            return Err(ConfigError::new("sim.load.rps", rate, "must be a number from 0 to 1e9"));
        }
        for Segment { from, to, .. } in &self.rate.segments {
            if let Arrivals::Closed { .. } = self.arrivals {
                return Err(ConfigError::new("sim.load.segment", from, "must be left out: a closed load has no rate"));
            }
            let to = to.unwrap_or(length);
            if *from >= to || to > length {
                let rule = "must begin before it ends, and end within the run";
                return Err(ConfigError::new("sim.load.segment", from..&to, rule));
            }
        }
        if self.keys == 0 {
            return Err(ConfigError::new("sim.load.keys", self.keys, "must be at least 1"));
        }
        if self.in_time.is_zero() {
            return Err(ConfigError::new("sim.load.in_time", self.in_time, "must be longer than zero"));
        }
        match self.arrivals {
            Arrivals::Closed { callers, .. } if !(1..=MOST_CALLERS).contains(&callers) => {
                Err(ConfigError::new("sim.load.callers", callers, "must be from 1 to 1000000"))
            }
            Arrivals::Closed { callers, think } => {
                let rounds = length.as_secs_f64() / think.max(LEAST_ROUND).as_secs_f64();
                check_calls(callers as f64 * rounds.max(1.0))
            }
            Arrivals::Constant | Arrivals::Poisson => check_calls(self.rate.calls_until(length)),
        }
    }

    /// Returns the callers and their thinking time, if this load is closed.
    pub(super) fn callers(&self) -> Option<(usize, Duration)> {
        match self.arrivals {
            Arrivals::Closed { callers, think } => Some((callers, think)),
            Arrivals::Constant | Arrivals::Poisson => None,
        }
    }

    /// Returns when the last change of the rate ends, if it changes.
    pub(super) fn last_change(&self) -> Option<Duration> {
        self.rate.last_change()
    }

    /// Returns when the first change of the rate begins, if it changes.
    pub(super) fn first_change(&self) -> Option<Duration> {
        self.rate.first_change()
    }

    /// Returns the instants of the calls, in order. For a closed load there are none here: its callers decide when to
    /// call.
    pub(super) fn arrivals(&self, random: Stream) -> impl Iterator<Item = Duration> + use<> {
        self.rate.arrivals(self.arrivals, random)
    }
}

fn check_calls(calls: f64) -> Result<(), ConfigError> {
    // NaN fails this comparison, too.
    if calls > 0.0 && calls <= MOST_CALLS { Ok(()) } else { Err(no_such_number_of_calls(calls)) }
}

pub(super) fn no_such_number_of_calls(calls: impl fmt::Debug) -> ConfigError {
    ConfigError::new("sim.load.calls", calls, RULE_OF_CALLS)
}
