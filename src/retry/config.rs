//! The serializable configuration of a retry, which can change while calls pass.

use super::{
    budget::{RetryBudget, RetryBudgetBuilder},
    layer::{DEFAULT_MAX_HINT, check_attempts, check_max_hint},
};
use crate::{
    backoff::Backoff,
    error::ConfigError,
    pace::Pace,
    shell::{ABSENT, Course, Reconfigure},
};
use std::time::Duration;

/// How calls are retried. See [`Retry`](crate::retry::Retry).
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(deny_unknown_fields))]
pub struct RetryConfig {
    /// The most attempts for each call, the first one included: from 1 to 1000.
    pub attempts: u32,
    /// The waits before further attempts: `{ "base": "50ms", "cap": "2s", "growth": "exponential", "jitter": "full" }`.
    /// The growth is `exponential` or `linear`; the jitter is `full`, `equal`, `decorrelated`, `{ "plus_minus": 0.2 }`
    /// or `none`. For a fixed wait, set the base equal to the cap, and no jitter.
    #[cfg_attr(feature = "serde", serde(default))]
    pub backoff: Backoff,
    /// The longest wait that a service may ask for, at most 366 days. Default: 60 s. See
    /// [`Retry::max_hint`](crate::retry::Retry::max_hint).
    #[cfg_attr(
        feature = "serde",
        serde(default = "RetryConfig::default_max_hint", with = "crate::durations::max_hint")
    )]
    pub max_hint: Duration,
    /// The budget of retries. In a stack that was built with a budget, `None` means a budget with defaults. In a stack
    /// without a budget, only `None` is valid.
    #[cfg_attr(feature = "serde", serde(default))]
    pub budget: Option<BudgetConfig>,
}

/// How a retry budget earns retries. See [`RetryBudget`](crate::retry::RetryBudget).
///
/// The retries that a new budget starts with, [`initial`](crate::retry::RetryBudgetBuilder::initial), are not part of
/// this configuration, because they have no meaning for a running budget.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(default, deny_unknown_fields))]
pub struct BudgetConfig {
    /// The retries that each call earns, from 0 to 1. Default: 0.1.
    pub ratio: f64,
    /// The most retries that are saved, at least 1. Default: 10.
    pub cap: u32,
    /// The retries in addition to the earned ones. Default: one in 100 s. `None`: only earned retries.
    pub floor: Option<Pace>,
}

impl RetryConfig {
    /// Returns a configuration with this number of attempts, and defaults.
    pub fn new(attempts: u32) -> Self {
        Self { attempts, backoff: Backoff::default(), max_hint: DEFAULT_MAX_HINT, budget: None }
    }

    #[cfg(feature = "serde")]
    fn default_max_hint() -> Duration {
        DEFAULT_MAX_HINT
    }
}

impl RetryConfig {
    /// Checks all values, and those of the budget if one is given.
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        check_attempts(self.attempts)?;
        check_max_hint(self.max_hint)?;
        self.backoff.check()?;
        self.budget.as_ref().map_or(Ok(()), |budget| budget.builder().check().map(drop))
    }
}

impl Default for BudgetConfig {
    fn default() -> Self {
        Self::of(&RetryBudget::builder())
    }
}

impl BudgetConfig {
    /// Returns the configuration of a builder.
    pub(crate) fn of(builder: &RetryBudgetBuilder) -> Self {
        let floor = builder.floor.map(|(count, period)| Pace { count, period });
        Self { ratio: builder.ratio, cap: builder.cap, floor }
    }

    fn builder(&self) -> RetryBudgetBuilder {
        let builder = RetryBudget::builder().ratio(self.ratio).cap(self.cap);
        match self.floor {
            Some(Pace { count, period }) => builder.floor(count, period),
            None => builder.no_floor(),
        }
    }
}

/// The built configuration of a retry, and its budget.
pub(crate) struct RetryHandle {
    pub(super) attempts: u32,
    pub(super) backoff: Backoff,
    pub(super) max_hint: Duration,
    pub(super) budget: Option<RetryBudget>,
}

impl Reconfigure for RetryHandle {
    type Config = RetryConfig;

    fn read(&self) -> RetryConfig {
        let budget = self.budget.as_ref().map(|budget| BudgetConfig::of(&budget.configuration()));
        let Self { attempts, backoff, max_hint, .. } = *self;
        RetryConfig { attempts, backoff, max_hint, budget }
    }

    fn check(&self, config: &RetryConfig) -> Result<(), ConfigError> {
        if let (Some(given), None) = (&config.budget, &self.budget) {
            return Err(ConfigError::new("retry.budget", given, ABSENT));
        }
        config.check()
    }

    /// Unseen, because no gate reads the budget. A call withdraws from it only between two attempts.
    fn course(&self, _now: &RetryConfig, _to: &RetryConfig) -> Course<RetryConfig> {
        Course::Unseen
    }

    /// Applies the budget. A call reads the attempts, the backoff and the longest hint from the settings that it
    /// started with.
    fn apply(&self, config: &RetryConfig) {
        if let Some(budget) = &self.budget {
            // It was checked.
            let _ = budget.configure(config.budget.clone().unwrap_or_default().builder());
        }
    }
}
