use super::{
    quota::Quota,
    tokens::{Subtokens, Tokens},
};
use crate::clock::Nanos;

/// A quota in integers. A token is divided into subtokens, and the rate is the subtokens minted per nanosecond.
///
/// The rate is a fixed-point number with `FRACTION` binary digits after the point. The last digit is rounded up, so
/// that a whole period mints at least a whole period's tokens.
///
/// Most quotas in use are exact. Write the rate as a fraction in lowest terms, in tokens per nanosecond: 100 per second
/// is 1 / 10,000,000. If the numerator, the denominator and the burst are small enough, the denominator is the number
/// of subtokens of a token. The numerator is then the number of subtokens minted per nanosecond. In the example a token
/// has 10,000,000 subtokens, and one of them is minted per nanosecond.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FixedPointRate<const FRACTION: u32> {
    /// In units of 2^-`FRACTION`.
    pub(super) subtokens_per_nano: u64,
    pub(super) subtokens_per_token: u64,
    /// The subtokens of a full bucket.
    pub(super) burst_subtokens: Subtokens,
}

impl<const FRACTION: u32> FixedPointRate<FRACTION> {
    /// Chooses how many subtokens a token has. At most 2^`most_log2` subtokens may be minted per nanosecond, and a
    /// burst may have at most 2^`burst_log2` subtokens. If the exact number, described at the type, keeps both bounds,
    /// a token has that number. Otherwise a token has 2^n subtokens, with the largest n that keeps both bounds.
    ///
    /// The quota has been checked, its burst is at most 2^`burst_log2`, and `FRACTION + most_log2` is at most 63.
    pub(super) fn new(quota: Quota, most_log2: u32, burst_log2: u32) -> Self {
        let (count, burst) = (u128::from(quota.count()), u128::from(quota.burst()));
        let period = quota.period().as_nanos();
        let divisor = greatest_common_divisor(count, period);
        let (subtokens_per_nano, subtokens_per_token) = (count / divisor, period / divisor);
        if subtokens_per_nano <= 1 << most_log2 && burst * subtokens_per_token <= 1 << burst_log2 {
            return Self {
                subtokens_per_nano: (subtokens_per_nano << FRACTION) as u64,
                subtokens_per_token: subtokens_per_token as u64,
                burst_subtokens: Subtokens((burst * subtokens_per_token) as u64),
            };
        }
        let by_rate = ((period << most_log2) / count).ilog2();
        let by_burst = burst_log2.saturating_sub(burst.next_power_of_two().ilog2());
        let shift = by_rate.min(by_burst);
        Self {
            subtokens_per_nano: ((count << shift) << FRACTION).div_ceil(period) as u64,
            subtokens_per_token: 1 << shift,
            burst_subtokens: Subtokens((burst << shift) as u64),
        }
    }

    /// Converts tokens to subtokens.
    #[inline]
    pub(super) fn subtokens(&self, tokens: Tokens) -> Subtokens {
        Subtokens(tokens.0.saturating_mul(self.subtokens_per_token))
    }

    /// Converts subtokens to whole tokens, rounded down.
    #[inline]
    pub(super) fn whole_tokens(&self, subtokens: Subtokens) -> Tokens {
        Tokens(subtokens.0 / self.subtokens_per_token.max(1))
    }

    /// Returns the subtokens minted in this time, rounded down.
    #[inline]
    pub(super) fn minted(&self, time: Nanos) -> Subtokens {
        Subtokens(((u128::from(time.0) * u128::from(self.subtokens_per_nano)) >> FRACTION) as u64)
    }

    /// Returns the time in which `subtokens` are minted, rounded up: the shortest time for which
    /// [`minted`](Self::minted) returns at least that many.
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
