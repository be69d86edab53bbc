use super::{RETRY, RetryBudget};
use crate::{
    error::{ConfigError, check_duration},
    random::Random,
    rate_limit::Quota,
};
use rand::RngExt;
use std::{fmt, time::Duration};

/// Retries per period.
pub(super) const DEFAULT_FLOOR: (u64, Duration) = (1, Duration::from_secs(100));

/// Configures a [`RetryBudget`], when it is [built](Self::build) or [while calls pass](RetryBudget::configure).
///
/// Plain data, but for the generator. Two are equal if a running budget does the same by them: what it starts with,
/// [`initial`](Self::initial) and the generator, is not compared.
#[derive(Clone, Debug)]
#[must_use]
pub struct RetryBudgetBuilder {
    pub(crate) ratio: f64,
    pub(crate) cap: u32,
    /// Retries per period.
    pub(crate) floor: Option<(u64, Duration)>,
    /// The retries of a new budget; `None` for a random fraction of one.
    pub(super) initial: Option<u32>,
    pub(crate) random: Random,
}

impl PartialEq for RetryBudgetBuilder {
    fn eq(&self, other: &Self) -> bool {
        (self.ratio, self.cap, self.floor) == (other.ratio, other.cap, other.floor)
    }
}

impl Default for RetryBudgetBuilder {
    fn default() -> Self {
        Self { ratio: 0.1, cap: 10, floor: Some(DEFAULT_FLOOR), initial: None, random: Random::new() }
    }
}

impl RetryBudgetBuilder {
    /// How many retries each call earns: 0.1 allows one retry for every ten calls. From 0 to 1, exact to 1 in 10^9.
    /// Default: 0.1, so that a service that fails altogether sees 10% more load.
    ///
    /// Above 1 the budget would bound nothing: each call would earn more than the one retry that it needs at a time.
    pub fn ratio(self, ratio: f64) -> Self {
        Self { ratio, ..self }
    }

    /// The most retries that can be saved up. At least 1. Default: 10, the credit of 100 calls.
    pub fn cap(self, cap: u32) -> Self {
        Self { cap, ..self }
    }

    /// Allows `retries` per `period` beside what is earned, of which one is saved. Default: one in 100 s, enough for a
    /// client with next to no traffic.
    pub fn floor(self, retries: u64, period: Duration) -> Self {
        Self { floor: Some((retries, period)), ..self }
    }

    /// Allows only what is earned.
    pub fn no_floor(self) -> Self {
        Self { floor: None, ..self }
    }

    /// How many retries a new budget has at once. At most the [`cap`](Self::cap). Default: a random fraction of one
    /// retry.
    ///
    /// Programs that live for few calls need it: a command-line tool, a cron job, a function in the cloud. They have
    /// earned nothing when their first call fails, and so only one of ten such failures is retried. Services that live
    /// long do not need it, and are better off without: after a deployment or a burst of new clients every one of them
    /// holds the credit at once. With enough credit, 1,000 quiet clients triple the load on a service that fails.
    ///
    /// It has no meaning for a budget that runs: [`configure`](RetryBudget::configure) ignores it.
    ///
    /// ```
    /// use steadfast::retry::{Retry, RetryBudget};
    ///
    /// # fn main() -> Result<(), steadfast::ConfigError> {
    /// // Two retries for the one call of this program.
    /// let retry = Retry::new(3).budget(RetryBudget::builder().initial(2).build()?);
    /// # let _ = retry;
    /// # Ok(())
    /// # }
    /// ```
    pub fn initial(self, retries: u32) -> Self {
        Self { initial: Some(retries), ..self }
    }

    /// Draws the balance at the start, and the instant at which a floor begins, from this generator. Default: one that
    /// differs in every budget. Tests and simulations give their own.
    pub fn random(self, random: Random) -> Self {
        Self { random, ..self }
    }

    /// The budget.
    ///
    /// # Errors
    ///
    /// The ratio must be a number from 0 to 1, the cap at least 1, the initial retries at most the cap, the floor's
    /// period within the bounds of all durations and its rate within those of a
    /// [`TokenBucket`](crate::rate_limit::TokenBucket).
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

    /// The balance of a new budget, in its units.
    pub(super) fn balance_at_first(&self) -> Result<u64, ConfigError> {
        match self.initial {
            None => Ok(self.random.with(|random| random.random_range(0..RETRY))),
            Some(initial) if initial <= self.cap => Ok(u64::from(initial) * RETRY),
            Some(initial) => {
                let rule = format!("must be at most the cap of {}", self.cap);
                Err(ConfigError::new("retry.budget.initial", initial, rule))
            }
        }
    }

    /// Whether a running budget can follow this, and the quota of its floor.
    pub(crate) fn check(&self) -> Result<Option<Quota>, ConfigError> {
        if !(0.0..=1.0).contains(&self.ratio) {
            let rule = "must be a number from 0 to 1: a call that earns more than one retry leaves nothing bounded";
            return Err(ConfigError::new("retry.budget.ratio", self.ratio, rule));
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

/// The numbers, for people.
impl fmt::Display for RetryBudgetBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ratio {}", self.ratio)?;
        match self.floor {
            Some((retries, period)) => write!(f, ", floor {retries} per {period:?}")?,
            None => write!(f, ", no floor")?,
        }
        write!(f, ", cap {}", self.cap)?;
        match self.initial {
            Some(retries) => write!(f, ", initial {retries}"),
            None => write!(f, ", initial below 1"),
        }
    }
}

/// This many retries per period, of which one is saved.
pub(super) fn quota(retries: u64, period: Duration) -> Quota {
    Quota::new(retries, period).with_burst(1)
}
