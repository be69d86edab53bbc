//! What a stack tells of its calls, attempts and states.

#[cfg(feature = "metrics")]
mod collect;
#[cfg(feature = "metrics")]
mod metrics;
#[cfg(feature = "metrics")]
mod outcome;
#[cfg(feature = "metrics")]
mod reason;
#[cfg(feature = "metrics")]
mod registry;
#[cfg(feature = "metrics")]
mod table;
#[cfg(feature = "metrics")]
mod tally;

#[cfg(feature = "metrics")]
#[doc(hidden)]
pub use self::metrics::Begun;
#[cfg(feature = "metrics")]
pub use self::{
    metrics::{Metrics, Sample, SampleValue, Watching},
    table::{METRICS, MetricInfo, MetricKind},
};
pub use crate::histogram::{BUCKETS, Histogram};
