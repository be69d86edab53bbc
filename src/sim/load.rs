use crate::{Criticality, error::ConfigError};
use rand::Rng;
use rand_distr::{Distribution, Exp1};
use std::time::Duration;

/// The most calls of one class: more would take half an hour and longer, or forever.
const MOST_CALLS: f64 = 1e9;

/// The most callers of a closed load, each of which takes memory.
const MOST_CALLERS: usize = 1_000_000;

/// Calls that arrive over time, of one class. Open-loop: nobody waits for an answer before the next call arrives.
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
    base: f64,
    /// In the order in which they were named; a later one covers an earlier one.
    segments: Vec<Segment>,
}

#[derive(Clone, Copy, Debug)]
enum Arrivals {
    Constant,
    Poisson,
    /// So many callers, each of which thinks between an answer and its next call.
    Closed {
        callers: usize,
        think: Duration,
    },
}

/// A rate that moves in a straight line.
#[derive(Clone, Copy, Debug)]
struct Segment {
    from: f64,
    to: f64,
    rate_from: f64,
    rate_to: f64,
}

impl Load {
    /// Calls at even distances, so many per second.
    pub fn constant(rps: f64) -> Self {
        Self::new(Arrivals::Constant, rps)
    }

    /// Calls at independent random instants, so many per second on average.
    pub fn poisson(rps: f64) -> Self {
        Self::new(Arrivals::Poisson, rps)
    }

    /// Closed-loop, for contrast: each caller calls, waits for the end of its call, thinks, and calls again. A slow
    /// service slows them down, which is why such tests see no collapse.
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
            base,
            segments: Vec::new(),
        }
    }

    /// The name of this class in the report. Default: "calls".
    pub fn named(self, name: impl Into<String>) -> Self {
        Self { name: name.into(), ..self }
    }

    /// The criticality of these calls.
    pub fn criticality(self, criticality: Criticality) -> Self {
        Self { criticality, ..self }
    }

    /// Draws the key of each call uniformly from 0 to below `keys`: its shard, its user.
    pub fn keys(self, keys: u64) -> Self {
        Self { keys, ..self }
    }

    /// How long an answer is worth having: a later one counts as late. Default 1 s.
    pub fn in_time(self, limit: Duration) -> Self {
        Self { in_time: limit, ..self }
    }

    /// Another rate from one instant to another.
    pub fn spike(self, from: Duration, to: Duration, rps: f64) -> Self {
        self.ramp(from, to, rps, rps)
    }

    /// Another rate from this instant on.
    pub fn step(self, from: Duration, rps: f64) -> Self {
        self.segment(from.as_secs_f64(), f64::INFINITY, rps, rps)
    }

    /// A rate that moves in a straight line from one instant to another.
    pub fn ramp(self, from: Duration, to: Duration, rps_from: f64, rps_to: f64) -> Self {
        self.segment(from.as_secs_f64(), to.as_secs_f64(), rps_from, rps_to)
    }

    fn segment(mut self, from: f64, to: f64, rate_from: f64, rate_to: f64) -> Self {
        self.segments.push(Segment { from, to, rate_from, rate_to });
        self
    }

    pub(super) fn check(&self, length: Duration) -> Result<(), ConfigError> {
        let bad = |rate: f64| !rate.is_finite() || !(0.0..=1e9).contains(&rate);
        let rates = self.segments.iter().flat_map(|segment| [segment.rate_from, segment.rate_to]);
        if let Some(rate) = rates.chain([self.base]).find(|rate| bad(*rate)) {
            return Err(ConfigError::new("sim.load.rps", rate, "must be a number from 0 to 1e9"));
        }
        for Segment { from, to, .. } in &self.segments {
            if from >= to || *from >= length.as_secs_f64() {
                let rule = "must begin before it ends, and before the run does";
                return Err(ConfigError::new("sim.load.segment", (from, to), rule));
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
            Arrivals::Closed { .. } => Ok(()),
            Arrivals::Constant | Arrivals::Poisson => {
                let calls = self.expected_calls(length.as_secs_f64());
                // A comparison that NaN fails, too.
                if calls > 0.0 && calls <= MOST_CALLS {
                    return Ok(());
                }
                Err(ConfigError::new("sim.load.calls", calls, "must have arrivals, and at most 1e9 in the whole run"))
            }
        }
    }

    /// How many calls arrive in a run of this length, on average.
    fn expected_calls(&self, length: f64) -> f64 {
        let (mut at, mut calls) = (0.0, 0.0);
        while at < length {
            let (rate, slope, end) = self.piece(at);
            let time = end.min(length) - at;
            calls += time * (rate + slope * time / 2.0);
            at = end;
        }
        calls
    }

    /// The callers and their thinking time, if this load is closed.
    pub(super) fn callers(&self) -> Option<(usize, Duration)> {
        match self.arrivals {
            Arrivals::Closed { callers, think } => Some((callers, think)),
            Arrivals::Constant | Arrivals::Poisson => None,
        }
    }

    /// When the last change of the rate is over.
    pub(super) fn last_change(&self) -> f64 {
        let ends = self.segments.iter().map(|segment| if segment.to.is_finite() { segment.to } else { segment.from });
        ends.fold(0.0, f64::max)
    }

    /// The next arrival after `now`, in seconds, if the rate ever allows one.
    pub(super) fn next_arrival(&self, now: f64, random: &mut dyn Rng) -> Option<f64> {
        let mut wanted: f64 = match self.arrivals {
            Arrivals::Constant => 1.0,
            Arrivals::Poisson => Exp1.sample(random),
            Arrivals::Closed { .. } => return None,
        };
        // Walks over the pieces of the rate, each a straight line, until its integral has grown by `wanted`.
        let mut at = now;
        loop {
            let (rate, slope, end) = self.piece(at);
            let length = end - at;
            let area = if length.is_finite() { length * (rate + slope * length / 2.0) } else { f64::INFINITY };
            if rate <= 0.0 && slope <= 0.0 && length.is_infinite() {
                return None;
            }
            if area >= wanted {
                // rate * x + slope * x^2 / 2 = wanted, in the form that stays exact for a small slope.
                let root = (rate * rate + 2.0 * slope * wanted).max(0.0).sqrt();
                return Some(at + 2.0 * wanted / (rate + root));
            }
            wanted -= area;
            at = end;
        }
    }

    /// The rate at an instant, how it changes, and until when that holds.
    fn piece(&self, at: f64) -> (f64, f64, f64) {
        let next = |end: f64| {
            let edges = self.segments.iter().flat_map(|segment| [segment.from, segment.to]);
            edges.filter(|edge| *edge > at).fold(end, f64::min)
        };
        match self.segments.iter().rev().find(|segment| segment.from <= at && at < segment.to) {
            Some(Segment { from, to, rate_from, rate_to }) => {
                let slope = if to.is_finite() { (rate_to - rate_from) / (to - from) } else { 0.0 };
                (rate_from + slope * (at - from), slope, next(*to))
            }
            None => (self.base, 0.0, next(f64::INFINITY)),
        }
    }
}
