use super::{BreakerBuilder, window::Counts};

/// The rules for opening a circuit, in one word. A thread gets all rules of one configuration with one load, and
/// therefore never sees a mixture of two configurations.
///
/// From the lowest bit: the failures in a row, the rate, the minimum of calls, whether an overload is a failure, and
/// the [numbering](Self::numbering) of the slots in `published.rs`. The failures in a row and the rate are zero if they
/// are not configured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rules(pub(super) u64);

/// Each number is at most a million, less than 2^20.
const NUMBER_BITS: u32 = 20;
const NUMBER_MASK: u64 = (1 << NUMBER_BITS) - 1;
const RATE_SHIFT: u32 = NUMBER_BITS;
const MINIMUM_SHIFT: u32 = 2 * NUMBER_BITS;
const OVERLOAD: u64 = 1 << (3 * NUMBER_BITS);
const NUMBERING_SHIFT: u32 = 3 * NUMBER_BITS + 1;

/// The parts of a rate of one. Rates are stored in parts per million, so that no decision uses floating point.
const PARTS: u64 = 1_000_000;

/// Returns a rate in parts of [`PARTS`], at least one.
pub(super) fn parts(rate: f64) -> u32 {
    ((rate * PARTS as f64).round() as u32).max(1)
}

impl Rules {
    /// Returns the rules of a checked configuration.
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

    /// Counts, modulo eight, the changes of the values that `published.rs` keeps in two slots. These are the ticks of
    /// the windows, the rate of slow calls, and the times of a call.
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

    /// Returns whether this number of failures in a row opens the circuit.
    pub(super) fn open_at(self, in_a_row: u32) -> bool {
        self.counts_in_a_row() && u64::from(in_a_row) >= self.0 & NUMBER_MASK
    }

    /// Returns the failure rate that opens the circuit.
    #[inline]
    pub(super) fn failure_rate(self) -> Rate {
        self.rate(self.0 >> RATE_SHIFT & NUMBER_MASK)
    }

    /// Returns a rate with this share, in parts of [`PARTS`].
    #[inline]
    pub(super) fn rate(self, share: u64) -> Rate {
        Rate { share, minimum: self.0 >> MINIMUM_SHIFT & NUMBER_MASK }
    }
}

/// The share of bad calls (failures or slow calls) in a window that opens the circuit, and the fewest calls for which
/// the share counts.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rate {
    /// In parts of [`PARTS`]; zero if no rate is configured.
    share: u64,
    minimum: u64,
}

impl Rate {
    /// Returns whether these calls are enough for the rate to count.
    pub(super) fn has_enough_calls(self, counts: Counts) -> bool {
        self.share > 0 && counts.calls >= self.minimum
    }

    /// Returns whether these calls open the circuit.
    pub(super) fn is_reached_by(self, counts: Counts) -> bool {
        self.has_enough_calls(counts) && counts.bad * PARTS >= counts.calls * self.share
    }

    /// Returns whether the bad calls would reach the rate in a window of exactly the minimum of calls. A window with
    /// more calls needs at least as many bad calls. If this returns `false`, no number of further good calls brings the
    /// window to the rate.
    pub(super) fn is_within_reach_of(self, counts: Counts) -> bool {
        self.share > 0 && counts.bad * PARTS >= self.minimum * self.share
    }
}
