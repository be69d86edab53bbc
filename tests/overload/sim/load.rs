//! The arrivals of calls.

use super::{assert_near, bare, class, ms, secs, seen};
use std::{cell::RefCell, future::ready, rc::Rc, time::Duration};
use steadfast::sim::{Backend, Call, Failure, Latency, Load, Reply, Report, Scenario};
use tower::service_fn;

const DAY: Duration = secs(24 * 60 * 60);

fn arrivals(load: Load, length: Duration) -> Report {
    bare(load, length, Backend::new(Latency::fixed(ms(1))))
}

/// Returns the arrival time of each call of a load.
pub(super) fn instants(load: Load, length: Duration) -> Vec<Duration> {
    let seen = Rc::new(RefCell::new(Vec::new()));
    let log = seen.clone();
    let report = Scenario::new(load).length(length).run(move |sim| {
        let clock = sim.clone();
        Ok(service_fn(move |_: Call| {
            log.borrow_mut().push(clock.elapsed());
            ready(Ok::<Reply, Failure>(Reply))
        }))
    });
    assert_eq!(report.unwrap().offered(), seen.borrow().len() as u64);
    seen.take()
}

/// Returns the calls of each span of time.
fn per_span(report: &Report) -> Vec<f64> {
    report.spans.iter().map(|span| span.offered as f64).collect()
}

fn mean(numbers: &[f64]) -> f64 {
    numbers.iter().sum::<f64>() / numbers.len() as f64
}

#[test]
fn a_constant_load_is_even() {
    let report = arrivals(Load::constant(100.0), secs(100));
    // The first call arrives after 10 ms. The 10,000th would arrive at the very end, and does not count.
    assert_eq!(report.offered(), 9_999);
    assert!(per_span(&report).iter().all(|calls| (99.0..=101.0).contains(calls)), "{report}");
}

#[test]
fn a_poisson_load_has_the_variance_of_its_distribution() {
    let report = arrivals(Load::poisson(1_000.0), secs(25));
    let spans = per_span(&report);
    let mean = mean(&spans);
    // Of 25,000 calls: the standard error is 0.6%.
    assert_near("the mean", mean, 250.0, 0.02);
    let squares: Vec<f64> = spans.iter().map(|calls| (calls - mean).powi(2)).collect();
    // Of 100 spans: the standard error of a variance is 14% of it.
    assert_near("the variance", super::load::mean(&squares), mean, 0.4);
}

#[test]
fn a_spike_a_ramp_and_a_step_bring_the_calls_of_their_rates() {
    let load = Load::constant(10.0).spike(secs(10), secs(20), 100.0).ramp(secs(30), secs(50), 10.0, 50.0);
    let report = arrivals(load.step(secs(80), 0.0), secs(100));
    let between = |from: f64, to: f64| -> u64 {
        let within = report.spans.iter().filter(|span| span.from >= from && span.to <= to);
        within.map(|span| span.offered).sum()
    };
    let expected = [(0.0, 10.0, 100), (10.0, 20.0, 1_000), (20.0, 30.0, 100), (30.0, 50.0, 600), (50.0, 80.0, 300)];
    for (from, to, calls) in expected {
        assert!(between(from, to).abs_diff(calls) <= 1, "{} calls from {from} to {to} s", between(from, to));
    }
    assert_eq!(between(80.0, 100.0), 0);
}

#[test]
fn a_later_segment_overrides_an_earlier_one() {
    let load = Load::constant(10.0).step(secs(0), 100.0).spike(secs(5), secs(10), 0.0);
    let report = arrivals(load, secs(10));
    assert!(report.offered().abs_diff(500) <= 1, "{report}");
}

#[test]
fn a_load_is_exact_to_the_nanosecond_after_most_of_a_year() {
    let late = 300 * DAY;
    let rare = Load::constant(0.0).step(late, 1_000.0);
    let expected: Vec<Duration> = (1..1_000).map(|call| late + ms(call)).collect();
    assert_eq!(instants(rare, late + secs(1)), expected);
}

