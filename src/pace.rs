use std::time::Duration;

/// A count per period.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(deny_unknown_fields))]
pub struct Pace {
    /// How many.
    pub count: u64,
    /// In which time.
    #[cfg_attr(feature = "serde", serde(with = "crate::durations::pace_period"))]
    pub period: Duration,
}
