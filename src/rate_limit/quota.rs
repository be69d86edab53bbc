use crate::error::{ConfigError, check_duration};
use std::{fmt, time::Duration};

/// A rate and a burst: `count` tokens in every `period`, and the most tokens that a limit keeps.
///
/// A quota is plain data. A limit checks its quota when the limit is built, and when its quota changes. Two quotas are
/// equal if all three fields are: 60 per minute is not equal to 1 per second.
///
/// ```
/// use std::time::Duration;
/// use steadfast::rate_limit::Quota;
///
/// let quota = Quota::new(100, Duration::from_secs(1));
/// assert_eq!((quota.count(), quota.period(), quota.burst()), (100, Duration::from_secs(1), 100));
/// assert_eq!(quota.with_burst(20).burst(), 20);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(from = "QuotaFields", into = "QuotaFields")
)]
#[doc(alias("single-rate", "burst", "Rate"))]
pub struct Quota {
    count: u64,
    period: Duration,
    burst: u64,
}

/// The serde form of a quota. The burst may be left out.
#[cfg(feature = "serde")]
#[derive(serde::Serialize, serde::Deserialize)]
#[serde(rename = "Quota", deny_unknown_fields)]
struct QuotaFields {
    count: u64,
    #[serde(with = "crate::durations::quota_period")]
    period: Duration,
    #[serde(default)]
    burst: Option<u64>,
}

#[cfg(feature = "serde")]
impl From<Quota> for QuotaFields {
    fn from(Quota { count, period, burst }: Quota) -> Self {
        Self { count, period, burst: Some(burst) }
    }
}

#[cfg(feature = "serde")]
impl From<QuotaFields> for Quota {
    fn from(fields: QuotaFields) -> Self {
        let quota = Self::new(fields.count, fields.period);
        fields.burst.map_or(quota, |burst| quota.with_burst(burst))
    }
}

impl Quota {
    /// `count` tokens every `period`, minted evenly over the period, with a burst of `count`.
    ///
    /// The count must be at least 1, and at most one per nanosecond. The period must be longer than zero, and at most
    /// 366 days.
    pub const fn new(count: u64, period: Duration) -> Self {
        Self { count, period, burst: count }
    }

    /// Returns this rate with another burst: the most tokens that a limit keeps, and so the most that one call may
    /// cost.
    ///
    /// The burst must be at least 1 and at most 2^55, and an empty bucket must fill within a hundred years. Default:
    /// the count. A caller that was quiet for a period may use a period's tokens at once.
    #[must_use]
    pub const fn with_burst(self, burst: u64) -> Self {
        Self { burst, ..self }
    }

    /// Returns the tokens minted in a period.
    pub const fn count(&self) -> u64 {
        self.count
    }

    /// Returns the time in which `count` tokens are minted.
    pub const fn period(&self) -> Duration {
        self.period
    }

    /// Returns the most tokens that a limit keeps.
    pub const fn burst(&self) -> u64 {
        self.burst
    }

    /// Returns the time in which an empty bucket fills, rounded up: at most a hundred years for a checked quota.
    pub(crate) fn time_to_fill(&self) -> Duration {
        let nanos = (u128::from(self.burst) * self.period.as_nanos()).div_ceil(u128::from(self.count.max(1)));
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    /// Returns the lower of the two rates with the lower of the two bursts: a quota that admits only what both admit.
    pub(crate) fn strictest(self, other: Self) -> Self {
        let is_slower =
            u128::from(other.count) * self.period.as_nanos() < u128::from(self.count) * other.period.as_nanos();
        let rate = if is_slower { other } else { self };
        rate.with_burst(self.burst.min(other.burst))
    }

    /// Checks the bounds that [`new`](Self::new) and [`with_burst`](Self::with_burst) state.
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        let Self { count, period, burst } = *self;
        check_duration("rate_limit.period", period)?;
        if count == 0 || u128::from(count) > period.as_nanos() {
            let rule = "must be at least 1, and at most one per nanosecond";
            return Err(ConfigError::new("rate_limit.count", count, rule));
        }
        let broken = match burst {
            0 => Some("must be at least 1"),
            burst if burst > MOST_BURST => Some("must be at most 2^55"),
            _ if self.time_to_fill() > LONGEST_TO_FILL => Some("must fill within a hundred years"),
            _ => None,
        };
        broken.map_or(Ok(()), |rule| Err(ConfigError::new("rate_limit.burst", burst, rule)))
    }
}

impl fmt::Display for Quota {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} per {:?}, bursts of {}", self.count, self.period, self.burst)
    }
}

const MOST_BURST: u64 = 1 << 55;

/// The longest time in which an empty bucket may fill: a hundred years of 365 days.
const LONGEST_TO_FILL: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_strictest_of_two_quotas_has_the_lower_rate_and_the_lower_burst_and_can_be_built() {
        let year = Duration::from_secs(366 * 24 * 60 * 60);
        let rates =
            [(1, year), (1, Duration::from_secs(60)), (2, Duration::from_secs(60)), (1, Duration::from_nanos(1))];
        let quotas = rates.into_iter().flat_map(|(count, period)| {
            [1, 7, 1 << 20].map(|burst| Quota::new(count, period).with_burst(burst)).into_iter()
        });
        let quotas: Vec<_> = quotas.filter(|quota| quota.check().is_ok()).collect();
        assert!(quotas.len() > 9);
        let rate = |quota: Quota| quota.count as f64 / quota.period.as_secs_f64();
        for one in &quotas {
            for other in &quotas {
                let strictest = one.strictest(*other);
                assert_eq!(rate(strictest), rate(*one).min(rate(*other)));
                assert_eq!(strictest.burst, one.burst.min(other.burst));
                assert_eq!(strictest.check(), Ok(()));
            }
        }
    }
}
