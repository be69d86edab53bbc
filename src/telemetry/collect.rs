//! The metrics, on their way to the recorder of the `metrics` crate.

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

/// The series of a histogram.
type SeriesKey = (&'static str, Vec<(&'static str, &'static str)>);

/// The part of each histogram that recorders have got so far. Only one thread collects at a time.
#[derive(Default)]
pub(super) struct CollectedHistograms(Mutex<HashMap<SeriesKey, Histogram>>);

const METADATA: Metadata<'static> = Metadata::new("steadfast", Level::INFO, Some(module_path!()));

impl Metrics {
    /// Gives all metrics, as of now, to the installed recorder of the `metrics` crate, or to that of
    /// `metrics::with_local_recorder`. Call it where the metrics are scraped, just before they are rendered, or every
    /// few seconds for an exporter that pushes.
    ///
    /// A recorder may be installed at any time: handles are made by each call. Counters come with their totals, so
    /// nothing of what was counted before is lost. Of a histogram a recorder gets what has come since the last call.
    /// So all goes to one recorder: what is collected before it is installed is lost to its histograms.
    ///
    /// While one thread collects, a second call returns at once, and its scrape may show a part of the older numbers.
    ///
    /// # Cost
    ///
    /// That of [`samples`](Self::samples), and what the recorder does. The `metrics` crate has no way to add to a
    /// bucket, so each duration is recorded by itself, as the mean of those in its bucket. Sums and means stay exact. A
    /// recorder that keeps each value takes some nanoseconds, and some bytes, for each call since the last time.
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
        // A recorder is the user's, and may collect itself.
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
                    let told = collected.entry((name, labels)).or_default();
                    for bucket in 0..COUNT {
                        if let Some((count, mean)) = told.follow(&all, bucket) {
                            histogram.record_many(mean, count as usize);
                        }
                    }
                }
            }
        }
    }
}

/// The unit, which the end of the name says.
fn unit(name: &str) -> Unit {
    if name.contains("_seconds") { Unit::Seconds } else { Unit::Count }
}
