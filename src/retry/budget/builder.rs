use super::{RETRY, RetryBudget};
use crate::{
    error::{ConfigError, check_duration},
    random::Random,
    rate_limit::Quota,
};
use std::time::Duration;

/// Retries per period.
pub(super) const DEFAULT_FLOOR: (u64, Duration) = (1, Duration::from_secs(100));

/// Configures a [`RetryBudget`], when it is [built](Self::build) or [while calls pass](RetryBudget::configure).
///
/// Plain data, but for the generator. Two are equal if they allow the same; the generators are not compared.
#[derive(Clone, Debug)]
#[must_use]
pub struct RetryBudgetBuilder {
    pub(crate) ratio: f64,
    pub(crate) cap: u32,
    /// Retries per period.
    pub(crate) floor: Option<(u64, Duration)>,
    pub(crate) random: Random,
}

impl PartialEq for RetryBudgetBuilder {
    fn eq(&self, other: &Self) -> bool {
        (self.ratio, self.cap, self.floor) == (other.ratio, other.cap, other.floor)
    }
}

impl Default for RetryBudgetBuilder {
    fn default() -> Self {
        Self { ratio: 0.1, cap: 10, floor: Some(DEFAULT_FLOOR), random: Random::new() }
    }
}

impl RetryBudgetBuilder {
    /// How many retries each call earns: 0.1 allows one retry for every ten calls. From 0 to 100, exact to 1 in 10^9.
    pub fn ratio(self, ratio: f64) -> Self {
        Self { ratio, ..self }
    }

    /// The most retries that can be saved up. At least 1.
    pub fn cap(self, cap: u32) -> Self {
        Self { cap, ..self }
    }

    /// Allows `retries` per `period` beside what is earned.
    pub fn floor(self, retries: u64, period: Duration) -> Self {
        Self { floor: Some((retries, period)), ..self }
    }

    /// Allows only what is earned.
    pub fn no_floor(self) -> Self {
        Self { floor: None, ..self }
    }

    /// Draws the balance at the start, and the instant at which a floor begins, from this generator.
    pub fn random(self, random: Random) -> Self {
        Self { random, ..self }
    }

    /// The budget.
    ///
    /// # Errors
    ///
    /// The ratio must be a number from 0 to 100, the cap at least 1, the floor's period within the bounds of all
    /// durations and its rate within those of a [`TokenBucket`](crate::rate_limit::TokenBucket).
    pub fn build(self) -> Result<RetryBudget, ConfigError> {
        RetryBudget::new(self)
    }

    /// What a call earns, in the units of the balance.
    pub(super) fn deposit(&self) -> u64 {
        (self.ratio * RETRY as f64).round() as u64
    }

    /// The cap in the units of the balance.
    pub(super) fn most(&self) -> u64 {
        u64::from(self.cap) * RETRY
    }

    /// Whether a budget can go by this, and the quota of its floor.
    pub(crate) fn check(&self) -> Result<Option<Quota>, ConfigError> {
        if !(0.0..=100.0).contains(&self.ratio) {
            return Err(ConfigError::new("retry.budget.ratio", self.ratio, "must be a number from 0 to 100"));
        }
        if self.cap == 0 {
            return Err(ConfigError::new("retry.budget.cap", self.cap, "must be at least 1"));
        }
        match self.floor {
            None => Ok(None),
            Some((0, _)) => Err(ConfigError::new("retry.budget.floor", 0, "must be at least 1; `no_floor` has none")),
            Some((retries, period)) => {
                check_duration("retry.budget.floor", period)?;
                let quota = quota(retries, period);
                quota.check().map_err(|_| {
                    let rule = "must be at most one per nanosecond";
                    ConfigError::new("retry.budget.floor", retries, rule)
                })?;
                Ok(Some(quota))
            }
        }
    }
}

/// So many retries per period, of which one is saved.
pub(super) fn quota(retries: u64, period: Duration) -> Quota {
    Quota::new(retries, period).with_burst(1)
}
