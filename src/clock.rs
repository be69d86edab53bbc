//! Instants as numbers, for what keeps its state in one atomic word.

use std::time::Duration;
use tokio::time::Instant;

/// The instant from which a mechanism counts nanoseconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Origin(Instant);

impl Origin {
    /// Counts from this instant on.
    pub(crate) fn at(instant: Instant) -> Self {
        Self(instant)
    }

    /// The nanoseconds from the origin to `now`: zero before the origin, the largest number after 584 years.
    #[inline]
    pub(crate) fn nanos_to(self, now: Instant) -> u64 {
        nanos(now.saturating_duration_since(self.0))
    }

    /// The instant of this many nanoseconds since the origin, if there is one.
    pub(crate) fn instant(self, nanos: u64) -> Option<Instant> {
        self.0.checked_add(Duration::from_nanos(nanos))
    }
}

/// A duration in whole nanoseconds: the largest number from 584 years on.
#[inline]
pub(crate) fn nanos(duration: Duration) -> u64 {
    // Cheaper than `as_nanos`, which multiplies 128 bits.
    duration.as_secs().saturating_mul(1_000_000_000).saturating_add(u64::from(duration.subsec_nanos()))
}
