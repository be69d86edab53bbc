use crate::{backoff::Backoff, error::ConfigError, load_level::Discipline, rate_limit::Quota, retry::DEFAULT_MAX_HINT};
use std::{fmt, time::Duration};

/// Everything that a stack can be told while calls pass. It changes a stack and does not build one: mechanisms that the
/// stack was not built with cannot be added.
///
/// A part that is not given is as the stack was built, whatever was applied before: what is in force depends on the last
/// configuration alone. A part that is given is given whole, and those of its fields that may be left out have the
/// defaults of its builder. A stack refuses a part for something that it does not have. How requests are copied, the
/// classifier and [`wait_for_refusals`](crate::retry::Retry::wait_for_refusals) stay as built.
///
/// To have one to edit, write down what a stack was [`built`](super::Control::built) with: every part that it can be told is in
/// it, in its form.
///
/// With the `serde` feature it is read from, and written to, JSON, TOML and the like. An unknown field is an error.
///
/// Durations are written as `"250ms"` or `"1m 30s"`. A number and its unit have no space between them. Each unit occurs once,
/// the largest first. Decimals such as `"1.5m"` are read. The units are `d` (24 hours), `h`, `m` or `min`, `s`, `ms`, `us` or
/// `µs`, and `ns`, in lower case. Anything else is an error that names the field: `timeout = "5M": must be ..`.
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
    /// The kill switch: no call passes, and each is refused with
    /// [`Rejection::SwitchedOff`](crate::Rejection::SwitchedOff). Calls that have passed it go on, also those that wait in
    /// line or in the queue; another attempt does not pass. Default: off, which is to say that calls pass.
    pub switched_off: bool,
    /// How long a whole call may take; on a server, the work on it.
    #[cfg_attr(feature = "serde", serde(with = "crate::durations::timeout"))]
    pub timeout: Option<Duration>,
    /// How a call is retried.
    pub retry: Option<RetryConfig>,
    /// When the circuit breaker opens, and for how long.
    pub circuit_breaker: Option<BreakerConfig>,
    /// The rate limits, in the order in which they were put together with [`and`](crate::rate_limit::RateLimit::and): all of
    /// them, or none to have them as they were built.
    pub rate_limit: Vec<RateLimitConfig>,
    /// How many calls may be in flight.
    pub load_shed: Option<LoadShedConfig>,
    /// How many calls are served at once, and how many wait for how long.
    pub load_level: Option<LoadLevelConfig>,
    /// How long an attempt may take.
    #[cfg_attr(feature = "serde", serde(with = "crate::durations::attempt_timeout"))]
    pub attempt_timeout: Option<Duration>,
}

/// How a call is retried. See [`Retry`](crate::retry::Retry).
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(deny_unknown_fields))]
pub struct RetryConfig {
    /// The most attempts for each call, the first one included: from 1 to 1000.
    pub attempts: u32,
    /// The waits before the further attempts: `{ "base": "50ms", "cap": "2s", "growth": "exponential", "jitter": "full" }`.
    /// The growth is `exponential` or `linear`, the jitter `full`, `equal`, `decorrelated`, `{ "plus_minus": 0.2 }` or
    /// `none`. A fixed wait has a base that is the cap, and no jitter.
    #[cfg_attr(feature = "serde", serde(default))]
    pub backoff: Backoff,
    /// The longest wait that a service may ask for, at most 366 days. Default: 60 s. See
    /// [`Retry::max_hint`](crate::retry::Retry::max_hint).
    #[cfg_attr(
        feature = "serde",
        serde(default = "RetryConfig::default_max_hint", with = "crate::durations::max_hint")
    )]
    pub max_hint: Duration,
    /// The budget that retries are taken from. A stack with a budget has one always: `None` is the budget's defaults.
    #[cfg_attr(feature = "serde", serde(default))]
    pub budget: Option<BudgetConfig>,
}

/// How retries are earned. See [`RetryBudget`](crate::retry::RetryBudget).
///
/// The retries that a new budget has at once, [`initial`](crate::retry::RetryBudgetBuilder::initial), are not part of it:
/// they have no meaning for a budget that runs.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(default, deny_unknown_fields))]
pub struct BudgetConfig {
    /// How many retries each call earns, from 0 to 1. Default 0.1.
    pub ratio: f64,
    /// The most retries that are saved up, at least 1. Default 10.
    pub cap: u32,
    /// The retries beside what is earned. Default: one in 100 s. `None`: no such trickle.
    pub floor: Option<Pace>,
}

/// A count per period.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(deny_unknown_fields))]
pub struct Pace {
    /// How many.
    pub count: u64,
    /// In which time.
    #[cfg_attr(feature = "serde", serde(with = "crate::durations::pace_period"))]
    pub period: Duration,
}

