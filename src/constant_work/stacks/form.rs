//! A rule as it is encoded: every field has its place, given or not, and every number its length.

use super::{
    StackRule,
    rule::{LONGEST_NAME, MOST_LIMITS, MOST_TIERS},
};
use crate::load_level::{Discipline, Kind};
use crate::{
    backoff::{Backoff, Growth, Jitter},
    clock::nanos,
    rate_limit::Quota,
    stack::live::{
        BreakerConfig, BudgetConfig, FailureRate, Forced, LoadLevelConfig, LoadShedConfig, Pace, RateLimitConfig,
        RetryConfig, SlowCallRate, StackConfig,
    },
};
use serde::{Deserialize, Serialize};
use std::time::Duration;

#[derive(Serialize, Deserialize)]
pub(super) struct Form {
    name: [u8; LONGEST_NAME],
    switched_off: bool,
    timeout: Maybe<Number>,
    attempt_timeout: Maybe<Number>,
    retry: Maybe<RetryForm>,
    circuit_breaker: Maybe<BreakerForm>,
    limits: u8,
    rate_limit: [LimitForm; MOST_LIMITS],
    load_shed: Maybe<(Number, bool)>,
    load_level: Maybe<LevelForm>,
}

/// A number of eight bytes; of nanoseconds, where it is a duration.
#[derive(Clone, Copy, Default, Serialize, Deserialize)]
struct Number(#[serde(with = "postcard::fixint::le")] u64);

/// A value that may be missing, and takes its place even so.
#[derive(Clone, Copy, Default, Serialize, Deserialize)]
struct Maybe<T> {
    is_given: bool,
    value: T,
}

type Twice = (Number, Number);

#[derive(Default, Serialize, Deserialize)]
struct RetryForm {
    attempts: Number,
    base: Number,
    cap: Number,
    is_linear: bool,
    /// The number of the jitter and its factor.
    jitter: (Number, f64),
    max_hint: Number,
    budget: Maybe<(f64, Number, Maybe<Twice>)>,
}

#[derive(Default, Serialize, Deserialize)]
struct BreakerForm {
    consecutive_failures: Maybe<Number>,
    failure_rate: Maybe<(f64, Number)>,
    slow_call_rate: Maybe<(f64, Number)>,
    minimum_calls: Number,
    open_for: Number,
    max_open_for: Maybe<Number>,
    probes: Number,
    probe_timeout: Number,
    cancelled_is_failure_after: Maybe<Number>,
    overload_is_failure: bool,
    forced: u8,
}

#[derive(Default, Serialize, Deserialize)]
struct LimitForm {
    shadow: bool,
    tiers: u8,
    quotas: [(Number, Number, Number); MOST_TIERS],
}

#[derive(Default, Serialize, Deserialize)]
struct LevelForm {
    concurrency: Number,
    depth: Number,
    max_weight: Maybe<Number>,
    max_wait: Number,
    discipline: u8,
    share: f64,
    target: Number,
    interval: Number,
    pace: Maybe<Twice>,
}

impl<T: Default> Maybe<T> {
    fn of<U>(given: Option<U>, form: impl FnOnce(U) -> T) -> Self {
        Self { is_given: given.is_some(), value: given.map(form).unwrap_or_default() }
    }

    /// The value, if it was given.
    fn given(self) -> Option<T> {
        self.is_given.then_some(self.value)
    }
}

impl From<Duration> for Number {
    fn from(duration: Duration) -> Self {
        Self(nanos(duration))
    }
}

impl Number {
    fn duration(self) -> Duration {
        Duration::from_nanos(self.0)
    }

    fn of_usize(number: usize) -> Self {
        Self(number as u64)
    }

    fn of_u32(number: u32) -> Self {
        Self(number.into())
    }

    fn u32(self) -> Result<u32, &'static str> {
        u32::try_from(self.0).map_err(|_| "a number is too large")
    }

    fn usize(self) -> Result<usize, &'static str> {
        usize::try_from(self.0).map_err(|_| "a number is too large")
    }
}

fn of_pace(Pace { count, period }: Pace) -> Twice {
    (Number(count), period.into())
}

fn pace((count, period): Twice) -> Pace {
    Pace { count: count.0, period: period.duration() }
}

const FORCED: [Option<Forced>; 3] = [None, Some(Forced::Open), Some(Forced::Closed)];

/// The number of a variant. It stands in the list.
fn number_of<T: PartialEq>(variants: &[T], variant: &T) -> u8 {
    variants.iter().position(|known| known == variant).unwrap_or_default() as u8
}

