use super::live::{StackConfig, Terms};
use crate::{
    circuit_breaker::BreakerBuilder,
    error::ConfigError,
    load_level::Queue,
    retry::Backoff,
    shell::{GateStage, Leaf},
    timeout::Of,
};
use std::{fmt, time::Duration};

/// What a stack does with a call: its layers from the outside in, and what follows from them.
///
/// `Display` prints it for people:
///
/// ```
/// # fn main() -> Result<(), steadfast::ConfigError> {
/// use std::time::Duration;
/// use steadfast::{load_shed::Limiter, retry::{Backoff, Retry}};
///
/// let stack = steadfast::client()
///     .timeout(Duration::from_secs(2))
///     .retry(Retry::new(3).backoff(Backoff::exponential(Duration::from_millis(50), Duration::from_secs(1))))
///     .load_shed(Limiter::fixed(64)?)
///     .attempt_timeout(Duration::from_millis(600))
///     .layer()?;
/// let explanation = stack.explain();
/// assert_eq!(explanation.attempts(), 3);
/// assert_eq!(explanation.max_in_flight(), Some(64));
/// // Three attempts of 600 ms, and waits of at most 50 and 100 ms.
/// assert_eq!(explanation.worst_case_latency(), Some(Duration::from_millis(1950)));
/// assert_eq!(
///     explanation.to_string(),
///     "\
/// A call passes, from the outside in:
///   1. timeout: 2s
///   2. retry: up to 3 attempts, waits of at most 50ms, doubling up to 1s, full jitter, with a budget
///   3. load shed: at most 64 in flight
///   4. attempt timeout: 600ms
/// At worst: 1.95s of latency (2s if the service asks for waits), 3 attempts, 64 in flight.
/// ",
/// );
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default)]
pub struct Explanation {
    layers: Vec<(&'static str, String)>,
    attempts: Option<u32>,
    worst_case: Option<Duration>,
    /// What waits that the service asks for may add to the worst case.
    hints: Duration,
    max_in_flight: Option<usize>,
    contradiction: Option<ConfigError>,
    /// The terms of calls, where they are not those that the stages were built with.
    terms: Option<Terms>,
    /// Whether the limit in front is to be in shadow, where it may be told so. Only a single one can have calls wait.
    shadow: Option<bool>,
}

/// A stage that can say what it does, and what is further in.
pub trait Describe {
    /// Adds this stage and those further in.
    fn describe(&self, explanation: &mut Explanation);
}

/// A gate that can say what it does.
pub trait DescribeGate {
    /// Adds this gate.
    fn describe(&self, explanation: &mut Explanation);
}

impl<C> Describe for Leaf<C> {
    fn describe(&self, _explanation: &mut Explanation) {}
}

impl<G: DescribeGate, Next: Describe> Describe for GateStage<G, Next> {
    fn describe(&self, explanation: &mut Explanation) {
        self.gate.describe(explanation);
        self.next.describe(explanation);
    }
}

impl Explanation {
    pub(crate) fn of(stage: &impl Describe) -> Self {
        let mut explanation = Self::default();
        stage.describe(&mut explanation);
        explanation
    }

    /// One that is to be of this configuration, which is complete, and not of the one in force.
    pub(super) fn proposed(config: &StackConfig) -> Self {
        let shadow = config.rate_limit.first().map(|limit| limit.shadow);
        Self { terms: Some(Terms::of(config)), shadow, ..Self::default() }
    }

    /// Describes what is further in by these terms, if no others are proposed.
    pub(super) fn by_terms(&mut self, terms: Terms) {
        self.terms.get_or_insert(terms);
    }

    /// The longest that a call can take: `None` if nothing bounds it. A wait that the service itself asks for
    /// (`retry_after`) comes on top; see [`worst_case_with_hints`](Self::worst_case_with_hints).
    pub fn worst_case_latency(&self) -> Option<Duration> {
        self.worst_case
    }

    /// The longest that a call can take if the service asks for the longest waits before each retry
    /// ([`Retry::max_hint`](crate::retry::Retry::max_hint)): `None` if nothing bounds it.
    pub fn worst_case_with_hints(&self) -> Option<Duration> {
        self.worst_case.map(|latency| latency.saturating_add(self.hints))
    }

    /// The most attempts that one call can become. Retries inside the service itself cannot be seen.
    pub fn attempts(&self) -> u32 {
        self.attempts.unwrap_or(1)
    }

    /// The most calls that can be in the service at once: `None` if nothing bounds them.
    pub fn max_in_flight(&self) -> Option<usize> {
        self.max_in_flight
    }

