//! Metrics, spans and events of stacks.

#[cfg(feature = "tracing")]
mod collector;
mod delivery;
mod events;
mod instrument;
#[cfg(feature = "tracing")]
mod log;
#[cfg(feature = "metrics")]
mod metrics;
#[cfg(feature = "metrics")]
mod promql;
#[cfg(feature = "metrics")]
mod queries;
#[cfg(all(feature = "metrics", feature = "tracing"))]
mod registry;
#[cfg(feature = "tracing")]
mod spans;
#[cfg(feature = "tracing")]
mod spans_panics;

#[cfg(feature = "metrics")]
use steadfast::telemetry::{Metrics, SampleValue};

/// The value of the only sample with the name `steadfast_{name}` and these labels. Panics if there is no such sample,
/// or more than one.
#[cfg(feature = "metrics")]
fn sample(metrics: &Metrics, name: &str, labels: &[(&str, &str)]) -> SampleValue {
    let samples = metrics.samples();
    let mut found = samples.iter().filter(|sample| {
        sample.name == format!("steadfast_{name}") && labels.iter().all(|label| sample.labels.contains(label))
    });
    match (found.next(), found.next()) {
        (Some(sample), None) => sample.value.clone(),
        found => panic!("{name} {labels:?}: {found:?}"),
    }
}

#[cfg(feature = "metrics")]
fn count(metrics: &Metrics, name: &str, labels: &[(&str, &str)]) -> u64 {
    match sample(metrics, name, labels) {
        SampleValue::Counter(count) => count,
        SampleValue::Histogram(histogram) => histogram.count(),
        other => panic!("{name} {labels:?}: {other:?}"),
    }
}

#[cfg(feature = "metrics")]
fn gauge(metrics: &Metrics, name: &str, labels: &[(&str, &str)]) -> f64 {
    match sample(metrics, name, labels) {
        SampleValue::Gauge(value) => value,
        other => panic!("{name} {labels:?}: {other:?}"),
    }
}
