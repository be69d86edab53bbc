//! Counts the calls during a run.

use super::{BackendCounts, ClassReport, Failure, Latencies, Load, Reply, Report, Span, recovery::Disturbed};
use crate::clock::Nanos;
use crate::error::Error;
use hdrhistogram::Histogram;
use std::{collections::BTreeMap, ops::Range, time::Duration};

/// The number of time spans in a report, for a run of any length.
const SPANS: u64 = 100;

/// Counts the calls that arrive after the warm-up.
#[derive(Default)]
pub(super) struct Ledger {
    /// From the end of the warm-up to the end of the run.
    counted: Range<Duration>,
    classes: Vec<Class>,
}

/// The counts of one class, and the latencies of its calls: one distribution each for answered, failed and rejected
/// calls.
#[derive(Default)]
struct Class {
    report: ClassReport,
    answered: Sketch,
    failed: Sketch,
    rejected: Sketch,
}

/// The results of a run that the ledger does not count itself.
pub(super) struct Run {
    pub(super) seed: u64,
    pub(super) disturbed: Option<Disturbed>,
    pub(super) backends: Vec<BackendCounts>,
    pub(super) most_tasks: u64,
    pub(super) held: BTreeMap<String, u64>,
}

impl Ledger {
    pub(super) fn new(loads: &[Load], counted: Range<Duration>) -> Self {
        let class = |load: &Load| {
            let report = ClassReport { name: load.name.clone(), spans: spans(&counted), ..ClassReport::default() };
            Class { report, ..Class::default() }
        };
        Self { classes: loads.iter().map(class).collect(), counted }
    }

    /// Counts the arrival of a call at `begin`.
    pub(super) fn offered(&mut self, class: usize, begin: Duration) {
        if let Some((class, span)) = self.entry(class, begin) {
            class.report.offered += 1;
            if let Some(span) = class.report.spans.get_mut(span) {
                span.offered += 1;
            }
        }
    }

    /// Counts the end of a call, in the span in which the call arrived. An answer that took longer than `limit` is
    /// late.
    pub(super) fn ended(
        &mut self,
        class: usize,
        begin: Duration,
        end: Duration,
        limit: Duration,
        result: &Result<Reply, Error<Failure>>,
    ) {
        let latency = end.saturating_sub(begin);
        let Some((class, span)) = self.entry(class, begin) else { return };
        let Class { report, answered, failed, rejected } = class;
        match result {
            Ok(Reply) => {
                answered.record(latency);
                if latency > limit {
                    report.late += 1;
                } else {
                    report.in_time += 1;
                    if let Some(span) = report.spans.get_mut(span) {
                        span.in_time += 1;
                    }
                }
            }
            Err(Error::Service(_)) => {
                failed.record(latency);
                report.failed += 1;
            }
            Err(Error::Rejected(rejection)) => {
                rejected.record(latency);
                *report.rejected.entry(rejection.mechanism()).or_default() += 1;
            }
        }
    }

    /// Returns the class of a call, and the span in which it arrived: the last span that does not begin after the call.
    /// Calls and the edges of spans are compared in whole nanoseconds. `None` for a call of the warm-up.
    fn entry(&mut self, class: usize, begin: Duration) -> Option<(&mut Class, usize)> {
        let since = whole_nanos(begin.checked_sub(self.counted.start)?);
        // Span i begins at i * length / SPANS, rounded down. That is at most `since` exactly if
        // i * length <= SPANS * (since + 1) - 1. Times are at most 366 days, so the product cannot overflow.
        let index = (SPANS * (since + 1) - 1) / whole_nanos(self.counted.end - self.counted.start).max(1);
        Some((self.classes.get_mut(class)?, index.min(SPANS - 1) as usize))
    }

    pub(super) fn report(self, run: Run) -> Report {
        let Run { seed, disturbed, backends, most_tasks, held } = run;
        let mut all = spans(&self.counted);
        let finish = |class: Class| {
            let Class { mut report, answered, failed, rejected } = class;
            let ended = report.in_time + report.late + report.failed + report.rejected.values().sum::<u64>();
            report.unanswered = report.offered - ended;
            report.latency = answered.latencies();
            report.latency_of_failed = failed.latencies();
            report.latency_of_rejected = rejected.latencies();
            report.disturbed = disturbed;
            for (all, span) in all.iter_mut().zip(&report.spans) {
                all.offered += span.offered;
                all.in_time += span.in_time;
            }
            report
        };
        let classes = self.classes.into_iter().map(finish).collect();
        Report {
            seed,
            classes,
            spans: all,
            backends,
            disturbed_from: disturbed.map(|disturbed| disturbed.from),
            calm_from: disturbed.map(|disturbed| disturbed.to),
            most_tasks,
            held,
        }
    }
}

/// The distribution of a latency.
struct Sketch(Option<Histogram<u64>>);

impl Default for Sketch {
    fn default() -> Self {
        // A histogram supports three digits, so this is always `Some`.
        Self(Histogram::new(3).ok())
    }
}

impl Sketch {
    fn record(&mut self, latency: Duration) {
        if let Some(histogram) = &mut self.0 {
            // `record` enlarges the histogram as needed. `saturating_record` would cap the latency instead.
            let _ = histogram.record(whole_nanos(latency));
        }
    }

    fn latencies(&self) -> Option<Latencies> {
        let histogram = self.0.as_ref().filter(|histogram| !histogram.is_empty())?;
        let seconds = |nanos: f64| nanos / 1e9;
        let quantile = |quantile| seconds(histogram.value_at_quantile(quantile) as f64);
        Some(Latencies {
            mean: seconds(histogram.mean()),
            p50: quantile(0.5),
            p90: quantile(0.9),
            p99: quantile(0.99),
            p999: quantile(0.999),
            max: seconds(histogram.max() as f64),
        })
    }
}

/// Returns the empty spans of a run.
fn spans(counted: &Range<Duration>) -> Vec<Span> {
    let length = whole_nanos(counted.end - counted.start);
    let edge = |span: u64| (counted.start + Duration::from_nanos(span * length / SPANS)).as_secs_f64();
    (0..SPANS).map(|span| Span { from: edge(span), to: edge(span + 1), ..Span::default() }).collect()
}

fn whole_nanos(time: Duration) -> u64 {
    Nanos::of(time).0
}