#[test]
fn a_burst_of_a_call_per_nanosecond_ends_after_most_of_a_year() {
    let late = 364 * DAY;
    let rare = Load::constant(1e-6).spike(late, late + Duration::from_micros(1), 1e9);
    // Before the burst there is one call every eleven and a half days. When the burst begins, 0.45 of the next call is
    // due. The burst therefore completes that call early, and has 1,000 in all.
    assert_eq!(instants(rare, 365 * DAY).len(), 31 + 1_000);
}

#[test]
fn a_ramp_from_zero_brings_its_calls_at_the_times_of_its_integral() {
    let load = Load::constant(1.0).ramp(secs(1), secs(11), 0.0, 10.0);
    let instants = instants(load, secs(11));
    // The 51st call would arrive at the very end.
    assert_eq!(instants.len(), 50);
    assert_eq!(instants[0], secs(1));
    // After x seconds, x^2 / 2 calls.
    assert_eq!(instants[2], secs(3));
    assert_eq!(instants[8], secs(5));
}

#[test]
fn a_call_due_at_the_end_of_a_rate_waits_for_the_next_rate() {
    let load = Load::constant(10.0).spike(secs(1), secs(3), 0.0).step(secs(4), 0.0);
    let instants = instants(load, secs(5));
    assert_eq!(instants.len(), 9 + 10);
    assert_eq!(instants[8..11], [ms(900), secs(3), ms(3_100)]);
}

#[test]
fn callers_of_a_closed_load_wait_for_their_answers() {
    // The response time law: each of 20 callers makes a call every 0.1 + 0.4 s.
    let backend = Backend::new(Latency::fixed(ms(100)));
    let report = bare(Load::closed(20, ms(400)), secs(100), backend);
    assert_near("calls", report.offered() as f64, 20.0 * 100.0 / 0.5, 0.01);
    assert!(seen(&report).most_in_flight <= 20);
}

#[test]
fn callers_of_a_closed_load_cannot_overload_a_service() {
    // One server of 10 ms: it is always busy, and yet every call ends within 20 services.
    let backend = Backend::new(Latency::fixed(ms(10))).servers(1);
    let report = bare(Load::closed(20, Duration::ZERO).in_time(ms(201)), secs(100), backend);
    assert_near("calls", report.offered() as f64, 100.0 * 100.0, 0.01);
    assert_eq!(report.goodput(), 1.0);
}

#[test]
fn a_closed_load_ends_if_every_call_fails_at_once() {
    let dead = Backend::new(Latency::fixed(ms(10))).outage(secs(0)..secs(1));
    let report = bare(Load::closed(3, Duration::ZERO), secs(1), dead);
    assert_eq!(class(&report).failed, 3_000);
}

#[test]
fn a_closed_load_ends_if_calls_take_almost_no_time() {
    let prompt = Backend::new(Latency::fixed(Duration::from_nanos(1)));
    let report = bare(Load::closed(2, Duration::ZERO), ms(20), prompt);
    assert_eq!(report.offered(), 2 * 20);
    // The calls of one caller begin at least a millisecond apart. A thinking time that already keeps them apart is not
    // extended: here a call takes 1 ms, and the thinking another.
    let prompt = Backend::new(Latency::fixed(ms(1)));
    assert_eq!(bare(Load::closed(1, ms(1)), ms(20), prompt).offered(), 10);
}

#[test]
fn all_keys_are_equally_frequent() {
    let backend = Backend::new(Latency::fixed(ms(1))).dead_keys(0..2);
    let report = bare(Load::poisson(1_000.0).keys(5), secs(20), backend);
    // Of 20,000 calls: the standard error is 0.9%.
    assert_near("the share of dead keys", class(&report).failed as f64 / report.offered() as f64, 0.4, 0.025);
}
