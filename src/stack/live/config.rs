use crate::{
    circuit_breaker::BreakerConfig,
    error::ConfigError,
    load_level::LoadLevelConfig,
    load_shed::LoadShedConfig,
    rate_limit::RateLimitConfig,
    retry::RetryConfig,
    shell::{ABSENT, Explanation},
    timeout::Of,
};
#[cfg(feature = "constant-work")]
use crate::{error::check_duration, load_shed};
use std::{fmt, time::Duration};

/// The configuration of a [live](super) stack, which can change while calls pass. It changes the mechanisms that the
/// stack was built with, and cannot add others.
///
/// A part that is missing gets the built value, even if an earlier configuration had set another one. A part that is
/// present replaces the whole built part. Its optional fields that are missing have the defaults of the builder. A
/// stack refuses a part for a mechanism that it does not have. The classifier, the way in which requests are copied and
/// [`wait_for_refusals`](crate::retry::Retry::wait_for_refusals) stay as built.
///
/// As a starting point for editing, serialize the [`built`](super::Control::built) configuration of a stack. It
/// contains every part that can change.
///
/// With the `serde` feature, a `StackConfig` can be read and written as JSON, TOML and other formats. An unknown field
/// is an error.
///
/// Durations are written as `"250ms"` or `"1m 30s"`. A number and its unit have no space between them. Each unit occurs
/// at most once, the largest first. Decimals such as `"1.5m"` are read. The units are `d` (24 hours), `h`, `m` or
/// `min`, `s`, `ms`, `us` or `µs`, and `ns`, in lower case. Anything else is an error that names the field:
/// `timeout = "5M": must be ..`.
///
/// ```
/// # #[cfg(feature = "serde")]
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use steadfast::stack::live::StackConfig;
///
/// let config: StackConfig = serde_json::from_str(
///     r#"{
///         "timeout": "1s 500ms",
///         "retry": { "attempts": 3, "backoff": { "base": "20ms", "cap": "1s", "jitter": "equal" } },
///         "circuit_breaker": { "failure_rate": { "rate": 0.5, "window": "10s" }, "open_for": "5s" },
///         "rate_limit": [{ "quotas": [{ "count": 100, "period": "1s", "burst": 20 }], "shadow": true }],
///         "load_shed": { "limit": 64 }
///     }"#,
/// )?;
/// assert_eq!(config.timeout, Some(std::time::Duration::from_millis(1500)));
/// assert!(config.rate_limit[0].shadow && !config.switched_off);
/// # Ok(())
/// # }
/// # #[cfg(not(feature = "serde"))]
/// # fn main() {}
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(default, deny_unknown_fields))]
pub struct StackConfig {
    /// The kill switch. While it is on, the stack refuses every call with
    /// [`Rejection::SwitchedOff`](crate::Rejection::SwitchedOff). Calls that have passed it continue, including those
    /// that wait at the rate limit or in the queue. Further attempts of such calls are refused. Default: off.
    pub switched_off: bool,
    /// The timeout of a whole call; on a server, of the work on it. A stack that learns this timeout, or chooses it
    /// [`PerRequest`](crate::timeout::PerRequest), refuses a configuration that sets it.
    #[cfg_attr(feature = "serde", serde(with = "crate::durations::timeout"))]
    pub timeout: Option<Duration>,
    /// How a call is retried.
    pub retry: Option<RetryConfig>,
    /// When the circuit breaker opens, and for how long.
    pub circuit_breaker: Option<BreakerConfig>,
    /// The rate limits, in the order in which [`and`](crate::rate_limit::RateLimit::and) combined them: all of them, or
    /// none to keep the built ones.
    pub rate_limit: Vec<RateLimitConfig>,
    /// How many calls may be in flight.
    pub load_shed: Option<LoadShedConfig>,
    /// How many calls are served at once, how many wait, and how long they wait.
    pub load_level: Option<LoadLevelConfig>,
    /// How long an attempt may take. A stack that learns this timeout, or chooses it
    /// [`PerRequest`](crate::timeout::PerRequest), refuses a configuration that sets it.
    #[cfg_attr(feature = "serde", serde(with = "crate::durations::attempt_timeout"))]
    pub attempt_timeout: Option<Duration>,
}

