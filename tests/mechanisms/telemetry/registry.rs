//! Instruments that panic or change the registry while they are read, and stacks that are built and dropped.

use super::{count, gauge};
use metrics::{
    Counter, Gauge, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder, SharedString, Unit, with_local_recorder,
};
use std::{
    collections::VecDeque,
    mem,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::Duration,
};
use steadfast::{
    circuit_breaker::Breaker,
    load_shed::Limiter,
    shell::{Instrument, Observer, Reading, Readings},
    telemetry::{Metrics, SampleValue, Spans},
};
use tokio::time::Instant;

type Hook = Box<dyn FnOnce() + Send>;

/// A counter that runs functions while it is read.
#[derive(Default)]
struct Inside {
    count: AtomicU64,
    /// Each runs in one reading, before the count is read.
    before: Mutex<VecDeque<Hook>>,
    /// Each runs in one reading, after the count is read.
    after: Mutex<VecDeque<Hook>>,
    /// Each runs in one call of `address`.
    at_address: Mutex<VecDeque<Hook>>,
}

#[derive(Clone, Default)]
struct Own(Arc<Inside>);

impl Own {
    fn set(&self, count: u64) {
        self.0.count.store(count, Relaxed);
    }

    fn before(&self, hook: impl FnOnce() + Send + 'static) {
        self.0.before.lock().unwrap().push_back(Box::new(hook));
    }

    fn after(&self, hook: impl FnOnce() + Send + 'static) {
        self.0.after.lock().unwrap().push_back(Box::new(hook));
    }

    fn at_address(&self, hook: impl FnOnce() + Send + 'static) {
        self.0.at_address.lock().unwrap().push_back(Box::new(hook));
    }
}

fn run(hooks: &Mutex<VecDeque<Hook>>) {
    let hook = hooks.lock().unwrap().pop_front();
    hook.into_iter().for_each(|hook| hook());
}

impl Instrument for Own {
    fn read(&self, _now: Instant, readings: &mut Readings<'_>) {
        run(&self.0.before);
        let count = self.0.count.load(Relaxed);
        run(&self.0.after);
        readings.add(Reading::count("own_total", count));
    }

    fn address(&self) -> Option<usize> {
        run(&self.0.at_address);
        Some(Arc::as_ptr(&self.0) as usize)
    }
}

/// Reads the metric of the test's instrument.
fn own_total(metrics: &Metrics) -> u64 {
    let samples = metrics.samples();
    let own = samples.iter().find(|sample| sample.name == "own_total").map(|sample| sample.value.clone());
    match own {
        Some(SampleValue::Counter(count)) => count,
        other => panic!("{other:?}"),
    }
}

#[test]
fn no_count_falls_when_an_instrument_counts_and_is_dropped_during_a_reading() {
    let (metrics, own) = (Metrics::new(), Own::default());
    let watching = metrics.watch("own", own.clone());
    own.set(10);
    let inner = own.clone();
    own.before(move || {
        drop(watching);
        inner.set(15);
    });
    let seen = own_total(&metrics);
    assert!(own_total(&metrics) >= seen, "{} after {seen}", own_total(&metrics));
}

#[test]
fn no_count_falls_when_an_instrument_counts_and_is_read_during_its_removal() {
    let (metrics, own) = (Metrics::new(), Own::default());
    let watching = metrics.watch("own", own.clone());
    own.set(10);
    let (inner, by) = (own.clone(), metrics.clone());
    own.after(move || {
        inner.set(11);
        assert_eq!(own_total(&by), 11);
    });
    drop(watching);
    assert_eq!(own_total(&metrics), 11);
}

#[test]
fn nothing_counts_twice_when_an_instrument_is_watched_again_during_its_removal() {
    let (metrics, own) = (Metrics::new(), Own::default());
    let first = metrics.watch("own", own.clone());
    own.set(10);
    let inner = own.clone();
    own.after(move || {
        inner.set(15);
        drop(first);
    });
    let second = metrics.watch("own", own.clone());
    metrics.samples();
    assert_eq!(own_total(&metrics), 15);
    drop(second);
    assert_eq!(own_total(&metrics), 15);
}

/// Panics in each reading.
struct Panics;

impl Instrument for Panics {
    fn read(&self, _now: Instant, readings: &mut Readings<'_>) {
        readings.add(Reading::count("panics_total", 1));
        panic!("the instrument fails");
    }

    fn address(&self) -> Option<usize> {
        panic!("the address fails");
    }
}

#[test]
fn an_instrument_that_panics_affects_no_other_and_no_drop_of_a_stack() {
    let metrics = Metrics::new();
    let mut stack = metrics.clone();
    stack.watches("own");
    stack.instruments(&[Arc::new(Panics), Arc::new(Limiter::fixed(3).unwrap())]);
    assert_eq!(gauge(&metrics, "in_flight_limit", &[("stack", "own")]), 3.0);
    drop(stack);
    assert_eq!(gauge(&metrics, "in_flight_limit", &[("stack", "own")]), 0.0);
}

#[test]
fn a_count_keeps_its_value_while_its_instrument_panics() {
    let (metrics, own) = (Metrics::new(), Own::default());
    let _watching = metrics.watch("own", own.clone());
    own.set(10);
    assert_eq!(own_total(&metrics), 10);
    own.before(|| panic!("the instrument fails"));
    assert_eq!(own_total(&metrics), 10);
    own.set(3);
    assert_eq!(own_total(&metrics), 10);
    own.set(12);
    assert_eq!(own_total(&metrics), 12);
}

