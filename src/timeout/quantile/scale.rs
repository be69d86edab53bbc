//! Buckets of equal relative width for durations.

use crate::clock::Nanos;

/// 2^7 = 128 buckets for each doubling. Each number of nanoseconds below 128 has its own bucket. From there on, no
/// bucket is wider than 1/128 of its lower bound.
const BITS: u32 = 7;

/// The buckets between a floor and a ceiling. Durations outside are in the first or the last bucket.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scale {
    floor: Nanos,
    ceiling: Nanos,
}

impl Scale {
    /// Makes the buckets between two durations. The floor must be at most the ceiling.
    pub(super) fn new(floor: Nanos, ceiling: Nanos) -> Self {
        Self { floor, ceiling }
    }

    pub(super) fn ceiling(self) -> Nanos {
        self.ceiling
    }

    /// Returns the number of buckets.
    pub(super) fn count(self) -> usize {
        usize::from(self.bucket(self.ceiling)) + 1
    }

    /// Returns the bucket of a duration.
    #[inline]
    pub(super) fn bucket(self, duration: Nanos) -> u16 {
        place(duration.0.clamp(self.floor.0, self.ceiling.0)) - place(self.floor.0)
    }

    /// Returns the longest duration of a bucket, at least the floor and at most the ceiling.
    pub(super) fn upper(self, bucket: usize) -> Nanos {
        let place = bucket as u64 + u64::from(place(self.floor.0));
        let octave = (place >> BITS) as u32;
        let below = 1 << BITS;
        // Each number below 128 has its own bucket.
        let upper = if octave == 0 {
            place
        } else {
            (((place & (below - 1)) + below + 1).checked_shl(octave - 1).unwrap_or(u64::MAX)) - 1
        };
        self.clamp(Nanos(upper))
    }

    /// Returns the shortest duration of a bucket: zero for the first, which includes all durations below the floor.
    pub(super) fn lower(self, bucket: u16) -> Nanos {
        match usize::from(bucket).checked_sub(1) {
            Some(before) => self.upper(before).saturating_add(Nanos(1)),
            None => Nanos::ZERO,
        }
    }

    pub(super) fn clamp(self, duration: Nanos) -> Nanos {
        Nanos(duration.0.clamp(self.floor.0, self.ceiling.0))
    }
}

/// Returns the bucket of a number on the scale that begins at zero.
#[inline]
fn place(number: u64) -> u16 {
    let octave = (64 - number.leading_zeros()).saturating_sub(BITS);
    if octave == 0 {
        return number as u16;
    }
    let digits = (number >> (octave - 1)) & ((1 << BITS) - 1);
    (octave << BITS) as u16 | digits as u16
}

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum End {
    Answered = 1,
    /// The call was given up at its limit.
    GivenUp,
    /// Another deadline ended the call earlier.
    Cut,
}

/// How long a call took, and how it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sample {
    pub(super) bucket: u16,
    pub(super) end: End,
}

/// The number of an era, which lasts until the limit begins again at the ceiling. A call counts in the era in which it
/// began, and in no later one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Era(pub(super) u64);

impl Era {
    /// The number of lower bits of a word that hold the sample. The upper bits hold the era.
    const SHIFT: u32 = 18;
    const MASK: u64 = u64::MAX >> Self::SHIFT;

    pub(super) fn next(self) -> Self {
        Self((self.0 + 1) & Self::MASK)
    }
}

impl Sample {
    #[inline]
    pub(super) fn new(scale: Scale, end: End, after: Nanos) -> Self {
        Self { bucket: scale.bucket(after), end }
    }

    /// Returns the sample and its era as a word, which is never zero.
    #[inline]
    pub(super) fn word(self, era: Era) -> u64 {
        self.end as u64 | u64::from(self.bucket) << 2 | era.0 << Era::SHIFT
    }

    /// Returns the sample in a word, if the word is of this era.
    pub(super) fn of_word(word: u64, era: Era) -> Option<Self> {
        let end = match word & 3 {
            1 => End::Answered,
            2 => End::GivenUp,
            3 => End::Cut,
            _ => return None,
        };
        (word >> Era::SHIFT == era.0).then_some(Self { bucket: (word >> 2) as u16, end })
    }
}

#[cfg(all(test, not(steadfast_loom)))]
mod tests {
    use super::*;

    #[test]
    fn buckets_have_no_gaps_and_none_is_wider_than_a_128th() {
        let scale = Scale::new(Nanos(1), Nanos(1 << 50));
        for bucket in 1..scale.count() {
            let (below, upper) = (scale.upper(bucket - 1).0, scale.upper(bucket).0);
            assert_eq!(usize::from(scale.bucket(Nanos(below + 1))), bucket);
            assert_eq!(usize::from(scale.bucket(Nanos(upper))), bucket);
            assert!(upper - below <= (below + 1) / 128 + 1, "{below} {upper}");
        }
    }

    #[test]
    fn a_word_of_a_sample_converts_back() {
        let last = Era(Era::MASK);
        for end in [End::Answered, End::GivenUp, End::Cut] {
            for bucket in [0, 8191, u16::MAX] {
                for era in [Era(0), Era(1), last] {
                    let sample = Sample { bucket, end };
                    assert_eq!(Sample::of_word(sample.word(era), era), Some(sample));
                    assert_eq!(Sample::of_word(sample.word(era), era.next()), None);
                }
            }
        }
        assert_eq!(last.next(), Era(0));
        assert_eq!(Sample::of_word(0, Era(0)), None);
    }

    #[test]
    fn the_lower_bound_of_a_bucket_is_its_shortest_duration() {
        let scale = Scale::new(Nanos(1_000_000), Nanos(30_000_000_000));
        assert_eq!(scale.lower(0), Nanos::ZERO);
        for bucket in 1..scale.count() as u16 {
            let lower = scale.lower(bucket);
            assert_eq!((scale.bucket(lower), scale.bucket(Nanos(lower.0 - 1))), (bucket, bucket - 1));
        }
    }
}