impl StackConfig {
    /// Checks each value by itself, without a stack.
    #[cfg(feature = "constant-work")]
    pub(crate) fn check_values(&self) -> Result<(), ConfigError> {
        let Self { timeout, attempt_timeout, retry, circuit_breaker, rate_limit, load_shed, load_level, .. } = self;
        let check_limit = |field, limit: &Option<Duration>| limit.map_or(Ok(()), |limit| check_duration(field, limit));
        check_limit("timeout", timeout)?;
        check_limit("attempt_timeout", attempt_timeout)?;
        retry.as_ref().map_or(Ok(()), RetryConfig::check)?;
        circuit_breaker.as_ref().map_or(Ok(()), |config| config.builder().check())?;
        rate_limit.iter().flat_map(|limit| &limit.quotas).try_for_each(|quota| quota.check())?;
        load_shed.map_or(Ok(()), |config| load_shed::check(config.limit))?;
        load_level.as_ref().map_or(Ok(()), LoadLevelConfig::check)
    }

    /// Checks that the numbers of a complete configuration do not contradict each other.
    pub(super) fn check_together(&self) -> Result<(), ConfigError> {
        let mut explanation = Explanation::default();
        if let Some(limit) = self.attempt_timeout {
            explanation.latency_is_limited(Of::Attempt.name(), limit);
        }
        if let Some(retry) = &self.retry {
            explanation.is_repeated(retry.attempts, retry.backoff);
        }
        if let Some(limit) = self.timeout {
            explanation.latency_is_limited(Of::Call.name(), limit);
        }
        if let Some(shed) = self.load_shed.filter(|shed| !shed.shadow) {
            explanation.limit_in_flight("load_shed.limit", shed.limit);
        }
        if let Some(level) = &self.load_level {
            explanation.places_are_waited_for(level.concurrency);
        }
        explanation.check()
    }

    /// Fills the missing parts of this configuration with the built ones. Refuses a part that the stack was built
    /// without. Also refuses rate limits whose number is neither zero nor the built number.
    pub(super) fn completed_by(&self, built: &Self) -> Result<Self, ConfigError> {
        let Self { switched_off, ref rate_limit, .. } = *self;
        if !rate_limit.is_empty() && rate_limit.len() != built.rate_limit.len() {
            let rule = format!("must be {}, the number of rate limits of the stack, or 0", built.rate_limit.len());
            return Err(ConfigError::new("rate_limit", rate_limit.len(), rule));
        }
        let rate_limit = if rate_limit.is_empty() { &built.rate_limit } else { rate_limit }.clone();
        Ok(Self {
            switched_off,
            timeout: given("timeout", &self.timeout, &built.timeout)?,
            retry: given("retry", &self.retry, &built.retry)?,
            circuit_breaker: given("circuit_breaker", &self.circuit_breaker, &built.circuit_breaker)?,
            rate_limit,
            load_shed: given("load_shed", &self.load_shed, &built.load_shed)?,
            load_level: given("load_level", &self.load_level, &built.load_level)?,
            attempt_timeout: given("attempt_timeout", &self.attempt_timeout, &built.attempt_timeout)?,
        })
    }
}

/// Returns the given part, or else the built one. Refuses a given part if none was built.
fn given<T: Clone + fmt::Debug>(
    field: &'static str,
    given: &Option<T>,
    built: &Option<T>,
) -> Result<Option<T>, ConfigError> {
    match (given, built) {
        (Some(given), None) => Err(ConfigError::new(field, given, ABSENT)),
        (given, built) => Ok(given.as_ref().or(built.as_ref()).cloned()),
    }
}