fn variant<T: Copy>(variants: &[T], number: u8) -> Result<T, &'static str> {
    variants.get(usize::from(number)).copied().ok_or("a variant is unknown")
}

impl From<StackRule> for Form {
    fn from(rule: StackRule) -> Self {
        let (text, config) = rule.into_parts();
        let mut name = [0; LONGEST_NAME];
        name.iter_mut().zip(text.bytes()).for_each(|(place, byte)| *place = byte);
        let mut rate_limit: [LimitForm; MOST_LIMITS] = Default::default();
        for (form, limit) in rate_limit.iter_mut().zip(&config.rate_limit) {
            *form = limit.into();
        }
        Self {
            name,
            switched_off: config.switched_off,
            timeout: Maybe::of(config.timeout, Number::from),
            attempt_timeout: Maybe::of(config.attempt_timeout, Number::from),
            retry: Maybe::of(config.retry, RetryForm::from),
            circuit_breaker: Maybe::of(config.circuit_breaker, BreakerForm::from),
            limits: config.rate_limit.len() as u8,
            rate_limit,
            load_shed: Maybe::of(config.load_shed, |shed| (Number::of_usize(shed.limit), shed.shadow)),
            load_level: Maybe::of(config.load_level, LevelForm::from),
        }
    }
}

impl TryFrom<Form> for StackRule {
    type Error = &'static str;

    fn try_from(form: Form) -> Result<Self, &'static str> {
        let length = form.name.iter().position(|byte| *byte == 0).unwrap_or(LONGEST_NAME);
        let (name, rest) = form.name.split_at(length);
        if rest.iter().any(|byte| *byte != 0) {
            return Err("a name goes on after its end");
        }
        let name = String::from_utf8(name.to_vec()).map_err(|_| "a name is not UTF-8")?;
        let limits = usize::from(form.limits);
        if limits > MOST_LIMITS {
            return Err("there are too many rate limits");
        }
        let rate_limit = form.rate_limit.into_iter().take(limits).map(RateLimitConfig::try_from);
        let load_shed = form
            .load_shed
            .given()
            .map(|(limit, shadow)| Ok::<_, &str>(LoadShedConfig { limit: limit.usize()?, shadow }));
        let config = StackConfig {
            switched_off: form.switched_off,
            timeout: form.timeout.given().map(Number::duration),
            attempt_timeout: form.attempt_timeout.given().map(Number::duration),
            retry: form.retry.given().map(RetryConfig::try_from).transpose()?,
            circuit_breaker: form.circuit_breaker.given().map(BreakerConfig::try_from).transpose()?,
            rate_limit: rate_limit.collect::<Result<_, _>>()?,
            load_shed: load_shed.transpose()?,
            load_level: form.load_level.given().map(LoadLevelConfig::try_from).transpose()?,
        };
        Ok(Self::of_parts(name, config))
    }
}

impl From<RetryConfig> for RetryForm {
    fn from(retry: RetryConfig) -> Self {
        let (base, cap, growth, jitter) = retry.backoff.parts();
        let (jitter, factor) = jitter.numbers();
        let budget = |BudgetConfig { ratio, cap, floor }| (ratio, Number::of_u32(cap), Maybe::of(floor, of_pace));
        Self {
            attempts: Number::of_u32(retry.attempts),
            base: base.into(),
            cap: cap.into(),
            is_linear: growth == Growth::Linear,
            jitter: (Number::of_u32(jitter), factor),
            max_hint: retry.max_hint.into(),
            budget: Maybe::of(retry.budget, budget),
        }
    }
}

impl TryFrom<RetryForm> for RetryConfig {
    type Error = &'static str;

    fn try_from(form: RetryForm) -> Result<Self, &'static str> {
        let growth = if form.is_linear { Growth::Linear } else { Growth::Exponential };
        let (jitter, factor) = form.jitter;
        let jitter = Jitter::of_numbers(jitter.u32()?, factor).ok_or("a variant is unknown")?;
        let budget = |(ratio, cap, floor): (f64, Number, Maybe<Twice>)| {
            Ok::<_, &str>(BudgetConfig { ratio, cap: cap.u32()?, floor: floor.given().map(pace) })
        };
        Ok(Self {
            attempts: form.attempts.u32()?,
            backoff: Backoff::of_parts((form.base.duration(), form.cap.duration(), growth, jitter)),
            max_hint: form.max_hint.duration(),
            budget: form.budget.given().map(budget).transpose()?,
        })
    }
}

