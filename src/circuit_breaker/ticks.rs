use super::window::BUCKETS;
use crate::{
    clock::Nanos,
    sync::{AtomicU64, Ordering},
};
use std::time::Duration;

/// How the ticks of a window are numbered: each is a sixteenth of it.
///
/// A window whose length changes is not copied: the next tick follows on the latest, and from then on ticks have their
/// new length. So a record that is under way meanwhile gets into the bucket of a tick that still counts.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ticks {
    /// Ticks per nanosecond, rounded up: the highest 58 bits are the fraction, scaled so that the first of them is set,
    /// and the lowest 6 say by how much. So it is as exact for ticks of weeks as for those of nanoseconds: to 2^-57. A
    /// tick begins at its very nanosecond in the first 2^57 ns (4.5 years), and up to 22 ns early after a century.
    per_nano: u64,
    /// The tick at the origin, less than the first of the era. It wraps around.
    offset: u64,
}

const FRACTION: u32 = 63;
const SCALE_BITS: u32 = 6;
const SCALE_MASK: u64 = (1 << SCALE_BITS) - 1;

/// Ticks that other threads read.
pub(super) struct SharedTicks {
    per_nano: AtomicU64,
    offset: AtomicU64,
}

impl Ticks {
    /// The ticks of a window of this length, at least 16 ns, counted from the origin.
    pub(super) fn new(length: Duration) -> Self {
        let tick_nanos = (Nanos::of(length).0 / BUCKETS).max(1);
        // Half of the next power of two is below it: the quotient has its first bit set, and fits.
        let scale = u64::BITS - (tick_nanos - 1).leading_zeros();
        let fraction = (1_u128 << (FRACTION + scale)).div_ceil(u128::from(tick_nanos));
        let fraction = fraction.next_multiple_of(1 << SCALE_BITS).min(u128::from(!SCALE_MASK));
        Self { per_nano: fraction as u64 | u64::from(scale), offset: 0 }
    }

    /// The tick of an instant.
    ///
    /// The first tick of an era is past the window of the one before. Starts high enough that an untouched bucket,
    /// tagged zero, is outside of the first window too.
    #[inline]
    pub(super) fn at(&self, era: u32, now: Nanos) -> u64 {
        // 292 years on time stands still.
        let product = u128::from(now.0.min(u64::MAX >> 1)) * u128::from(self.per_nano & !SCALE_MASK);
        let since_origin = (product >> FRACTION) as u64 >> (self.per_nano & SCALE_MASK);
        since_origin.wrapping_add(self.offset).wrapping_add((u64::from(era) + 1) * BUCKETS)
    }

    /// The ticks that follow on these in a window of this length instead of `old`. `newest` is the latest tick that was
    /// recorded, or that of `now` if it is later.
    ///
    /// Records that are no older than the new window stay, and slide out oldest first, within the new length. They may
    /// slide out too early, since their ticks were shorter, or are fewer. They never slide out more than a tick too
    /// late.
    ///
    /// A thread that has read the clock later, and records by the old ticks after the change, may be ahead of the new
    /// ones: its record counts when they have come to it.
    pub(super) fn resized(old: Duration, new: Duration, newest: u64, era: u32, now: Nanos) -> Self {
        let kept = (u128::from(BUCKETS) * new.as_nanos()).div_ceil(old.as_nanos().max(1));
        let forgotten = BUCKETS - u64::try_from(kept).unwrap_or(u64::MAX).min(BUCKETS);
        Self::of_another_length(new, newest.wrapping_add(forgotten), era, now)
    }

    /// The ticks of a window of this length that begins empty after `newest`.
    pub(super) fn emptied(length: Duration, newest: u64, era: u32, now: Nanos) -> Self {
        Self::of_another_length(length, newest.wrapping_add(BUCKETS), era, now)
    }

    /// The ticks of a window of another length which at this instant are at `tick` or after.
    fn of_another_length(length: Duration, tick: u64, era: u32, now: Nanos) -> Self {
        let ticks = Self::new(length);
        Self { offset: tick.wrapping_sub(ticks.at(era, now)), ..ticks }
    }
}

impl SharedTicks {
    pub(super) fn new(ticks: Ticks) -> Self {
        Self { per_nano: AtomicU64::new(ticks.per_nano), offset: AtomicU64::new(ticks.offset) }
    }

    /// Acquires, so that a thread which then looks which numbering counts does so after.
    #[inline]
    pub(super) fn load(&self) -> Ticks {
        Ticks { per_nano: self.per_nano.load(Ordering::Acquire), offset: self.offset.load(Ordering::Acquire) }
    }

    /// Releases, so that a thread which reads a part of it also sees that the earlier numbering counts no more.
    pub(super) fn store(&self, ticks: Ticks) {
        self.per_nano.store(ticks.per_nano, Ordering::Release);
        self.offset.store(ticks.offset, Ordering::Release);
    }
}

#[cfg(all(test, not(steadfast_loom)))]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A century.
    const LONGEST: u64 = 100 * 365 * 24 * 60 * 60 * 1_000_000_000;

    proptest! {
        #[test]
        fn ticks_of_any_length_begin_at_their_very_nanosecond(
            tick in 1..2_000_000_000_000_000_u64,
            number in any::<u64>(),
            part in 0.0..1.0,
        ) {
            let ticks = Ticks::new(Duration::from_nanos(tick * BUCKETS));
            let at = |nanos| ticks.at(0, Nanos(nanos));
            let number = number % ((1 << 57) / tick);
            for within in [0, ((tick as f64 * part) as u64).min(tick - 1), tick - 1] {
                prop_assert_eq!(at(number * tick + within) - at(0), number);
            }
        }

        #[test]
        fn in_a_century_they_begin_at_most_32_nanoseconds_early(
            tick in 64..2_000_000_000_000_000_u64,
            number in any::<u64>(),
        ) {
            let ticks = Ticks::new(Duration::from_nanos(tick * BUCKETS));
            let at = |nanos| ticks.at(0, Nanos(nanos));
            let number = number % (LONGEST / tick);
            prop_assert_eq!(at(number * tick) - at(0), number);
            prop_assert_eq!(at(number * tick + tick - 33) - at(0), number);
        }
    }
}
