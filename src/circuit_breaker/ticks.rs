use super::window::BUCKETS;
use crate::{
    clock::Nanos,
    sync::{AtomicU64, Ordering},
};
use std::time::Duration;

/// The numbering of the ticks of a window. Each tick is a sixteenth of the window.
///
/// If the length of a window changes, its buckets are not copied. The numbering goes on at the latest tick, and later
/// ticks have the new length. A record that runs during the change therefore still goes to a bucket whose tick is in
/// the window. If the window becomes shorter, the numbering also skips ticks, so that the oldest buckets expire at
/// once.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ticks {
    /// Ticks per nanosecond, rounded up. The highest 58 bits are the fraction, scaled so that its first bit is set; the
    /// lowest 6 bits are the scale. The relative error is below 2^-57, whether a tick lasts nanoseconds or weeks. A
    /// tick begins at its exact nanosecond in the first 2^57 ns (4.5 years), and up to 22 ns early after a century.
    per_nano: u64,
    /// The tick at the origin, minus the first tick of the era, `(era + 1) * BUCKETS`. It wraps around.
    offset: u64,
}

/// A tick lasts `2^(FRACTION + scale) / fraction` nanoseconds.
const FRACTION: u32 = 63;
const SCALE_BITS: u32 = 6;
const SCALE_MASK: u64 = (1 << SCALE_BITS) - 1;

/// The ticks that other threads read.
pub(super) struct SharedTicks {
    per_nano: AtomicU64,
    offset: AtomicU64,
}

impl Ticks {
    /// Returns the ticks of a window of this length, counted from the origin. A length below 16 ns counts as 16 ns.
    pub(super) fn new(length: Duration) -> Self {
        let tick_nanos = (Nanos::of(length).0 / BUCKETS).max(1);
        // `2^scale` is at least `tick_nanos`, and half of it is less. Before rounding, the quotient is therefore at
        // least 2^63 and less than 2^64.
        let scale = u64::BITS - (tick_nanos - 1).leading_zeros();
        let fraction = (1_u128 << (FRACTION + scale)).div_ceil(u128::from(tick_nanos));
        let fraction = fraction.next_multiple_of(1 << SCALE_BITS).min(u128::from(!SCALE_MASK));
        Self { per_nano: fraction as u64 | u64::from(scale), offset: 0 }
    }

    /// Returns the tick of an instant.
    ///
    /// The first tick of an era is beyond the window of the era before. The numbering starts high enough that an
    /// untouched bucket, tagged zero, is outside the first window too.
    #[inline]
    pub(super) fn at(&self, era: u32, now: Nanos) -> u64 {
        // After 292 years the time stands still.
        let product = u128::from(now.0.min(u64::MAX >> 1)) * u128::from(self.per_nano & !SCALE_MASK);
        let since_origin = (product >> FRACTION) as u64 >> (self.per_nano & SCALE_MASK);
        since_origin.wrapping_add(self.offset).wrapping_add((u64::from(era) + 1) * BUCKETS)
    }

    /// Returns the ticks that follow `newest` in a window of the length `new` instead of `old`. `newest` is the latest
    /// tick that was recorded, or that of `now` if it is later.
    ///
    /// Records that are younger than the new window stay, and expire oldest first within the new length. They may
    /// expire too early: in a longer window because their ticks were shorter, in a shorter one because fewer ticks are
    /// left. If they expire too late, it is by less than one old and one new tick together.
    ///
    /// A thread that has read a later clock may record with the old ticks after the change. Its record may then be
    /// ahead of the new ticks. It counts once the new ticks reach it.
    pub(super) fn resized(old: Duration, new: Duration, newest: u64, era: u32, now: Nanos) -> Self {
        let kept = (u128::from(BUCKETS) * new.as_nanos()).div_ceil(old.as_nanos().max(1));
        let forgotten = BUCKETS - u64::try_from(kept).unwrap_or(u64::MAX).min(BUCKETS);
        Self::of_another_length(new, newest.wrapping_add(forgotten), era, now)
    }

    /// Returns the ticks of a window of this length that starts empty after `newest`.
    pub(super) fn emptied(length: Duration, newest: u64, era: u32, now: Nanos) -> Self {
        Self::of_another_length(length, newest.wrapping_add(BUCKETS), era, now)
    }

    /// Returns the ticks of a window of this length, numbered so that `now` is in `tick`.
    fn of_another_length(length: Duration, tick: u64, era: u32, now: Nanos) -> Self {
        let ticks = Self::new(length);
        Self { offset: tick.wrapping_sub(ticks.at(era, now)), ..ticks }
    }
}

impl SharedTicks {
    pub(super) fn new(ticks: Ticks) -> Self {
        Self { per_nano: AtomicU64::new(ticks.per_nano), offset: AtomicU64::new(ticks.offset) }
    }

    /// Acquire: when a thread then checks whether `Rules::numbering` has changed, it does so after this load.
    #[inline]
    pub(super) fn load(&self) -> Ticks {
        Ticks { per_nano: self.per_nano.load(Ordering::Acquire), offset: self.offset.load(Ordering::Acquire) }
    }

    /// Release: if a thread reads a part of these ticks, its next load of the rules shows newer rules than those which
    /// named this slot before.
    pub(super) fn store(&self, ticks: Ticks) {
        self.per_nano.store(ticks.per_nano, Ordering::Release);
        self.offset.store(ticks.offset, Ordering::Release);
    }
}

#[cfg(all(test, not(steadfast_loom)))]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A century, in nanoseconds.
    const LONGEST: u64 = 100 * 365 * 24 * 60 * 60 * 1_000_000_000;

    proptest! {
        #[test]
        fn ticks_of_any_length_begin_at_their_exact_nanosecond(
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
            // The next tick begins at most 32 ns early. The bound that `per_nano` states is 22 ns.
            prop_assert_eq!(at(number * tick + tick - 33) - at(0), number);
        }
    }
}
