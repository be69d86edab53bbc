//! Systems with known formulas, beyond the queues of `queueing`.
//!
//! Each result for a queue is a mean over eight runs with fixed seeds. Its tolerance is at least about three standard
//! errors of that mean. The standard errors were measured with 150 runs of each test. The means of those 150 runs were
//! within 0.8% of every formula.

mod networks;
mod queues;
mod sums;

use super::{assert_near, latency, ms, secs, seen};
use std::time::Duration;
use steadfast::{
    ConfigError, Error,
    sim::{Backend, Call, Estimate, Failure, Latency, Load, Reply, Report, Reports, Scenario, Sim},
};
use tower::Service;

const SERVICE: Duration = ms(1);
/// The capacity of one server, in calls per second.
const MU: f64 = 1_000.0;
const WARM_UP: Duration = ms(200);

/// Returns a scenario with a load of this rate. Eight runs of it have about this many calls in all.
fn open(calls: f64, rps: f64) -> Scenario {
    let length = Duration::from_secs_f64(calls / 8.0 / rps);
    Scenario::new(Load::poisson(rps).in_time(secs(100))).length(WARM_UP + length).warm_up(WARM_UP)
}

fn exponential(servers: usize) -> Backend {
    Backend::new(Latency::exponential(SERVICE)).servers(servers)
}

/// Eight runs of a scenario.
fn runs<S>(scenario: Scenario, build: impl Fn(&Sim) -> Result<S, ConfigError> + Sync) -> Reports
where
    S: Service<Call, Response = Reply> + Clone + 'static,
    S::Error: Into<Error<Failure>>,
{
    scenario.seeds(1..=8).run(build).unwrap()
}

/// Eight runs of a scenario straight into a backend.
fn bare(scenario: Scenario, backend: &Backend) -> Reports {
    runs(scenario, |sim| Ok(sim.backend(backend.clone())))
}

/// Fails unless the mean of a number over all runs is within this share of the formula.
///
/// Also fails if the runs are too short for the tolerance: the half width of their 95% interval is above 1.5
/// tolerances. For eight runs, that half width is 2.4 standard errors, and they estimate it to about a third.
#[track_caller]
fn agree(what: &str, reports: &Reports, formula: f64, tolerance: f64, number: impl Fn(&Report) -> f64) {
    let Estimate { mean, half_width, .. } = reports.estimate(number);
    let (off, chance) = (100.0 * (mean / formula - 1.0), 100.0 * half_width / formula);
    println!(
        "{what}: {formula:.6} by the formula, got {mean:.6}: {off:+.2}% ± {chance:.2}%, tolerance {}%",
        100.0 * tolerance
    );
    assert_near(what, mean, formula, tolerance);
    assert!(
        half_width <= 1.5 * tolerance * formula,
        "{what} is {mean} ± {half_width}: the runs are too short for that"
    );
}

/// Fails unless these numbers can be a sample of this distribution, by the Kolmogorov-Smirnov test. A true sample fails
/// the test once in a thousand times.
#[track_caller]
fn assert_sample_of(what: &str, mut numbers: Vec<f64>, below: impl Fn(f64) -> f64) {
    numbers.sort_by(f64::total_cmp);
    let count = numbers.len() as f64;
    let steps = numbers.iter().enumerate().map(|(index, number)| {
        let (share, index) = (below(*number), index as f64);
        (share - index / count).max((index + 1.0) / count - share)
    });
    let distance = steps.fold(0.0, f64::max) * count.sqrt();
    println!("{what}: {count} numbers, distance {distance:.3} of 1.95");
    assert!(count > 1_000.0 && distance < 1.95, "{what}: the distance of {count} numbers is {distance}");
}

fn mean_busy(report: &Report) -> f64 {
    seen(report).mean_busy
}

fn mean_waiting(report: &Report) -> f64 {
    seen(report).mean_waiting
}

/// The number of calls in the only backend, as an average over time.
fn mean_number(report: &Report) -> f64 {
    mean_busy(report) + mean_waiting(report)
}

fn utilization(report: &Report) -> f64 {
    seen(report).utilization.unwrap()
}

fn mean_latency(report: &Report) -> f64 {
    latency(report).mean
}

fn share(part: u64, whole: u64) -> f64 {
    part as f64 / whole as f64
}
