//! The metrics of all stacks of a program.

use super::{
    outcome::CallOutcome,
    reason::{DENIALS, REASONS},
    registry::{InstrumentRegistry, RegistryWatch},
    table::{METRICS, MetricInfo},
    tally::{CallTally, CallTotals, KINDS},
};
use crate::{
    histogram::Histogram,
    shell::{Begin, End, Instrument, Number, Observed, Observer},
};
use std::{
    fmt,
    sync::{Arc, OnceLock},
};

/// Counts the calls and attempts of the observed stacks, and reads their mechanisms. See the [module](super#metrics).
///
/// A handle: all clones count together. Pass a clone to each stack of a program.
///
/// # Cost
///
/// Four additions for a call with one attempt in a client, and two for a call in a server. They take no lock and no
/// atomic read-modify-write, because each of up to 32 living threads has its own counters. The other threads share
/// counters, and add atomically. The first call of each outcome on each thread allocates. The stack reads the clock at
/// the beginning and at the end of each call and each attempt. Only [`samples`](Self::samples) and
/// [`collect`](Self::collect) read the mechanisms.
///
/// A stack name takes about 1 KB, and 304 bytes for each histogram. Each thread with its own counters takes this
/// memory, and all other threads together take it once. The memory is kept for the life of the program. Names are
/// `&'static str`, so their number is bounded.
#[doc(alias = "Prometheus")]
#[derive(Clone, Default)]
pub struct Metrics {
    pub(super) registry: Arc<InstrumentRegistry>,
    pub(super) collected: Arc<super::collect::CollectedHistograms>,
    stack: Option<ObservedStack>,
}

/// The stack that a clone observes.
#[derive(Clone)]
struct ObservedStack {
    name: &'static str,
    tally: Arc<CallTally>,
    /// Set once, when the stack is built. Dropped with the last clone, when the stack ends.
    watch: Arc<OnceLock<RegistryWatch>>,
}

/// Reads a mechanism until it is dropped. [`Metrics::watch`] returns it.
#[must_use = "the mechanism is read until this is dropped"]
pub struct Watching {
    _watch: RegistryWatch,
}

/// One series of one metric. An exporter renders it as one line, or as several for a histogram.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Sample {
    /// The name, with the prefix `steadfast_`, or the unchanged name of your own [`Reading`](crate::shell::Reading).
    pub name: &'static str,
    /// The labels with their values. The first label names the stack. In metrics that concern no stack, it names the
    /// source, the store, the durable queue or the header.
    pub labels: Vec<(&'static str, &'static str)>,
    /// The value.
    pub value: SampleValue,
}

/// The value of a [`Sample`].
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum SampleValue {
    /// A count that never falls.
    Counter(u64),
    /// A current value.
    Gauge(f64),
    /// Durations by [`BUCKETS`](super::BUCKETS).
    Histogram(Box<Histogram>),
}

impl Metrics {
    /// Creates metrics without counts.
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads a mechanism that is part of no observed stack, such as a breaker that is used by hand, a durable queue or
    /// a poller. It is read until the returned guard is dropped. `name` is the value of the first label.
    ///
    /// A mechanism that is watched twice under one name is read once. The metrics of a watched mechanism do not include
    /// `rejections_total`, because only a stack counts rejections. The code that uses the mechanism by hand receives
    /// the refusals, and can count them.
    ///
    /// ```
    /// use steadfast::{load_shed::Limiter, telemetry::{Metrics, SampleValue}};
    ///
    /// # fn main() -> Result<(), steadfast::ConfigError> {
    /// let (metrics, limiter) = (Metrics::new(), Limiter::fixed(8)?);
    /// let _watching = metrics.watch("uploads", limiter.clone());
    ///
    /// let _permit = limiter.try_acquire().unwrap();
    /// let samples = metrics.samples();
    /// let in_flight = samples.iter().find(|sample| sample.name == "steadfast_in_flight").unwrap();
    /// assert_eq!(in_flight.labels, [("stack", "uploads"), ("mechanism", "load_shed")]);
    /// assert_eq!(in_flight.value, SampleValue::Gauge(1.0));
    /// # Ok(())
    /// # }
    /// ```
    pub fn watch(&self, name: &'static str, instrument: impl Instrument) -> Watching {
        Watching { _watch: self.registry.watch(name, &[Arc::new(instrument)]) }
    }

    /// Returns all current metrics, for an exporter of your own. [`collect`](Self::collect) writes the same numbers to
    /// the recorder of the `metrics` crate.
    ///
    /// # Cost
    ///
    /// One reading of each mechanism, with at most a short lock each, and an allocation for each sample.
    ///
    /// # Panics
    ///
    /// Never because of an instrument: panics of instruments are caught. Readings before the panic count. The other
    /// counts of the instrument keep their last values, and its other gauges are missing.
    pub fn samples(&self) -> Vec<Sample> {
        let mut samples = Vec::new();
        for (stack, tally, merged) in self.registry.read() {
            if let Some(tally) = tally {
                of_calls(stack, &tally.totals(), &mut samples);
            }
            samples.extend(merged.into_iter().map(|((name, labels), number)| of_reading(stack, name, labels, number)));
        }
        #[cfg(feature = "http")]
        of_headers(&mut samples);
        samples
    }
}

