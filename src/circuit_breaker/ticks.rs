use super::window::BUCKETS;
use crate::sync::{AtomicU64, Ordering};
use std::time::Duration;

/// How the ticks of a window are numbered: each is a sixteenth of it.
///
/// A window whose length changes is not copied: the next tick follows on the latest, and from then on ticks have their new
/// length. So a record that is under way meanwhile gets into the bucket of a tick that still counts.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ticks {
    /// Ticks per nanosecond, as a fraction of 2^64.
    per_nano: u64,
    /// The tick at the origin, less than the first of the era. It wraps around.
    offset: u64,
}

/// Ticks that other threads read.
pub(super) struct SharedTicks {
    per_nano: AtomicU64,
    offset: AtomicU64,
}

impl Ticks {
    /// The ticks of a window of this length, at least 16 ns, counted from the origin.
    pub(super) fn new(length: Duration) -> Self {
        let tick_nanos = (length.as_nanos() / u128::from(BUCKETS)).max(1);
        Self { per_nano: u64::try_from((1u128 << 64) / tick_nanos).unwrap_or(u64::MAX), offset: 0 }
    }

    /// The tick of an instant, in nanoseconds since the origin.
    ///
    /// The first tick of an era is past the window of the one before. Starts high enough that an untouched bucket, tagged
    /// zero, is outside of the first window too.
    #[inline]
    pub(super) fn at(&self, era: u32, nanos: u64) -> u64 {
        let since_origin = (u128::from(nanos) * u128::from(self.per_nano)) >> 64;
        (since_origin as u64).wrapping_add(self.offset).wrapping_add((u64::from(era) + 1) * BUCKETS)
    }

    /// The ticks of a window of another length which at this instant are at `tick` or after.
    pub(super) fn of_another_length(length: Duration, tick: u64, era: u32, nanos: u64) -> Self {
        let ticks = Self::new(length);
        Self { offset: tick.wrapping_sub(ticks.at(era, nanos)), ..ticks }
    }
}

impl SharedTicks {
    pub(super) fn new(ticks: Ticks) -> Self {
        Self { per_nano: AtomicU64::new(ticks.per_nano), offset: AtomicU64::new(ticks.offset) }
    }

    /// Acquires, so that whoever then looks which numbering counts does so after.
    #[inline]
    pub(super) fn load(&self) -> Ticks {
        Ticks { per_nano: self.per_nano.load(Ordering::Acquire), offset: self.offset.load(Ordering::Acquire) }
    }

    /// Releases, so that whoever reads a part of it also sees that the numbering that was here counts no more.
    pub(super) fn store(&self, ticks: Ticks) {
        self.per_nano.store(ticks.per_nano, Ordering::Release);
        self.offset.store(ticks.offset, Ordering::Release);
    }
}
