use crate::{
    constant_work::Rule,
    error::ConfigError,
    stack::live::{
        BreakerConfig, BudgetConfig, FailureRate, LoadLevelConfig, LoadShedConfig, Pace, RateLimitConfig, RetryConfig,
        SlowCallRate, StackConfig,
    },
};
use std::time::Duration;

/// The [`Rule`] of one stack: its name and its whole configuration.
///
/// Its encoding has a fixed length: each field has a place, given or not, so every rule has the same size and costs the
/// same to read. It has room for 4 rate limits of 8 tiers each.
#[derive(Clone, Debug, PartialEq)]
pub struct StackRule {
    pub(super) name: String,
    pub(super) config: StackConfig,
}

/// The longest name, in bytes.
pub(super) const LONGEST_NAME: usize = 32;
/// The most rate limits of a stack.
pub(super) const MOST_LIMITS: usize = 4;
/// The most tiers of a rate limit.
pub(super) const MOST_TIERS: usize = 8;

impl StackRule {
    /// Returns a rule for the stack with this name.
    ///
    /// # Errors
    ///
    /// The name must have 1 to 32 bytes, without a zero byte. There may be at most 4 rate limits, with at most 8 tiers
    /// each. Only the stack itself knows whether the configuration can be applied to it.
    pub fn new(name: &str, config: StackConfig) -> Result<Self, ConfigError> {
        check_name(name)?;
        if config.rate_limit.len() > MOST_LIMITS {
            return Err(ConfigError::new("rate_limit", config.rate_limit.len(), "must be at most 4 in a rule"));
        }
        if let Some(limit) = config.rate_limit.iter().find(|limit| limit.quotas.len() > MOST_TIERS) {
            return Err(ConfigError::new("rate_limit.quotas", limit.quotas.len(), "must be at most 8 in a rule"));
        }
        Ok(Self { name: name.to_owned(), config })
    }

    /// Returns the name of the stack, or an empty string for an unused slot.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the configuration of the stack.
    pub fn config(&self) -> &StackConfig {
        &self.config
    }

    /// Returns whether the rule belongs to an unused slot.
    pub fn is_inert(&self) -> bool {
        self.name.is_empty()
    }
}

pub(super) fn check_name(name: &str) -> Result<(), ConfigError> {
    if name.is_empty() || name.len() > LONGEST_NAME || name.contains('\0') {
        return Err(ConfigError::new("stacks.name", name, "must have 1 to 32 bytes, none of them zero"));
    }
    Ok(())
}

impl Rule for StackRule {
    // `ST` in ASCII, then a number that grows with each change of the encoding in `wire`.
    const SCHEMA: u32 = 0x5354_0004;

    /// Returns a rule for no stack. Each section of the configuration is present, so that checking this rule costs
    /// about as much as checking the rule of a stack.
    fn inert(_slot: u32) -> Self {
        let second = Duration::from_secs(1);
        let pace = Pace { count: 1, period: second };
        let config = StackConfig {
            switched_off: false,
            timeout: Some(second),
            retry: Some(RetryConfig { budget: Some(BudgetConfig::default()), ..RetryConfig::new(1) }),
            circuit_breaker: Some(BreakerConfig {
                consecutive_failures: Some(1),
                failure_rate: Some(FailureRate { rate: 0.5, window: second }),
                slow_call_rate: Some(SlowCallRate { rate: 0.5, threshold: second }),
                max_open_for: Some(Duration::from_secs(60)),
                cancelled_is_failure_after: Some(second),
                ..BreakerConfig::default()
            }),
            rate_limit: vec![RateLimitConfig::new([crate::rate_limit::Quota::new(1, second)])],
            load_shed: Some(LoadShedConfig::new(1)),
            load_level: Some(LoadLevelConfig { max_weight: Some(1), pace: Some(pace), ..LoadLevelConfig::new(1, 1) }),
            attempt_timeout: Some(second),
        };
        Self { name: String::new(), config }
    }

    fn validate(&self) -> Result<(), ConfigError> {
        self.config.check_values()
    }
}