/// When a circuit opens, and for how long. See [`BreakerBuilder`](crate::circuit_breaker::BreakerBuilder), whose defaults
/// and bounds these are.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(default, deny_unknown_fields))]
pub struct BreakerConfig {
    /// Opens after this many failures in a row.
    pub consecutive_failures: Option<u32>,
    /// Opens at this share of failures. Default, where neither is given: one half in ten seconds.
    pub failure_rate: Option<FailureRate>,
    /// Opens at this share of slow calls. Default: the time of a call says nothing.
    pub slow_call_rate: Option<SlowCallRate>,
    /// The fewest calls for a share to count.
    pub minimum_calls: u32,
    /// How long it stays open at first. A circuit that is open keeps to the time that it was opened for.
    #[cfg_attr(feature = "serde", serde(with = "crate::durations::open_for"))]
    pub open_for: Duration,
    /// How long it stays open at most, after failed probes. Default: a minute, or `open_for` if that is longer.
    #[cfg_attr(feature = "serde", serde(with = "crate::durations::max_open_for"))]
    pub max_open_for: Option<Duration>,
    /// How many probes have to succeed.
    pub probes: u32,
    /// How long they may take.
    #[cfg_attr(feature = "serde", serde(with = "crate::durations::probe_timeout"))]
    pub probe_timeout: Duration,
    /// After how long a call that its caller dropped counts as a failure.
    #[cfg_attr(feature = "serde", serde(with = "crate::durations::cancelled_is_failure_after"))]
    pub cancelled_is_failure_after: Option<Duration>,
    /// Whether an answer that says "too much" is a failure.
    pub overload_is_failure: bool,
    /// Holds the circuit open (`"open"`), or closed (`"closed"`). `None` ends that, also where it was done by hand.
    pub forced: Option<Forced>,
}

/// The share of failures at which a circuit opens.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(deny_unknown_fields))]
pub struct FailureRate {
    /// Above 0 and at most 1.
    pub rate: f64,
    /// The time over which calls are counted.
    #[cfg_attr(feature = "serde", serde(with = "crate::durations::failure_rate_window"))]
    pub window: Duration,
}

/// The share of slow calls at which a circuit opens.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(deny_unknown_fields))]
pub struct SlowCallRate {
    /// Above 0 and at most 1.
    pub rate: f64,
    /// A call that takes this long is slow.
    #[cfg_attr(feature = "serde", serde(with = "crate::durations::slow_call_threshold"))]
    pub threshold: Duration,
}

/// A circuit that does not look at results.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
pub enum Forced {
    /// No call passes.
    Open,
    /// All calls pass.
    Closed,
}

/// A rate limit.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(deny_unknown_fields))]
pub struct RateLimitConfig {
    /// One for each tier, as many as were built; a single one where there are no tiers. That of a
    /// [`SlidingWindow`](crate::rate_limit::SlidingWindow) is its limit in its window, and the burst the same.
    pub quotas: Vec<Quota>,
    /// Only counts what it would refuse. Where several were put in shadow together, each of them is; once one has been put
    /// in force each has its own mode, and [counts](crate::rate_limit::RateLimit::refused) for itself.
    #[cfg_attr(feature = "serde", serde(default))]
    pub shadow: bool,
}

/// A limit on the calls in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(deny_unknown_fields))]
pub struct LoadShedConfig {
    /// The most calls in flight, at least 1.
    pub limit: usize,
    /// Only counts what it would refuse.
    #[cfg_attr(feature = "serde", serde(default))]
    pub shadow: bool,
}

/// A queue. See [`QueueBuilder`](crate::load_level::QueueBuilder), whose defaults and bounds these are.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(deny_unknown_fields))]
pub struct LoadLevelConfig {
    /// The most calls in the service.
    pub concurrency: usize,
    /// The most that wait.
    pub depth: usize,
    /// The most that those who wait may weigh. Default: any.
    #[cfg_attr(feature = "serde", serde(default))]
    pub max_weight: Option<u64>,
    /// The longest wait. Default: a second.
    #[cfg_attr(
        feature = "serde",
        serde(default = "LoadLevelConfig::default_max_wait", with = "crate::durations::max_wait")
    )]
    pub max_wait: Duration,
    /// Who is next, and who has waited too long.
    #[cfg_attr(feature = "serde", serde(default))]
    pub discipline: Discipline,
    /// How many calls begin in which time, at most. Default: as fast as there is room.
    #[cfg_attr(feature = "serde", serde(default))]
    pub pace: Option<Pace>,
}

impl RetryConfig {
    /// This many attempts, and defaults.
    pub fn new(attempts: u32) -> Self {
        Self { attempts, backoff: Backoff::default(), max_hint: DEFAULT_MAX_HINT, budget: None }
    }

    #[cfg(feature = "serde")]
    fn default_max_hint() -> Duration {
        DEFAULT_MAX_HINT
    }
}

impl RateLimitConfig {
    /// These quotas, in force.
    pub fn new(quotas: impl Into<Vec<Quota>>) -> Self {
        Self { quotas: quotas.into(), shadow: false }
    }
}

impl LoadShedConfig {
    /// This limit, in force.
    pub const fn new(limit: usize) -> Self {
        Self { limit, shadow: false }
    }
}

impl LoadLevelConfig {
    /// This concurrency and depth, and defaults.
    pub fn new(concurrency: usize, depth: usize) -> Self {
        Self {
            concurrency,
            depth,
            max_weight: None,
            max_wait: Self::default_max_wait(),
            discipline: Discipline::default(),
            pace: None,
        }
    }

    fn default_max_wait() -> Duration {
        Duration::from_secs(1)
    }
}

impl StackConfig {
    /// This configuration, with what it does not give as the stack was built.
    pub(super) fn completed_by(&self, built: &Self) -> Result<Self, ConfigError> {
        let Self { switched_off, ref rate_limit, .. } = *self;
        if !rate_limit.is_empty() && rate_limit.len() != built.rate_limit.len() {
            let rule = "must be as many as the stack has, or none";
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

/// A part that is given, or else as it was built.
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

/// The rule that a part breaks which names nothing.
pub(crate) const ABSENT: &str = "must be left out: the stack was built without it";
