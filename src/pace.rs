use std::time::Duration;

/// A rate: a count per period.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(deny_unknown_fields))]
pub struct Pace {
    /// The number in each period: of calls in a queue's pace, of retries in the floor of a retry budget.
    pub count: u64,
    /// The length of the period.
    #[cfg_attr(feature = "serde", serde(with = "crate::durations::pace_period"))]
    pub period: Duration,
}