#[test]
fn the_address_of_an_instrument_is_read_under_no_lock() {
    let (metrics, own) = (Metrics::new(), Own::default());
    let first = metrics.watch("own", own.clone());
    for _ in 0..4 {
        let by = metrics.clone();
        own.at_address(move || drop(by.samples()));
    }
    drop(metrics.watch("own", own.clone()));
    drop(first);
    assert_eq!(own_total(&metrics), 0);
}

/// Reports this number of durations. Gives them the `stack` label `both`, whatever the name of the watch is.
struct Durations(usize);

impl Instrument for Durations {
    fn read(&self, _now: Instant, readings: &mut Readings<'_>) {
        let mut durations = steadfast::telemetry::Histogram::default();
        (0..self.0).for_each(|_| durations.record(Duration::from_millis(3)));
        readings.add(Reading::durations("own_seconds", durations).label("stack", "both"));
    }
}

/// Counts the values that histograms record.
#[derive(Default)]
struct Sum(AtomicU64);

impl HistogramFn for Sum {
    fn record(&self, _value: f64) {
        self.0.fetch_add(1, Relaxed);
    }

    fn record_many(&self, _value: f64, count: usize) {
        self.0.fetch_add(count as u64, Relaxed);
    }
}

#[derive(Default)]
struct Sums(Arc<Sum>);

impl Recorder for Sums {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, _: &Key, _: &Metadata<'_>) -> Counter {
        Counter::noop()
    }

    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::noop()
    }

    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::from_arc(self.0.clone())
    }
}

#[test]
fn two_instruments_that_report_one_series_never_exceed_the_larger_of_them() {
    let (metrics, sums) = (Metrics::new(), Sums::default());
    // The counts at the beginning of a watch are subtracted, so both instruments get their durations afterwards.
    let mut by_name = [("a", 5), ("b", 3)].map(|(name, durations)| (name, Durations(0), Durations(durations)));
    let grown: Vec<_> = by_name
        .iter_mut()
        .map(|(name, none, some)| {
            let (grows, by) = (Arc::new(AtomicBool::new(false)), mem::replace(none, Durations(0)));
            let some = mem::replace(some, Durations(0));
            (metrics.watch(name, Grows(grows.clone(), by, some)), grows)
        })
        .collect();
    grown.iter().for_each(|(_, grows)| grows.store(true, Relaxed));
    (0..3).for_each(|_| with_local_recorder(&sums, || metrics.collect()));
    assert_eq!(sums.0.0.load(Relaxed), 5);
}

/// Reports the first durations until the flag is set, and the second durations from then on.
struct Grows(Arc<AtomicBool>, Durations, Durations);

impl Instrument for Grows {
    fn read(&self, now: Instant, readings: &mut Readings<'_>) {
        if self.0.load(Relaxed) { self.2.read(now, readings) } else { self.1.read(now, readings) }
    }
}

#[test]
fn threads_that_build_drop_change_and_scrape_stacks_lose_and_double_no_count() {
    let (metrics, breaker) = (Metrics::new(), Breaker::builder().build().unwrap());
    let ended = AtomicBool::new(false);
    let stack = || {
        let client = steadfast::client().observe("payments", (metrics.clone(), Spans::new()));
        client.circuit_breaker(breaker.clone()).layer().unwrap()
    };
    let kept = stack();
    let forced = AtomicU64::new(0);
    thread::scope(|scope| {
        let builds = || (0..3000).for_each(|_| drop(stack()));
        let builders = [scope.spawn(builds), scope.spawn(builds)];
        let forces = scope.spawn(|| {
            for _ in 0..3000 {
                forced.fetch_add(1, Relaxed);
                breaker.force_open();
                breaker.reset();
            }
        });
        let scrapes = || {
            let mut last = 0;
            while !ended.load(Relaxed) {
                let now = count(&metrics, "circuit_transitions_total", &[("to", "forced_open")]);
                assert!(now >= last, "{now} after {last}");
                assert!(now <= forced.load(Relaxed), "{now}");
                last = now;
            }
        };
        let scrapers = [scope.spawn(scrapes), scope.spawn(scrapes)];
        builders.into_iter().chain([forces]).for_each(|thread| thread.join().unwrap());
        ended.store(true, Relaxed);
        scrapers.into_iter().for_each(|thread| thread.join().unwrap());
    });
    assert_eq!(count(&metrics, "circuit_transitions_total", &[("to", "forced_open")]), 3000);
    drop(kept);
    assert_eq!(count(&metrics, "circuit_transitions_total", &[("to", "forced_open")]), 3000);
}

#[test]
fn no_count_falls_when_threads_rebuild_the_only_stack() {
    let (metrics, breaker) = (Metrics::new(), Breaker::builder().build().unwrap());
    let ended = AtomicBool::new(false);
    let stack = || {
        let client = steadfast::client().observe("payments", metrics.clone());
        client.circuit_breaker(breaker.clone()).layer().unwrap()
    };
    drop(stack());
    thread::scope(|scope| {
        let builders = [0, 1].map(|_| scope.spawn(|| (0..3000).for_each(|_| drop(stack()))));
        let forces = scope.spawn(|| {
            (0..3000).for_each(|_| {
                breaker.force_open();
                breaker.reset();
            });
        });
        let scraper = scope.spawn(|| {
            let mut last = 0;
            while !ended.load(Relaxed) {
                let now = count(&metrics, "circuit_transitions_total", &[("to", "forced_open")]);
                assert!((last..=3000).contains(&now), "{now} after {last}");
                last = now;
            }
        });
        builders.into_iter().chain([forces]).for_each(|thread| thread.join().unwrap());
        ended.store(true, Relaxed);
        scraper.join().unwrap();
    });
}