/// Adds the samples of calls and attempts. Counts exist from the start, except rejections after the service was
/// reached. A histogram exists from its first duration.
fn of_calls(stack: &'static str, totals: &CallTotals, samples: &mut Vec<Sample>) {
    let label = ("stack", stack);
    let mut add = |name, labels: &[(&'static str, &'static str)], value| {
        let labels = [&[label], labels].concat();
        samples.push(Sample { name, labels, value });
    };
    let histogram = |durations: &Histogram| SampleValue::Histogram(Box::new(*durations));
    let outcomes = CallOutcome::ALL.map(|outcome| ("outcome", outcome.name()));
    for (outcome, calls) in outcomes.iter().zip(&totals.calls).filter(|(_, calls)| calls.count() > 0) {
        add("steadfast_call_duration_seconds", &[*outcome], histogram(calls));
    }
    for (kind, by_outcome) in KINDS.iter().zip(&totals.attempts) {
        for (outcome, attempts) in outcomes.iter().zip(by_outcome).filter(|(_, attempts)| attempts.count() > 0) {
            let labels = [("kind", *kind), *outcome];
            add("steadfast_attempt_duration_seconds", &labels, histogram(attempts));
        }
    }
    if totals.delays.count() > 0 {
        add("steadfast_retry_delay_seconds", &[], histogram(&totals.delays));
    }
    for ((_, reason), denied) in DENIALS.iter().zip(totals.denied) {
        add("steadfast_retries_denied_total", &[("reason", reason)], SampleValue::Counter(denied));
    }
    for ((mechanism, reason), counts) in REASONS.iter().zip(totals.rejected) {
        for (reached, count) in ["false", "true"].into_iter().zip(counts) {
            if reached == "true" && count == 0 {
                continue;
            }
            let labels = [("mechanism", *mechanism), ("reason", *reason), ("reached", reached)];
            add("steadfast_rejections_total", &labels, SampleValue::Counter(count));
        }
    }
}

/// Makes the sample of a reading. The value of the metric's first label is the name of the stack, unless the mechanism
/// sets that label itself.
fn of_reading(
    stack: &'static str,
    name: &'static str,
    mut labels: Vec<(&'static str, &'static str)>,
    number: Number,
) -> Sample {
    let info = METRICS.iter().find(|info| info.short_name() == name);
    let first = info.and_then(|info| info.labels.first()).copied().unwrap_or("stack");
    if labels.iter().all(|(label, _)| *label != first) {
        labels.insert(0, (first, stack));
    }
    let value = match number {
        Number::Count(count) => SampleValue::Counter(count),
        Number::Sum(value) | Number::Largest(value) => SampleValue::Gauge(value),
        Number::Durations(durations) => SampleValue::Histogram(durations),
    };
    // A reading of the user keeps its name.
    Sample { name: info.map_or(name, |info: &MetricInfo| info.name), labels, value }
}

/// Adds the malformed headers that this process has ignored.
#[cfg(feature = "http")]
fn of_headers(samples: &mut Vec<Sample>) {
    samples.extend(crate::http::ignored_headers().by_name().map(|(header, count)| Sample {
        name: "steadfast_hints_ignored_total",
        labels: vec![("header", header)],
        value: SampleValue::Counter(count),
    }));
}

/// The kind of a call or attempt in progress.
#[derive(Clone, Copy, Debug)]
pub struct Begun(BegunKind);

#[derive(Clone, Copy, Debug)]
#[repr(usize)]
enum BegunKind {
    Call,
    First,
    Retry,
}

impl Observer for Metrics {
    /// It only adds to counters.
    const IS_QUICK: bool = true;

    type Watch = Begun;

    fn watches(&mut self, stack: &'static str) {
        let tally = self.registry.tally(stack);
        self.stack = Some(ObservedStack { name: stack, tally, watch: Arc::default() });
    }

    fn instruments(&self, instruments: &[Arc<dyn Instrument>]) {
        if let Some(ObservedStack { name, watch, .. }) = &self.stack {
            watch.get_or_init(|| self.registry.watch(name, instruments));
        }
    }

    #[inline]
    fn begin(&self, begin: &Begin) -> Begun {
        Begun(match begin.observed() {
            Observed::Call => BegunKind::Call,
            Observed::Attempt if begin.context().attempt() == 0 => BegunKind::First,
            Observed::Attempt => BegunKind::Retry,
        })
    }

    #[inline]
    fn end(&self, Begun(begun): Begun, end: &End<'_>) {
        let Some(ObservedStack { tally, .. }) = &self.stack else { return };
        match begun {
            BegunKind::Call => tally.count_call(end),
            BegunKind::First => tally.count_attempt(false, end),
            BegunKind::Retry => tally.count_attempt(true, end),
        }
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stack = self.stack.as_ref().map(|stack| stack.name);
        f.debug_struct("Metrics").field("stack", &stack).field("names", &self.registry).finish()
    }
}

impl fmt::Debug for Watching {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watching").finish_non_exhaustive()
    }
}
