use std::time::Duration;

/// A rate: a count per period.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(deny_unknown_fields))]
pub struct Pace {
    /// The count.
    pub count: u64,
    /// The time in which the count passes.
    #[cfg_attr(feature = "serde", serde(with = "crate::durations::pace_period"))]
    pub period: Duration,
}