    /// The layers from the outside in, each with what it does.
    pub fn layers(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.layers.iter().map(|(name, text)| (*name, text.as_str()))
    }

    /// Refuses a stack whose numbers contradict each other.
    pub(super) fn check(self) -> Result<(), ConfigError> {
        self.contradiction.map_or(Ok(()), Err)
    }

    /// Adds a layer: its name, and what it does.
    pub fn add(&mut self, name: &'static str, text: impl Into<String>) {
        self.layers.push((name, text.into()));
    }

    pub(crate) fn timeout(&mut self, of: Of, built: Duration, next: &impl Describe) {
        let limit = self.terms.as_ref().and_then(|terms| of.limit(terms)).unwrap_or(built);
        self.add(of.name(), format!("{limit:?}"));
        next.describe(self);
        match self.worst_case {
            Some(inner) if inner > limit => {
                let rule = "must cover all that is further in: attempts times the attempt timeout, the waits between, and waits in line";
                let value = format_args!("{limit:?}, for up to {inner:?}");
                self.contradiction.get_or_insert(ConfigError::new("timeout", value, rule));
                self.worst_case = Some(limit);
            }
            Some(_) => {}
            None => self.worst_case = Some(limit),
        }
        self.hints = self.hints.min(limit.saturating_sub(self.worst_case.unwrap_or_default()));
    }

    /// The retry around all that was described last waits at most so long for each hint.
    pub(crate) fn hints(&mut self, attempts: u32, max_hint: Duration) {
        let (attempts, max_hint) = self.terms.map_or((attempts, max_hint), |terms| (terms.attempts, terms.max_hint));
        let further = max_hint.saturating_mul(attempts.saturating_sub(1));
        self.hints = self.hints.saturating_mul(attempts).saturating_add(further);
    }

    pub(crate) fn retry(&mut self, attempts: u32, backoff: Backoff, has_budget: bool, next: &impl Describe) {
        let (attempts, backoff) = self.terms.map_or((attempts, backoff), |terms| (terms.attempts, terms.backoff));
        let budget = if has_budget { "with a budget" } else { "without a budget" };
        self.add("retry", format!("up to {attempts} attempts, {backoff}, {budget}"));
        self.attempts = Some(self.attempts().saturating_mul(attempts));
        next.describe(self);
        let waits = backoff.worst_case(attempts.saturating_sub(1));
        self.worst_case = self.worst_case.map(|attempt| attempt.saturating_mul(attempts).saturating_add(waits));
    }

    pub(crate) fn circuit_breaker(&mut self, config: &BreakerBuilder) {
        self.add("circuit breaker", config.to_string());
    }

    /// `longest_wait`: of a call, by whether the limit is in shadow; as it is in force if that is not proposed.
    pub(crate) fn rate_limit(
        &mut self,
        limits: String,
        longest_wait: impl Fn(Option<bool>) -> Duration,
        next: &impl Describe,
    ) {
        self.add("rate limit", limits);
        next.describe(self);
        self.worst_case = self.worst_case.map(|inner| inner.saturating_add(longest_wait(self.shadow)));
    }

    pub(crate) fn load_shed(&mut self, (limit, shadow): (usize, bool)) {
        let in_shadow = if shadow { " (shadow)" } else { "" };
        self.add("load shed", format!("at most {limit} in flight{in_shadow}"));
        if !shadow {
            self.bound_in_flight(limit);
        }
    }

    pub(crate) fn load_level(&mut self, queue: &Queue, next: &impl Describe) {
        self.add("load level", queue.describe());
        self.bound_in_flight(queue.concurrency());
        next.describe(self);
        self.worst_case = self.worst_case.map(|inner| inner.saturating_add(queue.longest_wait()));
    }

    fn bound_in_flight(&mut self, limit: usize) {
        self.max_in_flight = Some(self.max_in_flight.map_or(limit, |other| other.min(limit)));
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "A call passes, from the outside in:")?;
        for (number, (name, text)) in (1..).zip(self.layers()) {
            writeln!(f, "  {number}. {name}: {text}")?;
        }
        match self.worst_case {
            Some(latency) => write!(f, "At worst: {latency:?} of latency")?,
            None => write!(f, "At worst: unbounded latency")?,
        }
        match self.worst_case_with_hints() {
            Some(latency) if !self.hints.is_zero() => write!(f, " ({latency:?} if the service asks for waits)")?,
            _ => {}
        }
        match self.attempts() {
            1 => write!(f, ", 1 attempt")?,
            attempts => write!(f, ", {attempts} attempts")?,
        }
        match self.max_in_flight {
            Some(limit) => writeln!(f, ", {limit} in flight."),
            None => writeln!(f, ", any number in flight."),
        }
    }
}
