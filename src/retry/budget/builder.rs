use super::{RETRY, RetryBudget};
use crate::{
    error::{ConfigError, check_duration},
    random::Random,
    rate_limit::Quota,
};
use rand::RngExt;
use std::{fmt, time::Duration};

/// The default floor: retries per period.
pub(super) const DEFAULT_FLOOR: (u64, Duration) = (1, Duration::from_secs(100));

/// Configures a [`RetryBudget`] when it is [built](Self::build), or [while calls pass](RetryBudget::configure).
///
/// Plain data, except for the generator. Two builders are equal if they mean the same for a running budget:
/// [`initial`](Self::initial) and the generator are not compared.
#[derive(Clone, Debug)]
#[must_use]
pub struct RetryBudgetBuilder {
    pub(crate) ratio: f64,
    pub(crate) cap: u32,
    /// Retries per period.
    pub(crate) floor: Option<(u64, Duration)>,
    /// The retries of a new budget when it is built; `None` for a random fraction of one.
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
    /// Sets the retries that each call earns: 0.1 allows one retry for every ten calls. From 0 to 1, exact to 1 in
    /// 10^9. Default: 0.1, so that a service that fails all calls gets 10% more load.
    ///
    /// With 1, retries can already double the load on a service that fails all calls. A budget with a higher ratio
    /// would hardly bound the load, so `build` refuses it.
    pub fn ratio(self, ratio: f64) -> Self {
        Self { ratio, ..self }
    }

    /// Sets the most retries that can be saved, at least 1. Default: 10, the credit of 100 calls.
    pub fn cap(self, cap: u32) -> Self {
        Self { cap, ..self }
    }

    /// Allows `retries` per `period` in addition to the earned ones. At most one of them can be saved up. Default: one
    /// in 100 s, enough for a client with almost no traffic.
    pub fn floor(self, retries: u64, period: Duration) -> Self {
        Self { floor: Some((retries, period)), ..self }
    }

    /// Allows only earned retries.
    pub fn no_floor(self) -> Self {
        Self { floor: None, ..self }
    }

    /// Sets the retries that a new budget starts with, at most the [`cap`](Self::cap). Default: a random fraction of
    /// one retry.
    ///
    /// Short-lived programs need initial retries: a command-line tool, a cron job, a cloud function. When their first
    /// call fails, they have earned only a tenth of a retry. With the random fraction, that is a whole retry in one of
    /// ten cases. Long-lived services should set none: after a deployment or a burst of new clients, every client would
    /// have the credit at once. With enough credit, 1,000 quiet clients triple the load on a failing service.
    ///
    /// A running budget ignores this setting: see [`configure`](RetryBudget::configure).
    ///
    /// ```
    /// use steadfast::retry::{Retry, RetryBudget};
    ///
    /// # fn main() -> Result<(), steadfast::ConfigError> {
    /// // Two retries for the only call of this program.
    /// let retry = Retry::new(3).budget(RetryBudget::builder().initial(2).build()?);
    /// # let _ = retry;
    /// # Ok(())
    /// # }
    /// ```
    pub fn initial(self, retries: u32) -> Self {
        Self { initial: Some(retries), ..self }
    }

    /// Draws the first balance, and the instant at which a floor starts, from this generator. Default: a new generator
    /// for every builder. Clones of the builder share it, and draw different numbers from it. Tests and simulations
    /// pass a seeded generator.
    pub fn random(self, random: Random) -> Self {
        Self { random, ..self }
    }

    /// Builds the budget.
    ///
    /// # Errors
    ///
    /// The ratio must be a number from 0 to 1. The cap must be at least 1, and the initial retries at most the cap. The
    /// floor's period must be above zero and at most 366 days, and its rate within the bounds of a
    /// [`TokenBucket`](crate::rate_limit::TokenBucket).
    pub fn build(self) -> Result<RetryBudget, ConfigError> {
        RetryBudget::new(self)
    }

    /// Returns the deposit of one call, in units of the balance.
    pub(super) fn deposit(&self) -> u64 {
        (self.ratio * RETRY as f64).round() as u64
    }

    /// Returns the cap, in units of the balance.
    pub(super) fn cap_in_units(&self) -> u64 {
        u64::from(self.cap) * RETRY
    }

    /// Returns the initial retries, at most the cap: a running budget's cap can be lower than when it was built.
    pub(super) fn initial_up_to_cap(&self) -> Option<u32> {
        self.initial.map(|initial| initial.min(self.cap))
    }

    /// Returns the balance of a new budget, in units of the balance.
    pub(super) fn initial_balance(&self) -> Result<u64, ConfigError> {
        match self.initial {
            None => Ok(self.random.with(|random| random.random_range(0..RETRY))),
            Some(initial) if initial <= self.cap => Ok(u64::from(initial) * RETRY),
            Some(initial) => {
                let rule = format!("must be at most the cap of {}", self.cap);
                Err(ConfigError::new("retry.budget.initial", initial, rule))
            }
        }
    }

    /// Checks the settings. Returns the quota of the floor.
    pub(crate) fn check(&self) -> Result<Option<Quota>, ConfigError> {
        if !(0.0..=1.0).contains(&self.ratio) {
            let rule = "must be a number from 0 to 1: at 1, retries can already double the load";
            return Err(ConfigError::new("retry.budget.ratio", self.ratio, rule));
        }
        if self.cap == 0 {
            return Err(ConfigError::new("retry.budget.cap", self.cap, "must be at least 1"));
        }
        match self.floor {
            None => Ok(None),
            Some((0, _)) => Err(ConfigError::new("retry.budget.floor", 0, "must be at least 1, or left out")),
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

/// Writes the settings for people.
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

/// Returns a quota of these retries per period, of which one is saved.
pub(super) fn quota(retries: u64, period: Duration) -> Quota {
    Quota::new(retries, period).with_burst(1)
}
