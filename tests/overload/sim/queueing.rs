//! Queues with known formulas: M/M/1, M/M/c, M/M/c/c, M/D/1. L. Kleinrock, "Queueing Systems" I, 1975.
//!
//! Each tolerance is at least twice the standard error of its number. The standard errors come from another program,
//! which simulates the same queue by its recursion: they are the standard deviations over 40 of its runs.

use super::{assert_near, bare, class, latency, ms, secs, seen};
use std::time::Duration;
use steadfast::sim::{Backend, BackendCounts, Latency, Load, Report};

const SERVICE: Duration = ms(1);
/// The capacity of one server, in calls per second.
const MU: f64 = 1_000.0;

/// Runs a Poisson load of this rate, with about this many calls, straight into a backend.
fn queue(calls: f64, rps: f64, backend: Backend) -> Report {
    bare(Load::poisson(rps).in_time(secs(100)), Duration::from_secs_f64(calls / rps), backend)
}

/// Returns the share of the time in which the servers were busy.
fn utilization(report: &Report) -> f64 {
    seen(report).utilization.unwrap()
}

fn exponential(servers: usize) -> Backend {
    Backend::new(Latency::exponential(SERVICE)).servers(servers)
}

#[test]
fn one_exponential_server_has_the_latency_of_m_m_1() {
    // At half of the capacity, the time in the system is exponential with the mean 1 / (mu - lambda).
    let report = queue(20_000.0, 500.0, exponential(1));
    let mean = 1.0 / (MU - 500.0);
    let took = latency(&report);
    assert_near("the mean", took.mean, mean, 0.05);
    assert_near("the median", took.p50, mean * 2f64.ln(), 0.05);
    assert_near("the p99", took.p99, mean * 100f64.ln(), 0.1);
    assert_near("the utilization", utilization(&report), 0.5, 0.02);
}

#[test]
fn one_deterministic_server_has_half_the_wait() {
    // Pollaczek and Khinchine: the wait is rho / (2 mu (1 - rho)).
    let report = queue(20_000.0, 500.0, Backend::new(Latency::fixed(SERVICE)).servers(1));
    assert_near("the mean", latency(&report).mean, 0.001 + 0.5 / (2.0 * MU * 0.5), 0.03);
}

#[test]
fn four_servers_have_the_wait_of_erlang_c() {
    // With the offered load a = 3, C(4, 3) is 0.5094, and the mean wait of all calls is C / (4 mu - lambda).
    let report = queue(30_000.0, 3_000.0, exponential(4));
    assert_near("the mean", latency(&report).mean, 0.001 + 0.5094 / (4.0 * MU - 3_000.0), 0.06);
    assert_near("the utilization", utilization(&report), 0.75, 0.02);
}

#[test]
fn four_servers_without_a_queue_refuse_the_share_of_erlang_b() {
    // B(4, 3) = 0.2061.
    let report = queue(40_000.0, 3_000.0, exponential(4).queue_bound(0));
    let BackendCounts { received, refused, most_in_flight, .. } = *seen(&report);
    assert_near("the share refused", refused as f64 / received as f64, 0.2061, 0.03);
    assert_eq!(most_in_flight, 4);
    assert_eq!(class(&report).failed, refused);
}

#[test]
fn with_any_number_of_servers_no_call_waits() {
    let report = queue(30_000.0, 3_000.0, Backend::new(Latency::exponential(SERVICE)));
    let took = latency(&report);
    assert_near("the mean", took.mean, 0.001, 0.02);
    assert_near("the p99", took.p99, 0.001 * 100f64.ln(), 0.03);
}

#[test]
fn a_bound_on_the_queue_bounds_the_wait() {
    // 20 calls wait and one is served, 1 ms each.
    let report = queue(10_000.0, 10_000.0, Backend::new(Latency::fixed(SERVICE)).servers(1).queue_bound(20));
    assert_eq!(seen(&report).most_in_flight, 21);
    assert!((0.0209..=0.0211).contains(&latency(&report).max), "{report}");
}

#[test]
fn newest_first_has_the_same_mean_and_a_longer_tail() {
    let (oldest, newest) =
        (queue(20_000.0, 500.0, exponential(1)), queue(20_000.0, 500.0, exponential(1).newest_first()));
    let (oldest, newest) = (latency(&oldest), latency(&newest));
    assert_near("the mean", newest.mean, 1.0 / (MU - 500.0), 0.05);
    assert!(newest.p50 < oldest.p50 && newest.p999 > 1.5 * oldest.p999, "{newest:?} and {oldest:?}");
}

#[test]
fn an_overloaded_queue_serves_the_newest_calls_in_time_and_the_oldest_late() {
    let run = |backend: Backend| {
        let report = bare(Load::poisson(2_000.0).in_time(ms(10)), secs(3), backend);
        report.goodput()
    };
    let (oldest, newest) = (run(exponential(1)), run(exponential(1).newest_first()));
    assert!(oldest < 0.02, "{oldest}");
    assert!(newest > 0.4, "{newest}");
}