impl From<BreakerConfig> for BreakerForm {
    fn from(breaker: BreakerConfig) -> Self {
        let rate = |FailureRate { rate, window }| (rate, Number::from(window));
        let slow_rate = |SlowCallRate { rate, threshold }| (rate, Number::from(threshold));
        Self {
            consecutive_failures: Maybe::of(breaker.consecutive_failures, Number::of_u32),
            failure_rate: Maybe::of(breaker.failure_rate, rate),
            slow_call_rate: Maybe::of(breaker.slow_call_rate, slow_rate),
            minimum_calls: Number::of_u32(breaker.minimum_calls),
            open_for: breaker.open_for.into(),
            max_open_for: Maybe::of(breaker.max_open_for, Number::from),
            probes: Number::of_u32(breaker.probes),
            probe_timeout: breaker.probe_timeout.into(),
            cancelled_is_failure_after: Maybe::of(breaker.cancelled_is_failure_after, Number::from),
            overload_is_failure: breaker.overload_is_failure,
            forced: number_of(&FORCED, &breaker.forced),
        }
    }
}

impl TryFrom<BreakerForm> for BreakerConfig {
    type Error = &'static str;

    fn try_from(form: BreakerForm) -> Result<Self, &'static str> {
        let rate = |(rate, window): (f64, Number)| FailureRate { rate, window: window.duration() };
        let slow_rate = |(rate, threshold): (f64, Number)| SlowCallRate { rate, threshold: threshold.duration() };
        Ok(Self {
            consecutive_failures: form.consecutive_failures.given().map(Number::u32).transpose()?,
            failure_rate: form.failure_rate.given().map(rate),
            slow_call_rate: form.slow_call_rate.given().map(slow_rate),
            minimum_calls: form.minimum_calls.u32()?,
            open_for: form.open_for.duration(),
            max_open_for: form.max_open_for.given().map(Number::duration),
            probes: form.probes.u32()?,
            probe_timeout: form.probe_timeout.duration(),
            cancelled_is_failure_after: form.cancelled_is_failure_after.given().map(Number::duration),
            overload_is_failure: form.overload_is_failure,
            forced: variant(&FORCED, form.forced)?,
        })
    }
}

impl From<&RateLimitConfig> for LimitForm {
    fn from(limit: &RateLimitConfig) -> Self {
        let mut quotas = [(Number(0), Number(0), Number(0)); MOST_TIERS];
        for (form, quota) in quotas.iter_mut().zip(&limit.quotas) {
            *form = (Number(quota.count()), quota.period().into(), Number(quota.burst()));
        }
        Self { shadow: limit.shadow, tiers: limit.quotas.len() as u8, quotas }
    }
}

impl TryFrom<LimitForm> for RateLimitConfig {
    type Error = &'static str;

    fn try_from(form: LimitForm) -> Result<Self, &'static str> {
        let tiers = usize::from(form.tiers);
        if tiers > MOST_TIERS {
            return Err("there are too many tiers");
        }
        let quota = |(count, period, burst): (Number, Number, Number)| {
            Quota::new(count.0, period.duration()).with_burst(burst.0)
        };
        Ok(Self { quotas: form.quotas.into_iter().take(tiers).map(quota).collect(), shadow: form.shadow })
    }
}

impl From<LoadLevelConfig> for LevelForm {
    fn from(level: LoadLevelConfig) -> Self {
        let (zero, none) = (Number(0), 0.0);
        let (discipline, share, target, interval) = match level.discipline.0 {
            Kind::Deadline { share } => (0, share, zero, zero),
            Kind::Fifo => (1, none, zero, zero),
            Kind::Lifo => (2, none, zero, zero),
            Kind::Adaptive { target, interval } => (3, none, target.into(), interval.into()),
        };
        Self {
            concurrency: Number::of_usize(level.concurrency),
            depth: Number::of_usize(level.depth),
            max_weight: Maybe::of(level.max_weight, Number),
            max_wait: level.max_wait.into(),
            discipline,
            share,
            target,
            interval,
            pace: Maybe::of(level.pace, of_pace),
        }
    }
}

impl TryFrom<LevelForm> for LoadLevelConfig {
    type Error = &'static str;

    fn try_from(form: LevelForm) -> Result<Self, &'static str> {
        let discipline = match form.discipline {
            0 => Discipline::by_deadline(form.share),
            1 => Discipline::fifo(),
            2 => Discipline::lifo(),
            3 => Discipline::adaptive_with(form.target.duration(), form.interval.duration()),
            _ => return Err("a variant is unknown"),
        };
        Ok(Self {
            concurrency: form.concurrency.usize()?,
            depth: form.depth.usize()?,
            max_weight: form.max_weight.given().map(|weight| weight.0),
            max_wait: form.max_wait.duration(),
            discipline,
            pace: form.pace.given().map(pace),
        })
    }
}
