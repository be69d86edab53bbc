//! Quotas of all sizes.

use proptest::prelude::*;
use std::time::Duration;

pub const DAY: u64 = 24 * 60 * 60 * 1_000_000_000;
pub const YEAR: u64 = 366 * DAY;
pub const CENTURY: u64 = 100 * 365 * DAY;

/// Returns by how much a bucket may admit too early or too late, in nanoseconds.
///
/// Write the rate as a fraction in lowest terms, in tokens per nanosecond. A bucket divides a token into as many parts
/// as the denominator, if the numerator is at most 2^14 and a burst has at most 2^55 parts. It is then exact, and the
/// leeway is zero.
///
/// Any other bucket divides a token into the largest power of two that keeps these bounds. The leeway is then a sum:
///
/// - The time of one part. A nanosecond refills at least a quarter of 2^14 parts, or a burst has at least a quarter of
///   2^55.
/// - The error of the rate over the time of a burst. The rate is in parts per nanosecond, with 40 binary digits after
///   the point.
pub fn leeway_nanos(count: u64, period: Duration, burst: u64) -> u64 {
    let (mut divisor, mut rest) = (period.as_nanos() as u64, count);
    while rest > 0 {
        (divisor, rest) = (rest, divisor % rest);
    }
    let parts = u128::from(burst) * period.as_nanos() / u128::from(divisor);
    if count / divisor <= 1 << 14 && parts <= 1 << 55 {
        return 0;
    }
    let time_to_fill = u128::from(burst) * period.as_nanos() / u128::from(count);
    1 + (time_to_fill >> 52) as u64 + ((time_to_fill * time_to_fill) >> 93) as u64
}

/// Returns a number from 1 to `most`, with all orders of magnitude equally likely.
pub fn of_any_size(most: u64) -> impl Strategy<Value = u64> {
    (any::<u64>(), 0..=most.ilog2()).prop_map(move |(random, shift)| ((random % most) >> shift) + 1)
}

/// Returns any count, period and burst that a bucket accepts: from one per 366 days to one per nanosecond.
pub fn any_bucket() -> impl Strategy<Value = (u64, Duration, u64)> {
    of_any_size(YEAR)
        .prop_flat_map(|period| (Just(period), of_any_size(period)))
        .prop_flat_map(|(period, count)| {
            (Just(period), Just(count), of_any_size((CENTURY / (period / count + 1)).min(1 << 55)))
        })
        .prop_map(|(period, count, burst)| (count, Duration::from_nanos(period), burst))
}
