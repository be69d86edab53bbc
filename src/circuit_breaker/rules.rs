use super::{BreakerBuilder, window::Counts};

/// When a circuit opens, in one word: a call that is settled reads it once, and never sees half of two configurations.
///
/// From the lowest bit on: the failures in a row and the rate, each zero where it is not asked for, the minimum of
/// calls, whether an overload is a failure, and which numbering of the window's ticks counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rules(pub(super) u64);

/// Each of the numbers is at most a million, less than 2^20.
const NUMBER_BITS: u32 = 20;
const NUMBER_MASK: u64 = (1 << NUMBER_BITS) - 1;
const RATE_SHIFT: u32 = NUMBER_BITS;
const MINIMUM_SHIFT: u32 = 2 * NUMBER_BITS;
const OVERLOAD: u64 = 1 << (3 * NUMBER_BITS);
const NUMBERING_SHIFT: u32 = 3 * NUMBER_BITS + 1;

/// A failure rate is kept in parts of this, so that no decision is made in floating point.
const PARTS: u64 = 1_000_000;

/// A rate in parts of [`PARTS`], at least one.
pub(super) fn parts(rate: f64) -> u32 {
    ((rate * PARTS as f64).round() as u32).max(1)
}

impl Rules {
    /// The rules of a configuration that was checked.
    pub(super) fn new(config: &BreakerBuilder, numbering: u64) -> Self {
        let in_a_row = config.consecutive_failures.unwrap_or(0);
        let rate = config.rate_and_window().map_or(0, |(rate, _)| parts(rate));
        Self(
            u64::from(in_a_row)
                | (u64::from(rate) << RATE_SHIFT)
                | (u64::from(config.minimum_calls) << MINIMUM_SHIFT)
                | if config.overload_is_failure { OVERLOAD } else { 0 }
                | (numbering << NUMBERING_SHIFT),
        )
    }

    /// Counts the changes of what is published in two places: the window's ticks, the slow share and the
    /// times. Modulo eight.
    #[inline]
    pub(super) fn numbering(self) -> u64 {
        self.0 >> NUMBERING_SHIFT
    }

    pub(super) fn next_numbering(numbering: u64) -> u64 {
        (numbering + 1) & (u64::MAX >> NUMBERING_SHIFT)
    }

    #[inline]
    pub(super) fn counts_in_a_row(self) -> bool {
        self.0 & NUMBER_MASK != 0
    }

    #[inline]
    pub(super) fn has_rate(self) -> bool {
        self.0 >> RATE_SHIFT & NUMBER_MASK != 0
    }

    #[inline]
    pub(super) fn overload_is_failure(self) -> bool {
        self.0 & OVERLOAD != 0
    }

    /// Whether this number of failures in a row opens the circuit.
    pub(super) fn open_at(self, in_a_row: u32) -> bool {
        self.counts_in_a_row() && u64::from(in_a_row) >= self.0 & NUMBER_MASK
    }

    /// The failure rate that opens the circuit.
    #[inline]
    pub(super) fn failure_rate(self) -> Rate {
        self.rate(self.0 >> RATE_SHIFT & NUMBER_MASK)
    }

    /// A rate of this share, in parts of [`PARTS`].
    #[inline]
    pub(super) fn rate(self, share: u64) -> Rate {
        Rate { share, minimum: self.0 >> MINIMUM_SHIFT & NUMBER_MASK }
    }
}

/// A share of the calls in a window that opens the circuit, and the fewest calls that it is taken from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rate {
    /// In parts of [`PARTS`]; zero where no rate is configured.
    share: u64,
    minimum: u64,
}

impl Rate {
    /// Whether these are enough calls.
    pub(super) fn looks_at(self, counts: Counts) -> bool {
        self.share > 0 && counts.calls >= self.minimum
    }

    /// Whether these calls open the circuit.
    pub(super) fn is_reached_by(self, counts: Counts) -> bool {
        self.looks_at(counts) && counts.bad * PARTS >= counts.calls * self.share
    }

    /// Whether successes alone can bring a window with these calls to the rate. A rate of the minimum of calls takes
    /// the fewest bad ones.
    pub(super) fn is_within_reach_of(self, counts: Counts) -> bool {
        self.share > 0 && counts.bad * PARTS >= self.minimum * self.share
    }
}
