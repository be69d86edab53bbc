use super::{BackendCounts, Failure, Load, Reply};
use crate::Error;
use hdrhistogram::Histogram;
use std::{collections::BTreeMap, fmt, time::Duration};

/// The report is cut into so many spans of time, whatever the length of the run.
const SPANS: usize = 100;

/// What became of the load.
///
/// `Display` prints it as a table; with the `serde` feature it serializes.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Report {
    /// The seed of the run.
    pub seed: u64,
    /// The classes, in the order of their loads.
    pub classes: Vec<ClassReport>,
    /// The run in equal spans of time, by the instant of arrival.
    pub spans: Vec<Span>,
    /// The backends, in the order in which they were made.
    pub backends: Vec<BackendCounts>,
    /// When the last change of load and the last disturbance of a backend were over, in seconds.
    pub calm_from: f64,
    /// The most tasks that were alive at once.
    pub most_tasks: u64,
}

/// What became of the calls of one class.
#[derive(Clone, Debug, Default, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct ClassReport {
    /// The name of the load.
    pub name: String,
    /// Calls that arrived.
    pub offered: u64,
    /// Calls that were answered in time.
    pub in_time: u64,
    /// Calls that were answered when it was too late.
    pub late: u64,
    /// Calls that ended with a failure of a backend.
    pub failed: u64,
    /// Calls that ended with a rejection, by mechanism.
    pub rejected: BTreeMap<&'static str, u64>,
    /// Calls that had not ended when the run was over.
    pub unanswered: u64,
    /// The latency of the answers, late ones included, in seconds.
    pub latency: Latencies,
}

/// Quantiles of a latency, in seconds. Exact to a thousandth.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Latencies {
    /// The mean.
    pub mean: f64,
    /// The median.
    pub p50: f64,
    /// The 90th percentile.
    pub p90: f64,
    /// The 99th percentile.
    pub p99: f64,
    /// The 99.9th percentile.
    pub p999: f64,
    /// The longest.
    pub max: f64,
}

/// Calls that arrived in one span of time, and how many of them were answered in time.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Span {
    /// Its begin, in seconds.
    pub from: f64,
    /// Its end, in seconds.
    pub to: f64,
    /// Calls that arrived in it.
    pub offered: u64,
    /// Those of them that were answered in time.
    pub in_time: u64,
}

impl Report {
    /// Calls that arrived.
    pub fn offered(&self) -> u64 {
        self.classes.iter().map(|class| class.offered).sum()
    }

    /// The share of the calls that were answered in time, from 0 to 1.
    pub fn goodput(&self) -> f64 {
        ratio(self.classes.iter().map(|class| class.in_time).sum(), self.offered())
    }

    /// The share of the calls that ended with a rejection by this mechanism: `"timeout"`, `"load_shed"`, ..
    pub fn rejected(&self, mechanism: &str) -> f64 {
        let rejected = self.classes.iter().filter_map(|class| class.rejected.get(mechanism)).sum();
        ratio(rejected, self.offered())
    }

    /// The calls that arrived at backends, per call that was made.
    pub fn amplification(&self) -> f64 {
        ratio(self.backends.iter().map(|backend| backend.received).sum(), self.offered())
    }

    /// Of the calls that arrived from `from` to `to`, in whole spans, the share that was answered in time.
    pub fn goodput_between(&self, from: Duration, to: Duration) -> f64 {
        let (from, to) = (from.as_secs_f64(), to.as_secs_f64());
        let within = self.spans.iter().filter(|span| span.from >= from && span.to <= to);
        let (in_time, offered) = within.fold((0, 0), |(good, all), span| (good + span.in_time, all + span.offered));
        ratio(in_time, offered)
    }

    /// How long after the last disturbance goodput was back at 95% of the load, for good: `None` if it never was.
    ///
    /// Exact to a span.
    pub fn recovery(&self) -> Option<Duration> {
        let good = |span: &&Span| span.in_time as f64 >= 0.95 * span.offered as f64;
        let after: Vec<&Span> = self.spans.iter().filter(|span| span.to > self.calm_from).collect();
        let good_to_the_end = after.iter().rev().take_while(|span| good(span)).last()?;
        Some(Duration::from_secs_f64((good_to_the_end.from - self.calm_from).max(0.0)))
    }

    /// Fails the test unless at least this share of the calls was answered in time.
    ///
    /// # Panics
    ///
    /// If it was less, with the report.
    #[track_caller]
    pub fn assert_goodput_at_least(&self, share: f64) {
        let goodput = self.goodput();
        assert!(goodput >= share, "goodput is {goodput:.4}, wanted at least {share}\n{self}");
    }

    /// Fails the test if more calls arrived at the backends, per call made.
    ///
    /// # Panics
    ///
    /// If they did, with the report.
    #[track_caller]
    pub fn assert_amplification_at_most(&self, factor: f64) {
        let amplification = self.amplification();
        assert!(amplification <= factor, "amplification is {amplification:.4}, wanted at most {factor}\n{self}");
    }

    /// Fails the test unless goodput was back within this time after the last disturbance.
    ///
    /// # Panics
    ///
    /// If it was not, with the report.
    #[track_caller]
    pub fn assert_recovers_within(&self, limit: Duration) {
        match self.recovery() {
            Some(time) => assert!(time <= limit, "it took {time:?} to recover, wanted at most {limit:?}\n{self}"),
            None => panic!("it never recovered, wanted {limit:?} at most\n{self}"),
        }
    }

