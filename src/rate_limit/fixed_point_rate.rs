use super::{
    quota::Quota,
    tokens::{Subtokens, Tokens},
};
use crate::clock::Nanos;

/// A quota in integers: how a token is divided into parts, and how many of these are minted per nanosecond.
///
/// The rate is a fixed-point number with `FRACTION` binary digits, rounded up in the last one where it has more, so
/// that after a whole period there is a whole period's worth. Where the rate in lowest terms is few tokens in some
/// nanoseconds a part is chosen such that a whole number of them is minted per nanosecond, and everything is exact.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FixedPointRate<const FRACTION: u32> {
    pub(super) subtokens_per_nano: u64,
    pub(super) subtokens_per_token: u64,
    /// A burst.
    pub(super) full: Subtokens,
}

impl<const FRACTION: u32> FixedPointRate<FRACTION> {
    /// The finest scale with at most 2^`most_log2` parts per nanosecond, and 2^`full_log2` in a burst. The quota has
    /// been checked, its burst has at most `full_log2` binary digits, and `FRACTION + most_log2` is at most 63.
    pub(super) fn new(quota: Quota, most_log2: u32, full_log2: u32) -> Self {
        let (count, burst) = (u128::from(quota.count()), u128::from(quota.burst()));
        let period = quota.period().as_nanos();
        let divisor = greatest_common_divisor(count, period);
        let (subtokens_per_nano, subtokens_per_token) = (count / divisor, period / divisor);
        if subtokens_per_nano <= 1 << most_log2 && burst * subtokens_per_token <= 1 << full_log2 {
            return Self {
                subtokens_per_nano: (subtokens_per_nano << FRACTION) as u64,
                subtokens_per_token: subtokens_per_token as u64,
                full: Subtokens((burst * subtokens_per_token) as u64),
            };
        }
        let by_rate = ((period << most_log2) / count).ilog2();
        let by_burst = full_log2.saturating_sub(burst.next_power_of_two().ilog2());
        let shift = by_rate.min(by_burst);
        Self {
            subtokens_per_nano: ((count << shift) << FRACTION).div_ceil(period) as u64,
            subtokens_per_token: 1 << shift,
            full: Subtokens((burst << shift) as u64),
        }
    }

    /// All parts of these tokens.
    #[inline]
    pub(super) fn subtokens(&self, tokens: Tokens) -> Subtokens {
        Subtokens(tokens.0.saturating_mul(self.subtokens_per_token))
    }

    /// The whole tokens in these parts.
    #[inline]
    pub(super) fn whole_tokens(&self, subtokens: Subtokens) -> Tokens {
        Tokens(subtokens.0 / self.subtokens_per_token.max(1))
    }

    /// The parts that are minted in this time, rounded down.
    #[inline]
    pub(super) fn minted(&self, time: Nanos) -> Subtokens {
        Subtokens(((u128::from(time.0) * u128::from(self.subtokens_per_nano)) >> FRACTION) as u64)
    }

    /// The time in which `parts` are minted, rounded up: the shortest for which [`minted`](Self::minted) has them.
    pub(super) fn time_to_mint(&self, subtokens: Subtokens) -> Nanos {
        let whole = self.subtokens_per_nano >> FRACTION;
        if whole << FRACTION == self.subtokens_per_nano {
            return Nanos(subtokens.0.div_ceil(whole.max(1)));
        }
        let nanos = (u128::from(subtokens.0) << FRACTION).div_ceil(u128::from(self.subtokens_per_nano.max(1)));
        Nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}

fn greatest_common_divisor(mut a: u128, mut b: u128) -> u128 {
    while b > 0 {
        (a, b) = (b, a % b);
    }
    a
}
