//! The simulator: its results for systems with a known answer, and its errors for invalid scenarios.

mod backend;
mod bad_input;
mod book_keeping;
mod classes;
mod closed_forms;
mod link;
mod load;
mod queueing;
mod report;
mod world;

use std::time::Duration;
use steadfast::{
    ConfigError,
    sim::{Backend, BackendCounts, BackendService, ClassReport, Latencies, Load, Report, Scenario, Sim},
};

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

/// Runs a load straight into a backend, for this time.
fn bare(load: Load, length: Duration, backend: Backend) -> Report {
    Scenario::new(load).length(length).run(into(backend)).unwrap()
}

fn into(backend: Backend) -> impl FnOnce(&Sim) -> Result<BackendService, ConfigError> {
    |sim| Ok(sim.backend(backend))
}

/// Returns the results of the only class.
fn class(report: &Report) -> &ClassReport {
    let [class] = &report.classes[..] else { panic!("not one class: {report}") };
    class
}

/// Returns the latencies of the answers of the only class.
fn latency(report: &Report) -> Latencies {
    class(report).latency.expect("no answer")
}

/// Returns the counts of the only backend.
fn seen(report: &Report) -> &BackendCounts {
    let [backend] = &report.backends[..] else { panic!("not one backend: {report}") };
    backend
}

/// Fails unless a number is within this share of the result of a formula.
#[track_caller]
fn assert_near(what: &str, got: f64, formula: f64, tolerance: f64) {
    assert!((got - formula).abs() <= tolerance * formula, "{what} is {got}, and {formula} by the formula");
}
