//! Little's law: the calls in flight are the rate of completions times the latency.
//!
//! A call that finds `n` others ends after about `(n + 1) / rate`. It is refused if that is more than a share of its
//! remaining deadline. No latency is compared with an ideal one, so a service that becomes slower for good is not taken
//! for an overloaded one.
//!
//! | what is seen | rate |
//! |---|---|
//! | fewer than 32 completions | unknown: no limit but the ceiling |
//! | at least half of the limit was in use, or answers were late | what was measured |
//! | less than half was in use | the larger of what was measured and what was known, which decays |
//!
//! A count of completions is uncertain by its square root. The limit has two of these for slack, as long as the calls
//! that are admitted within the slack are not late.

use super::algorithm::{Algorithm, Limit, Window};
use std::time::Duration;

/// The windows that the rate is measured over.
const WINDOWS: usize = 8;
/// All windows together, as a share of the deadline.
const SPAN: f64 = 0.7;
/// Below this number of completions the rate is unknown.
const ENOUGH: u64 = 32;
/// A rate that cannot be measured decays by this share in each window, to half in about 500 deadlines / 11.
const DECAY: f64 = 1.0 / 1024.0;

/// Refuses a call that would not end within a share of its remaining deadline, by Little's law. The default.
///
/// It needs deadlines: those of the calls' [context](crate::CallContext), or the one that the limiter is
/// [told](super::super::LimiterBuilder::deadline).
#[derive(Clone, Debug)]
pub struct Little {
    share: f64,
    ring: [Seen; WINDOWS],
    next: usize,
    /// The windows in a row, up to now, in which the limit was in use.
    in_use: usize,
    /// Completions per second; zero while it is unknown.
    rate: f64,
    /// How much of the slack is trusted, from 0 to 1.
    trust: f64,
    deadline: Duration,
}

#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    busy: f64,
    completed: u64,
}

impl Little {
    /// A call may take up this share of its remaining deadline.
    pub(crate) fn new(share: f64) -> Self {
        Self {
            share,
            ring: [Seen::default(); WINDOWS],
            next: 0,
            in_use: 0,
            rate: 0.0,
            trust: 1.0,
            deadline: Duration::ZERO,
        }
    }

    /// What was seen in the last windows.
    fn last(&self, windows: usize) -> Seen {
        let index = |back: usize| (self.next + WINDOWS - back) % WINDOWS;
        (1..=windows.min(WINDOWS)).map(|back| self.ring[index(back)]).fold(Seen::default(), |sum, seen| Seen {
            busy: sum.busy + seen.busy,
            completed: sum.completed + seen.completed,
        })
    }

    fn limit(&self) -> Limit {
        if self.rate == 0.0 {
            return Limit::Unknown;
        }
        let expected = self.share * self.deadline.as_secs_f64() * self.rate;
        let slack = 2.0 * self.trust * expected.sqrt();
        let per_second = if expected > 0.0 { self.rate * (1.0 + slack / expected) } else { self.rate };
        Limit::Rate { per_second, share: self.share }
    }

    /// The calls within the deadline at this rate.
    fn calls(&self, rate: f64) -> f64 {
        self.share * self.deadline.as_secs_f64() * rate
    }
}

impl Seen {
    fn rate(self) -> f64 {
        if self.busy > 0.0 { self.completed as f64 / self.busy } else { 0.0 }
    }
}

impl Algorithm for Little {
    fn first(&mut self) -> Limit {
        Limit::Unknown
    }

    fn learn(&mut self, window: &Window) -> Limit {
        self.deadline = window.deadline;
        self.ring[self.next] = Seen { busy: window.busy.as_secs_f64(), completed: window.completed };
        self.next = (self.next + 1) % WINDOWS;

        let is_in_use = window.late > 0 || 2.0 * window.most_in_flight as f64 >= self.calls(self.rate);
        self.in_use = if is_in_use { self.in_use + 1 } else { 0 };
        let all = self.last(WINDOWS);
        let in_use = self.last(self.in_use);
        if self.in_use >= WINDOWS || in_use.completed >= ENOUGH {
            // A standstill lets one call through at a time: the ceiling is for what is not known.
            self.rate = in_use.rate().max(f64::MIN_POSITIVE);
        } else if all.completed >= ENOUGH {
            self.rate = all.rate().max(self.rate * (1.0 - DECAY));
        }

        let evidence = (window.early + window.late) as f64;
        if window.late > 0 {
            self.trust *= 0.75_f64.powf(window.late as f64 / evidence);
        } else {
            let weight = if window.early > 0 { 16.0 } else { 64.0 };
            self.trust += (1.0 - self.trust) / weight;
        }
        self.limit()
    }

    fn window(&self, deadline: Duration) -> Duration {
        deadline.mul_f64(SPAN / WINDOWS as f64)
    }

    fn measures_all(&self) -> bool {
        false
    }
}
