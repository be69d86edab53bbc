//! Writes the metrics to the recorder of the `metrics` crate.

use super::{
    metrics::{Metrics, Sample, SampleValue},
    table::{METRICS, MetricKind},
};
use crate::histogram::{COUNT, Histogram};
use metrics::{Key, Label, Level, Metadata, Recorder, Unit, with_recorder};
use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

/// Name and labels of a histogram.
type SeriesKey = (&'static str, Vec<(&'static str, &'static str)>);

/// For each histogram, the durations that recorders have received so far. Only one thread collects at a time.
#[derive(Default)]
pub(super) struct CollectedHistograms(Mutex<HashMap<SeriesKey, Histogram>>);

const METADATA: Metadata<'static> = Metadata::new("steadfast", Level::INFO, Some(module_path!()));

impl Metrics {
    /// Writes the current metrics to the installed recorder of the `metrics` crate, or to that of
    /// `metrics::with_local_recorder`. Call it in the scrape handler just before rendering, or every few seconds for an
    /// exporter that pushes.
    ///
    /// Install one recorder before the first collection. Each collection registers all metrics again, so counters and
    /// gauges would also be right in a recorder that is installed later. Counters carry their totals, so no earlier
    /// count is lost. A histogram carries only the durations since the last collection. In a later recorder, the
    /// histograms therefore lack the durations of earlier collections.
    ///
    /// If another thread is collecting, or the recorder itself calls this function, it returns at once and writes no
    /// values. A scrape that renders at once may then show some older numbers.
    ///
    /// # Cost
    ///
    /// The cost of [`samples`](Self::samples) and of the recorder. The `metrics` crate cannot add to a bucket. A bucket
    /// with n new durations is therefore recorded as n times their mean. Sums and means may be off by the latest few
    /// durations, and the next collection corrects them. A recorder that keeps each value takes some nanoseconds and
    /// bytes for each duration since the last collection.
    pub fn collect(&self) {
        with_recorder(|recorder| self.collect_to(recorder));
    }

    fn collect_to(&self, recorder: &dyn Recorder) {
        for info in METRICS {
            let (name, unit, help) = (info.name.into(), unit(info.name), info.help.into());
            match info.kind {
                MetricKind::Counter => recorder.describe_counter(name, Some(unit), help),
                MetricKind::Gauge => recorder.describe_gauge(name, Some(unit), help),
                MetricKind::Histogram => recorder.describe_histogram(name, Some(unit), help),
            }
        }
        // The recorder is user code, and may call `collect` itself. Waiting for the lock would then never end.
        let mut collected = match self.collected.0.try_lock() {
            Ok(collected) => collected,
            Err(std::sync::TryLockError::Poisoned(poisoned)) => PoisonError::into_inner(poisoned),
            Err(std::sync::TryLockError::WouldBlock) => return,
        };
        for Sample { name, labels, value } in self.samples() {
            let key = Key::from_parts(name, labels.iter().map(Label::from).collect::<Vec<_>>());
            match value {
                SampleValue::Counter(count) => recorder.register_counter(&key, &METADATA).absolute(count),
                SampleValue::Gauge(value) => recorder.register_gauge(&key, &METADATA).set(value),
                SampleValue::Histogram(all) => {
                    let histogram = recorder.register_histogram(&key, &METADATA);
                    let received = collected.entry((name, labels)).or_default();
                    for bucket in 0..COUNT {
                        if let Some((count, mean)) = received.follow(&all, bucket) {
                            histogram.record_many(mean, count as usize);
                        }
                    }
                }
            }
        }
    }
}

/// The unit of a metric, by its name.
fn unit(name: &str) -> Unit {
    if name.contains("_seconds") { Unit::Seconds } else { Unit::Count }
}
