//! The counts of a backend, and its averages over time.

use std::{ops::Range, time::Duration};

/// The calls that arrived at a backend after the warm-up. Each received call was answered, refused, wasted or
/// abandoned, or is in flight. `most_in_flight` and the means also include calls that arrived in the warm-up and are
/// still in the backend.
#[derive(Clone, Debug, Default, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct BackendCounts {
    /// The backend's name.
    pub name: String,
    /// Calls that arrived.
    pub received: u64,
    /// Calls that it finished while their callers still waited: failures included, refusals not.
    pub answered: u64,
    /// Calls that it finished after their callers had gone.
    pub wasted: u64,
    /// Calls that it stopped, or never began, because it noticed that their callers had gone.
    pub abandoned: u64,
    /// Calls that it refused because its queue was full.
    pub refused: u64,
    /// The most calls in the backend at once, including waiting ones.
    pub most_in_flight: u64,
    /// The mean number of busy servers, from the end of the warm-up to the end of the run. A server is not busy if its
    /// call has not begun because the backend hangs. The time after the run, while the last calls settle, does not
    /// count.
    pub mean_busy: f64,
    /// The mean number of calls that waited for a server, from the end of the warm-up to the end of the run.
    pub mean_waiting: f64,
    /// `mean_busy` as a share of all servers, from 0 to 1. `None` if the number of servers has no bound.
    pub utilization: Option<f64>,
    /// Calls that are in the backend when the counts are read. For a report, the run reads them after it has waited for
    /// the last calls.
    pub in_flight: u64,
}

/// Sums over time, for the averages of a backend.
#[derive(Default)]
pub(super) struct Averages {
    /// The servers that process a call. A server whose call has not begun, because the backend hangs, is not one of
    /// them.
    pub(super) working: usize,
    /// The last time at which [`look`](Self::look) brought the sums up to date.
    pub(super) until: Duration,
    /// The length of time that the sums cover.
    length: Duration,
    /// The number of working servers, integrated over the time in seconds.
    working_seconds: f64,
    /// The number of waiting calls, integrated over the time in seconds.
    waiting_seconds: f64,
}

impl Averages {
    /// Adds the part in `counted` of the time since this function last ran. In that time, `waiting` calls waited for a
    /// server.
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