    /// Fails the test if a mechanism rejected more than this share of the calls.
    ///
    /// # Panics
    ///
    /// If it did, with the report.
    #[track_caller]
    pub fn assert_rejected_at_most(&self, mechanism: &str, share: f64) {
        let rejected = self.rejected(mechanism);
        assert!(rejected <= share, "{mechanism} rejected {rejected:.4}, wanted at most {share}\n{self}");
    }
}

fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let head = ["class", "offered", "in time", "late", "failed", "rejected", "unanswered", "p50 ms", "p99 ms"];
        writeln!(f, "{:<12}{}", head[0], head[1..].iter().map(|name| format!("{name:>11}")).collect::<String>())?;
        for class in &self.classes {
            let rejected: u64 = class.rejected.values().sum();
            let counts = [class.offered, class.in_time, class.late, class.failed, rejected, class.unanswered];
            write!(f, "{:<12}{}", class.name, counts.map(|count| format!("{count:>11}")).concat())?;
            writeln!(f, "{:>11.1}{:>11.1}", class.latency.p50 * 1e3, class.latency.p99 * 1e3)?;
            for (mechanism, count) in &class.rejected {
                writeln!(f, "  rejected by {mechanism}: {count}")?;
            }
        }
        for backend in &self.backends {
            let BackendCounts { name, received, answered, wasted, abandoned, most_in_flight, .. } = backend;
            write!(f, "{name}: {received} received, {answered} answered, {wasted} wasted, ")?;
            writeln!(f, "{abandoned} abandoned, {most_in_flight} at once")?;
        }
        write!(f, "goodput {:.4}, {:.3} attempts per call", self.goodput(), self.amplification())?;
        match self.recovery() {
            Some(time) => writeln!(f, ", recovered {time:?} after the last disturbance"),
            None => writeln!(f, ", never recovered"),
        }
    }
}

/// Keeps the count while a run goes on.
#[derive(Default)]
pub(super) struct Ledger {
    length: f64,
    classes: Vec<(ClassReport, Option<Histogram<u64>>)>,
    spans: Vec<Span>,
}

impl Ledger {
    pub(super) fn new(loads: &[Load], length: Duration) -> Self {
        let length = length.as_secs_f64();
        let class = |load: &Load| {
            let report = ClassReport { name: load.name.clone(), ..ClassReport::default() };
            // Three digits are within what a histogram can do, so it is always there.
            (report, Histogram::new(3).ok())
        };
        let edge = |span: usize| length * span as f64 / SPANS as f64;
        let span = |span: usize| Span { from: edge(span), to: edge(span + 1), ..Span::default() };
        Self { length, classes: loads.iter().map(class).collect(), spans: (0..SPANS).map(span).collect() }
    }

    pub(super) fn offered(&mut self, class: usize, begin: Duration) {
        if let Some((class, _)) = self.classes.get_mut(class) {
            class.offered += 1;
        }
        if let Some(span) = self.span(begin) {
            span.offered += 1;
        }
    }

    pub(super) fn ended(
        &mut self,
        class: usize,
        begin: Duration,
        end: Duration,
        limit: Duration,
        result: &Result<Reply, Error<Failure>>,
    ) {
        let latency = end.saturating_sub(begin);
        let in_time = result.is_ok() && latency <= limit;
        if let Some((class, histogram)) = self.classes.get_mut(class) {
            match result {
                Ok(Reply) => {
                    *(if in_time { &mut class.in_time } else { &mut class.late }) += 1;
                    if let Some(histogram) = histogram {
                        // Grows as needed: a saturating record would not.
                        let _ = histogram.record(u64::try_from(latency.as_micros()).unwrap_or(u64::MAX));
                    }
                }
                Err(Error::Service(_)) => class.failed += 1,
                Err(Error::Rejected(rejection)) => *class.rejected.entry(rejection.mechanism()).or_default() += 1,
            }
        }
        if in_time {
            if let Some(span) = self.span(begin) {
                span.in_time += 1;
            }
        }
    }

    fn span(&mut self, at: Duration) -> Option<&mut Span> {
        let index = (at.as_secs_f64() / self.length * SPANS as f64) as usize;
        self.spans.get_mut(index.min(SPANS - 1))
    }

    pub(super) fn report(self, seed: u64, calm_from: f64, backends: Vec<BackendCounts>, most_tasks: u64) -> Report {
        let finish = |(mut class, histogram): (ClassReport, Option<Histogram<u64>>)| {
            let ended = class.in_time + class.late + class.failed + class.rejected.values().sum::<u64>();
            class.unanswered = class.offered - ended;
            if let Some(histogram) = histogram {
                let quantile = |quantile| histogram.value_at_quantile(quantile) as f64 / 1e6;
                class.latency = Latencies {
                    mean: histogram.mean() / 1e6,
                    p50: quantile(0.5),
                    p90: quantile(0.9),
                    p99: quantile(0.99),
                    p999: quantile(0.999),
                    max: histogram.max() as f64 / 1e6,
                };
            }
            class
        };
        let classes = self.classes.into_iter().map(finish).collect();
        Report { seed, classes, spans: self.spans, backends, calm_from, most_tasks }
    }
}
