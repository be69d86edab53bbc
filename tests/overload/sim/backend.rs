//! Backends with disturbances.

use super::{assert_near, bare, class, latency, ms, secs, seen};
use std::time::Duration;
use steadfast::sim::{Backend, BackendCounts, Latency, Load, Scenario};

/// 10 calls per second. Each is in time if it is answered within 100 s.
fn steady() -> Load {
    Load::constant(10.0).in_time(secs(100))
}

fn prompt() -> Backend {
    Backend::new(Latency::fixed(ms(20)))
}

#[test]
fn an_outage_fails_the_calls_that_arrive_in_it_and_no_others() {
    let report = bare(steady(), secs(10), prompt().outage(ms(2_950)..ms(4_950)));
    let failing: Vec<u64> = report.spans.iter().map(|span| span.offered - span.in_time).collect();
    assert_eq!(class(&report).failed, 20);
    assert_eq!(failing[30..50].iter().sum::<u64>(), 20, "{failing:?}");
    assert_eq!(report.calm_from, Some(4.95));
}

#[test]
fn a_slow_time_delays_the_calls_that_begin_in_it() {
    let report = bare(steady(), secs(10), prompt().slow(secs(2)..secs(4), 10.0));
    let took = latency(&report);
    assert_near("the median", took.p50, 0.02, 0.001);
    assert_near("the longest", took.max, 0.2, 0.001);
    // 20 of 99 calls.
    assert_near("the mean", took.mean, (20.0 * 0.2 + 79.0 * 0.02) / 99.0, 0.001);
}

#[test]
fn slow_times_that_overlap_multiply() {
    let report = bare(steady(), secs(10), prompt().slow(secs(2)..secs(4), 10.0).slow(secs(3)..secs(5), 3.0));
    assert_near("the longest", latency(&report).max, 0.6, 0.001);
}

#[test]
fn a_hang_keeps_its_calls_until_its_end() {
    let report = bare(steady(), secs(10), prompt().hang(ms(2_950)..ms(4_950)));
    assert_eq!(class(&report).failed, 0);
    // The first call that hangs arrives at 3 s.
    assert_near("the longest", latency(&report).max, 1.97, 0.001);
    assert_eq!(seen(&report).most_in_flight, 20);
}

#[test]
fn hangs_that_overlap_are_one_hang() {
    let report = bare(steady(), secs(10), prompt().hang(ms(2_950)..ms(4_950)).hang(secs(4)..ms(5_950)));
    assert_near("the longest", latency(&report).max, 2.97, 0.001);
}

#[test]
fn a_failing_backend_fails_its_share_and_takes_its_time() {
    let report = bare(Load::poisson(1_000.0), secs(20), prompt().failing(0.3));
    assert_near("the share", class(&report).failed as f64 / report.offered() as f64, 0.3, 0.03);
    let always = bare(Load::constant(100.0), secs(1), prompt().failing(1.0));
    assert_eq!(class(&always).failed, 99);
    // Half of the work on the last call is done after the run.
    assert_near("busy", seen(&always).mean_busy, 98.5 * 0.02, 1e-9);
}

#[test]
fn a_latency_that_grows_with_in_flight_calls_slows_a_busier_backend() {
    // The first of two calls that overlap is alone in the backend when it begins, the second is not.
    let backend = Backend::new(Latency::growing_with_in_flight(ms(100), ms(10)));
    let report = bare(Load::constant(16.0), ms(150), backend);
    let took = latency(&report);
    // Of two calls the median is the first.
    assert_near("the first", took.p50, 0.11, 0.001);
    assert_near("the second", took.max, 0.12, 0.001);
}

/// 10 callers, one each 100 ms, call one server that takes 2 s for a call. Each caller gives up after 1 s. Returns the
/// counts of the server.
fn impatient(backend: Backend) -> BackendCounts {
    let load = Load::constant(10.0).step(ms(1_050), 0.0);
    let report = Scenario::new(load).length(secs(60)).run(|sim| {
        let backend = sim.backend(backend.servers(1));
        steadfast::client().timeout(secs(1)).service(backend)
    });
    let report = report.unwrap();
    assert_eq!(class(&report).rejected.get("timeout"), Some(&10));
    seen(&report).clone()
}

#[test]
fn by_default_a_backend_continues_calls_whose_callers_have_gone() {
    let BackendCounts { received, answered, wasted, abandoned, mean_busy, utilization, .. } =
        impatient(Backend::new(Latency::fixed(secs(2))));
    assert_eq!((received, answered, wasted, abandoned), (10, 0, 10, 0));
    assert_near("busy", mean_busy, 20.0 / 60.0, 1e-9);
    assert_eq!(utilization, Some(mean_busy));
}

#[test]
fn a_backend_that_notices_stops_when_its_caller_goes() {
    let BackendCounts { received, answered, wasted, abandoned, mean_busy, most_in_flight, .. } =
        impatient(Backend::new(Latency::fixed(secs(2))).notices_cancellation());
    assert_eq!((received, answered, wasted, abandoned), (10, 0, 0, 10));
    // The first caller leaves after 1 s in the server. Each later caller has the server only for 0.1 s, from the moment
    // at which the caller before it leaves to the moment at which it leaves.
    assert_near("busy", mean_busy, 1.9 / 60.0, 1e-9);
    assert_eq!(most_in_flight, 10);
}

#[test]
fn a_caller_that_has_gone_takes_no_place_in_the_queue_of_a_backend_that_notices() {
    let run = |backend: Backend| {
        let load = Load::constant(10.0);
        let hanging = backend.servers(1).queue_bound(3).hang(Duration::ZERO..secs(9));
        let report = Scenario::new(load).length(secs(9)).run(|sim| {
            let backend = sim.backend(hanging);
            steadfast::client().timeout(ms(250)).service(backend)
        });
        seen(&report.unwrap()).refused
    };
    let backend = Backend::new(Latency::fixed(ms(1)));
    // One call is in the server, which hangs, and three may wait. A backend that does not notice keeps these three, and
    // refuses the other 85 calls. In one that notices, each caller leaves after 250 ms, so that at most three are there
    // at once.
    assert_eq!(run(backend.clone()), 85);
    assert_eq!(run(backend.notices_cancellation()), 0);
}

#[test]
fn a_normal_latency_beyond_all_bounds_is_endless_and_not_zero() {
    let report = bare(steady(), secs(10), Backend::new(Latency::normal(Duration::MAX, Duration::ZERO)));
    assert_eq!(class(&report).unanswered, 99);
}

#[test]
fn a_refused_call_is_refused_and_not_answered() {
    // One call is served at a time, and none waits. Of ten calls per second, the first of each five is served.
    let backend = Backend::new(Latency::fixed(ms(450))).servers(1).queue_bound(0);
    let report = bare(steady(), secs(2), backend.outage(ms(1_550)..secs(2)));
    let BackendCounts { received, answered, refused, .. } = *seen(&report);
    // Calls that fail in the outage count as answered: those at 1.6, 1.7, 1.8 and 1.9 s.
    assert_eq!((received, answered, refused), (19, 3 + 4, 12));
    assert_eq!(class(&report).failed, 12 + 4);
}
