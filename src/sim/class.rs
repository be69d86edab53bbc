use super::{
    Recovery,
    recovery::{Disturbed, recovery},
    report::{check_goodput, check_recovery, check_rejected, known_mechanism, ratio},
};
use std::{collections::BTreeMap, time::Duration};

/// The results of the calls of one class.
///
/// `Display` prints it in the format of the report.
#[derive(Clone, Debug, Default, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct ClassReport {
    /// The name of the load.
    pub name: String,
    /// Calls that arrived after the warm-up. All other counts are parts of this number.
    pub offered: u64,
    /// Calls that were answered within [`Load::in_time`](super::Load::in_time).
    pub in_time: u64,
    /// Calls that were answered too late.
    pub late: u64,
    /// Calls that ended with a [`Failure`](super::Failure) of a backend, including refusals by its queue.
    pub failed: u64,
    /// Calls that ended with a rejection, by mechanism: one of [`Rejection::MECHANISMS`](crate::Rejection::MECHANISMS).
    /// A mechanism that rejected no call has no entry; [`rejected`](Self::rejected) returns 0 for it.
    pub rejected: BTreeMap<&'static str, u64>,
    /// Calls that had not ended when the run stopped waiting for them. See
    /// [`Scenario::settle_within`](super::Scenario::settle_within).
    pub unanswered: u64,
    /// The latency of the answers, late ones included, in seconds. `None` if there were none.
    pub latency: Option<Latencies>,
    /// The time until calls ended with a failure, in seconds. `None` if there were none.
    pub latency_of_failed: Option<Latencies>,
    /// The time until calls ended with a rejection, in seconds. `None` if there were none.
    pub latency_of_rejected: Option<Latencies>,
    /// The calls of this class over time, in the spans of the report. For the goodput in an interval, divide the sum of
    /// `in_time` by the sum of `offered` over the spans in the interval.
    pub spans: Vec<Span>,
    /// The time from the start of the run's first disturbance to the end of its last one. `None` if there was none.
    #[cfg_attr(feature = "serde", serde(skip))]
    pub(super) disturbed: Option<Disturbed>,
}

/// The mean and quantiles of a latency, in seconds. Each is exact to a thousandth of its value.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Latencies {
    /// The mean.
    pub mean: f64,
    /// The median.
    pub p50: f64,
    /// The 90th percentile.
    pub p90: f64,
    /// The 99th percentile.
    pub p99: f64,
    /// The 99.9th percentile.
    pub p999: f64,
    /// The longest.
    pub max: f64,
}

/// Calls that arrived in one span of time, and how many of them were answered in time.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Span {
    /// Its start, in seconds from the start of the run.
    pub from: f64,
    /// Its end, in seconds from the start of the run.
    pub to: f64,
    /// Calls that arrived in it.
    pub offered: u64,
    /// Those of the offered calls that were answered in time.
    pub in_time: u64,
}

impl ClassReport {
    /// Returns the share of the calls that were answered in time, from 0 to 1. `None` if no call arrived.
    pub fn goodput(&self) -> Option<f64> {
        (self.offered > 0).then(|| ratio(self.in_time, self.offered))
    }

    /// Returns the share of the calls that ended with a rejection by this mechanism.
    ///
    /// # Panics
    ///
    /// If no mechanism has this name, as [`Report::rejected`](super::Report::rejected) does.
    #[track_caller]
    pub fn rejected(&self, mechanism: &str) -> f64 {
        ratio(self.rejected.get(known_mechanism(mechanism)).copied().unwrap_or_default(), self.offered)
    }

    /// Returns how long after the last disturbance the goodput of this class recovered; see
    /// [`Report::recovery`](super::Report::recovery).
    pub fn recovery(&self) -> Recovery {
        recovery(&self.spans, self.disturbed)
    }

    /// Fails the test unless at least this share of the class's calls was answered in time.
    ///
    /// # Panics
    ///
    /// If the share was smaller, or no call arrived. The message contains the results of the class.
    #[track_caller]
    pub fn assert_goodput_at_least(&self, share: f64) {
        check_goodput(self.goodput(), share, self);
    }

    /// Fails the test unless 99 of 100 answers, late ones included, took at most this time.
    ///
    /// # Panics
    ///
    /// If they did not, or there was no answer. The message contains the class.
    #[track_caller]
    pub fn assert_p99_at_most(&self, limit: Duration) {
        let Some(latency) = &self.latency else {
            panic!("there was no answer, wanted a p99 of at most {limit:?}\n{self}")
        };
        let p99 = Duration::from_secs_f64(latency.p99);
        assert!(p99 <= limit, "the p99 is {p99:?}, wanted at most {limit:?}\n{self}");
    }

    /// Fails the test if a mechanism rejected more than this share of the class's calls.
    ///
    /// # Panics
    ///
    /// If it did, or if no mechanism has this name. The message contains the class.
    #[track_caller]
    pub fn assert_rejected_at_most(&self, mechanism: &str, share: f64) {
        check_rejected(mechanism, self.rejected(mechanism), share, self);
    }

    /// Fails the test unless the class's goodput recovered within this time after the last disturbance.
    ///
    /// # Panics
    ///
    /// If it did not, or if that is unknown, because there was no disturbance or too few calls arrived after it. The
    /// message contains the class.
    #[track_caller]
    pub fn assert_recovers_within(&self, limit: Duration) {
        check_recovery(self.recovery(), limit, self);
    }
}
