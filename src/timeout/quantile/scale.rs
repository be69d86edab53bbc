//! Durations by buckets of equal relative width.

use crate::clock::Nanos;

/// 128 buckets for each doubling: none is wider than 1/128 of its lower bound.
const BITS: u32 = 7;

/// The buckets between a floor and a ceiling. What is beyond is in the first or the last one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scale {
    floor: Nanos,
    ceiling: Nanos,
}

impl Scale {
    /// Buckets between these, the floor not above the ceiling.
    pub(super) fn new(floor: Nanos, ceiling: Nanos) -> Self {
        Self { floor, ceiling }
    }

    pub(super) fn ceiling(self) -> Nanos {
        self.ceiling
    }

    /// The number of buckets.
    pub(super) fn count(self) -> usize {
        usize::from(self.bucket(self.ceiling)) + 1
    }

    /// The bucket of a duration.
    #[inline]
    pub(super) fn bucket(self, duration: Nanos) -> u16 {
        place(duration.0.clamp(self.floor.0, self.ceiling.0)) - place(self.floor.0)
    }

    /// The longest duration of a bucket.
    pub(super) fn upper(self, bucket: usize) -> Nanos {
        let place = bucket as u64 + u64::from(place(self.floor.0));
        let octave = (place >> BITS) as u32;
        let below = 1 << BITS;
        // Small numbers have a bucket each.
        let upper = if octave == 0 {
            place
        } else {
            (((place & (below - 1)) + below + 1).checked_shl(octave - 1).unwrap_or(u64::MAX)) - 1
        };
        self.clamp(Nanos(upper))
    }

    pub(super) fn clamp(self, duration: Nanos) -> Nanos {
        Nanos(duration.0.clamp(self.floor.0, self.ceiling.0))
    }
}

/// The number of a bucket among those of all numbers.
#[inline]
fn place(number: u64) -> u16 {
    let octave = (64 - number.leading_zeros()).saturating_sub(BITS);
    if octave == 0 {
        return number as u16;
    }
    let digits = (number >> (octave - 1)) & ((1 << BITS) - 1);
    (octave << BITS) as u16 | digits as u16
}

/// How long a call took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sample {
    pub(super) bucket: u16,
    /// Whether it was given up then.
    pub(super) censored: bool,
}

impl Sample {
    #[inline]
    pub(super) fn answered(scale: Scale, latency: Nanos) -> Self {
        Self { bucket: scale.bucket(latency), censored: false }
    }

    #[inline]
    pub(super) fn censored(scale: Scale, limit: Nanos) -> Self {
        Self { bucket: scale.bucket(limit), censored: true }
    }

    /// A number that is not zero.
    #[inline]
    pub(super) fn word(self) -> u64 {
        1 | u64::from(self.censored) << 1 | u64::from(self.bucket) << 2
    }

    pub(super) fn of_word(word: u64) -> Option<Self> {
        (word != 0).then_some(Self { bucket: (word >> 2) as u16, censored: word & 2 != 0 })
    }
}

#[cfg(all(test, not(steadfast_loom)))]
mod tests {
    use super::*;

    #[test]
    fn buckets_follow_each_other_and_none_is_wider_than_a_hundred_and_twenty_eighth() {
        let scale = Scale::new(Nanos(1), Nanos(1 << 50));
        for bucket in 1..scale.count() {
            let (below, upper) = (scale.upper(bucket - 1).0, scale.upper(bucket).0);
            assert_eq!(usize::from(scale.bucket(Nanos(below + 1))), bucket);
            assert_eq!(usize::from(scale.bucket(Nanos(upper))), bucket);
            assert!(upper - below <= (below + 1) / 128 + 1, "{below} {upper}");
        }
    }

    #[test]
    fn a_sample_is_the_one_of_its_word() {
        for censored in [false, true] {
            let sample = Sample { bucket: 8191, censored };
            assert_eq!(Sample::of_word(sample.word()), Some(sample));
        }
        assert_eq!(Sample::of_word(0), None);
    }
}
