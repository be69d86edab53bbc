//! Instants as numbers, for state in one atomic word.

use crate::amount::amount;
use std::time::Duration;
use tokio::time::Instant;

amount! {
    /// Nanoseconds: a duration, or an instant as its distance from an [`Origin`].
    ///
    /// The maximum stands for 584 years or more.
    struct Nanos;
}

impl Nanos {
    pub(crate) const MAX: Self = Self(u64::MAX);

    /// Converts a duration.
    #[inline]
    pub(crate) const fn of(duration: Duration) -> Self {
        // Cheaper than `as_nanos`, which multiplies 128 bits.
        let whole = duration.as_secs().saturating_mul(1_000_000_000);
        Self(whole.saturating_add(duration.subsec_nanos() as u64))
    }

    #[inline]
    pub(crate) const fn duration(self) -> Duration {
        Duration::from_nanos(self.0)
    }
}

/// The instant from which a mechanism counts nanoseconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Origin(Instant);

impl Origin {
    /// Makes an origin at this instant.
    pub(crate) fn at(instant: Instant) -> Self {
        Self(instant)
    }

    /// Returns the time from the origin to `now`: zero before the origin, the maximum after 584 years.
    #[inline]
    pub(crate) fn to(self, now: Instant) -> Nanos {
        Nanos::of(now.saturating_duration_since(self.0))
    }

    /// Returns the instant at this distance from the origin, if it can be represented.
    pub(crate) fn instant(self, time: Nanos) -> Option<Instant> {
        self.0.checked_add(time.duration())
    }
}
