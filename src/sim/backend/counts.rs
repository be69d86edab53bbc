//! The numbers of a backend, in counts and in averages over time.

use std::{ops::Range, time::Duration};

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
    /// The share of the same time in which a server worked, on average over the servers: from 0 to 1. `None` where
    /// their number has no bound.
    pub utilization: Option<f64>,
    /// Calls that are in it at present, or were at the end of the run.
    pub in_flight: u64,
}

/// Numbers of a backend, summed up over time.
#[derive(Default)]
pub(super) struct Averages {
    /// Servers that work.
    pub(super) working: usize,
    /// They are summed up until then.
    pub(super) until: Duration,
    /// How long the sums are.
    length: Duration,
    /// Each times the seconds for which it was so.
    working_seconds: f64,
    waiting_seconds: f64,
}

impl Averages {
    /// Adds the time since the last look, in which `waiting` calls waited.
    pub(super) fn look(&mut self, now: Duration, counted: &Range<Duration>, waiting: usize) {
        let (from, to) = (self.until.max(counted.start), now.min(counted.end));
        let passed = to.saturating_sub(from);
        self.length += passed;
        self.working_seconds += self.working as f64 * passed.as_secs_f64();
        self.waiting_seconds += waiting as f64 * passed.as_secs_f64();
        self.until = now;
    }

    pub(super) fn busy(&self) -> f64 {
        self.over_time(self.working_seconds)
    }

    pub(super) fn waiting(&self) -> f64 {
        self.over_time(self.waiting_seconds)
    }

    fn over_time(&self, seconds: f64) -> f64 {
        if self.length.is_zero() { 0.0 } else { seconds / self.length.as_secs_f64() }
    }
}
