//! The explanation of a stack, made by its stages.

use super::{CallSettings, Instrument, Leaf, instrument::Collected};
use crate::{
    backoff::{Backoff, Jitter},
    error::ConfigError,
};
use std::{fmt, sync::Arc, time::Duration};

/// Explains what a stack does with a call: its layers, outermost first, and the resulting worst case.
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
///   2. retry: up to 3 attempts, waits of at most 50ms, doubling up to 1s, full jitter, budget: ratio 0.1, floor 1 per 100s, cap 10, initial below 1
///   3. load shed: at most 64 in flight
///   4. attempt timeout: 600ms
/// At worst: 1.95s of latency (2s if the service asks for waits), 3 attempts, 64 in flight.
/// ",
/// );
/// # Ok(())
/// # }
/// ```
///
/// A timeout may be shorter than the worst case of the inner layers, because most attempts fail long before their own
/// timeout. `Display` then adds how many attempts fit if each takes its maximum:
/// `2 of 3 full attempts fit into the timeout of 1.5s.`
#[derive(Clone, Debug, Default)]
pub struct Explanation {
    layers: Vec<(&'static str, String)>,
    /// The most attempts of a call: the product of all retries. `None` without a retry.
    attempts: Option<u32>,
    /// The longest duration of a call. `None` while it is unbounded.
    worst_case: Option<Duration>,
    /// By how much the waits that the service asks for can lengthen the worst case.
    hints: Duration,
    max_in_flight: Option<usize>,
    /// The first contradiction between two numbers of the stack.
    contradiction: Option<ConfigError>,
    /// The innermost fixed limit on latency and its name. `None` without one, or if a retry is inside it.
    innermost: Option<(&'static str, Duration)>,
    /// The attempts of the nearest inner retry, against which an outer latency limit is checked.
    tries: Option<Tries>,
    /// The outermost latency limit that cuts the worst case short, and how many full attempts fit into it.
    cut_short: Option<CutShort>,
    /// The lowest concurrency limit of the outer layers, and the field that sets it.
    in_front: Option<(&'static str, usize)>,
    /// The settings of calls in a live stack. They can differ from those that the stages were built with.
    settings: Option<CallSettings>,
    /// The instruments of the stages, while they are collected.
    instruments: Collected,
}

/// The attempts that one retry makes.
#[derive(Clone, Copy, Debug)]
struct Tries {
    attempts: u32,
    backoff: Backoff,
    /// The maximum duration of one attempt, if bounded.
    longest: Option<Duration>,
}

/// A latency limit that is shorter than the worst case of the inner layers.
#[derive(Clone, Copy, Debug)]
struct CutShort {
    name: &'static str,
    limit: Duration,
    full_attempts: u32,
}

impl Tries {
    /// Returns how many attempts end within this time if each attempt and each backoff takes its maximum.
    fn fitting_into(&self, time: Duration) -> u32 {
        let Some(longest) = self.longest else { return 0 };
        let takes = |attempts: u32| {
            longest.saturating_mul(attempts).saturating_add(self.backoff.worst_case(attempts.saturating_sub(1)))
        };
        let (mut fits, mut fails) = (0, self.attempts.saturating_add(1));
        while fails - fits > 1 {
            let middle = fits + (fails - fits) / 2;
            if takes(middle) <= time { fits = middle } else { fails = middle }
        }
        fits
    }
}

/// A stage that can describe itself and its inner stages.
pub trait Describe {
    /// Adds this stage and its inner stages to the explanation.
    fn describe(&self, explanation: &mut Explanation);
}

/// A gate that can describe itself.
pub trait DescribeGate {
    /// Adds this gate to the explanation.
    fn describe(&self, explanation: &mut Explanation);
}

impl<C, W> Describe for Leaf<C, W> {
    fn describe(&self, _explanation: &mut Explanation) {}
}

/// Makes the explanation of stages, and returns what follows from it, such as the worst case.
impl Explanation {
    pub(crate) fn of(stage: &(impl Describe + ?Sized)) -> Self {
        let mut explanation = Self::default();
        stage.describe(&mut explanation);
        explanation
    }

    /// Collects the explanation and the instruments of a stage and its inner stages.
    pub(crate) fn with_instruments(stage: &(impl Describe + ?Sized)) -> (Self, Vec<Arc<dyn Instrument>>) {
        let mut explanation = Self::default();
        explanation.instruments.begin();
        stage.describe(&mut explanation);
        let instruments = explanation.instruments.take();
        (explanation, instruments)
    }

    /// Returns the longest possible duration of a call, or `None` if it is unbounded. It includes waits for refusals by
    /// the stack itself, if [enabled](crate::retry::Retry::wait_for_refusals). It excludes waits at the service's
    /// request (`retry_after`); see [`worst_case_with_hints`](Self::worst_case_with_hints).
    pub fn worst_case_latency(&self) -> Option<Duration> {
        self.worst_case
    }

    /// Returns the longest possible duration of a call if the service asks for the longest wait
    /// ([`Retry::max_hint`](crate::retry::Retry::max_hint)) before each retry. `None` if the duration is unbounded.
    pub fn worst_case_with_hints(&self) -> Option<Duration> {
        self.worst_case.map(|latency| latency.saturating_add(self.hints))
    }

    /// Returns how many attempts fit into the timeout if each attempt and each backoff takes its maximum. `None` if all
    /// [`attempts`](Self::attempts) fit, or if the duration of an attempt is unbounded.
    pub fn full_attempts(&self) -> Option<u32> {
        self.cut_short.map(|cut| cut.full_attempts)
    }

    /// Returns the maximum number of attempts of one call. It excludes retries inside the service.
    pub fn attempts(&self) -> u32 {
        self.attempts.unwrap_or(1)
    }

    /// Returns the maximum number of calls in the service at a time, or `None` if it is unbounded.
    pub fn max_in_flight(&self) -> Option<usize> {
        self.max_in_flight
    }

    /// Returns the layers, outermost first, each with its description.
    pub fn layers(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.layers.iter().map(|(name, text)| (*name, text.as_str()))
    }

    /// Returns an error if the numbers of the stack contradict each other.
    pub(crate) fn check(self) -> Result<(), ConfigError> {
        self.contradiction.map_or(Ok(()), Err)
    }
}

/// The methods with which a stage describes itself. A stage calls [`layer`](Explanation::layer) first, and then the
/// methods that say what the layer does. Only the methods that limit latency, such as
/// [`limit_latency`](Explanation::limit_latency), add their layer themselves. A method that takes the `next` stage also
/// describes that stage.
impl Explanation {
    /// Adds a layer with its name and description.
    pub fn layer(&mut self, name: &'static str, text: impl Into<String>) {
        self.layers.push((name, text.into()));
    }

    /// Adds the instrument of the layer. It is dropped at once unless an [`Observer`](super::Observer) collects
    /// instruments.
    pub fn instrument(&mut self, instrument: impl Instrument) {
        self.instruments.add(instrument);
    }

    /// Adds a layer that ends calls after `limit`.
    pub fn limit_latency(&mut self, name: &'static str, limit: Duration, next: &impl Describe) {
        self.layer(name, format!("{limit:?}"));
        next.describe(self);
        self.latency_is_limited(name, limit);
    }

    /// Adds a layer that ends calls after a learned limit of at most `ceiling`.
    pub(crate) fn limit_latency_at_most(&mut self, name: &'static str, ceiling: Duration, next: &impl Describe) {
        self.layer(name, format!("learned, at most {ceiling:?}"));
        next.describe(self);
        self.check_latency(name, ceiling);
        self.latency_is_at_most(ceiling);
    }

    /// Adds that a call passes the inner stages up to `attempts` times, with the waits of `backoff` in between.
    pub fn repeat(&mut self, attempts: u32, backoff: Backoff, next: &impl Describe) {
        self.attempts = Some(self.attempts().saturating_mul(attempts));
        next.describe(self);
        self.is_repeated(attempts, backoff);
    }

    /// Adds that a call can wait here for up to `longest`. The worst case grows by this time, unless the latency of the
    /// inner layers is unbounded.
    pub fn wait(&mut self, longest: Duration, next: &impl Describe) {
        next.describe(self);
        self.worst_case = self.worst_case.map(|inner| inner.saturating_add(longest));
    }

    /// Adds that the inner layers hold at most `places` calls at a time. A further call can wait here, for up to
    /// `longest`, until one of those calls has ended.
    pub fn wait_for_place(&mut self, places: usize, longest: Duration, next: &impl Describe) {
        self.places_are_waited_for(places);
        self.wait(longest, next);
    }

    /// Adds that the inner layers hold at most `limit` calls at a time. If the limit contradicts an inner queue,
    /// `field` names the limit in the builder's error.
    pub fn limit_in_flight(&mut self, field: &'static str, limit: usize) {
        if self.in_front.is_none_or(|(_, lowest)| limit < lowest) {
            self.in_front = Some((field, limit));
        }
        self.bound_in_flight(limit);
    }

    /// Adds that the service can ask for waits of a total length of `further`. The inner stages may have added such
    /// waits before; those can occur in each of the `attempts`.
    ///
    /// If `always`, the stage may wait for `further` even if the service does not ask. This time is then part of the
    /// [worst case](Self::worst_case_latency). Otherwise it is part of the worst case [with
    /// hints](Self::worst_case_with_hints) only.
    pub(crate) fn wait_for_hints(&mut self, attempts: u32, further: Duration, always: bool) {
        self.hints = self.hints.saturating_mul(attempts);
        if always {
            self.worst_case = self.worst_case.map(|inner| inner.saturating_add(further));
        } else {
            self.hints = self.hints.saturating_add(further);
        }
    }

    /// Sets the settings with which the inner stages then describe themselves.
    pub(crate) fn with_settings(&mut self, settings: CallSettings) {
        self.settings = Some(settings);
    }

    /// Returns the settings in force in a live stack. They can differ from those that the stages were built with.
    pub(crate) fn settings(&self) -> Option<&CallSettings> {
        self.settings.as_ref()
    }
}

/// The parts of the methods above that describe no stage. The check of a live configuration runs them from the inside
/// out, without stages.
impl Explanation {
    pub(crate) fn latency_is_limited(&mut self, name: &'static str, limit: Duration) {
        if self.innermost.is_none() && self.tries.is_none() {
            self.innermost = Some((name, limit));
        }
        self.check_latency(name, limit);
        self.latency_is_at_most(limit);
    }

    fn latency_is_at_most(&mut self, limit: Duration) {
        let latency = self.worst_case.map_or(limit, |inner| inner.min(limit));
        self.worst_case = Some(latency);
        self.hints = self.hints.min(limit.saturating_sub(latency));
    }

    /// Compares a latency limit with the inner stages: with their innermost limit, with the first wait of the retry,
    /// and with their worst case.
    fn check_latency(&mut self, name: &'static str, limit: Duration) {
        if let Some((inner, inner_limit)) = self.innermost.filter(|(_, inner)| limit < *inner) {
            let rule = format!("must be at least the {inner} of {inner_limit:?}, or no attempt has all of its time");
            self.contradicts(name, limit, rule);
        }
        let tries = self.tries.unwrap_or(Tries { attempts: 1, backoff: Backoff::none(), longest: self.worst_case });
        let wait = tries.backoff.shortest_first_wait();
        if tries.attempts > 1 && limit <= wait {
            let first = match tries.backoff.parts() {
                (.., Jitter::None) => "the first wait of the retry",
                _ => "the shortest first wait that the retry's jitter allows",
            };
            let rule = format!("must be longer than {wait:?}, {first}, or no retry can run");
            self.contradicts(name, limit, rule);
        }
        let full_attempts = tries.fitting_into(limit);
        if full_attempts < tries.attempts && self.worst_case.is_some_and(|inner| inner > limit) {
            self.cut_short = Some(CutShort { name, limit, full_attempts });
        }
    }

    pub(crate) fn is_repeated(&mut self, attempts: u32, backoff: Backoff) {
        self.tries = Some(Tries { attempts, backoff, longest: self.worst_case });
        let waits = backoff.worst_case(attempts.saturating_sub(1));
        self.worst_case = self.worst_case.map(|attempt| attempt.saturating_mul(attempts).saturating_add(waits));
    }

    pub(crate) fn places_are_waited_for(&mut self, places: usize) {
        if let Some((field, limit)) = self.in_front.filter(|(_, limit)| *limit <= places) {
            let rule = format!("must be above {places}, the concurrency of the queue behind it, or no call can wait");
            self.contradicts(field, limit, rule);
        }
        self.bound_in_flight(places);
    }

    fn contradicts(&mut self, field: &'static str, value: impl fmt::Debug, rule: String) {
        self.contradiction.get_or_insert_with(|| ConfigError::new(field, value, rule));
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
            Some(limit) => writeln!(f, ", {limit} in flight.")?,
            None => writeln!(f, ", any number in flight.")?,
        }
        if let Some(CutShort { name, limit, full_attempts }) = self.cut_short {
            let attempts = self.attempts();
            let noun = if attempts == 1 { "attempt" } else { "attempts" };
            let verb = if full_attempts == 1 { "fits" } else { "fit" };
            writeln!(f, "{full_attempts} of {attempts} full {noun} {verb} into the {name} of {limit:?}.")?;
        }
        Ok(())
    }
}
