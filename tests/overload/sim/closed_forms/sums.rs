//! Sums, shares and distributions that can be computed by hand: attempts of a retry, hops of a link, arrivals at a
//! changing rate, streaks of failures, and disturbances.
//!
//! Each tolerance is at least about three standard errors, which the comments state. The seeds are fixed.

use super::{assert_sample_of, share};
use crate::sim::{assert_near, bare, class, latency, load::instants, ms, secs, seen};
use std::{cell::RefCell, rc::Rc, time::Duration};
use steadfast::{
    retry::{Backoff, Retry},
    sim::{Backend, BackendCounts, Estimate, Latency, Link, Load, Reply, Report, Scenario, Sim},
};
use tower::ServiceExt;

/// Makes at most this many attempts, without a backoff.
fn retry(sim: &Sim, attempts: u32) -> Retry {
    Retry::new(attempts).backoff(Backoff::none()).without_budget().random(sim.random())
}

/// The mean number of attempts, with at most k attempts that each fail with the probability p: the sum of p^i for i
/// below k.
fn attempts(p: f64, k: i32) -> f64 {
    (1.0 - p.powi(k)) / (1.0 - p)
}

#[test]
fn a_retry_makes_the_attempts_of_a_geometric_sum() {
    for (p, k) in [(0.3, 2), (0.5, 4), (0.9, 8)] {
        let report = Scenario::new(Load::poisson(1_000.0)).length(secs(6)).run(|sim| {
            let backend = sim.backend(Backend::new(Latency::fixed(ms(1))).failing(p));
            steadfast::client().retry(retry(sim, k as u32)).service(backend)
        });
        let report = report.unwrap();
        // There are 6,000 calls. The standard error of the attempts is at most 0.8%. That of the share that fails is
        // 4.1%, 5.0% and 1.5% in the three cases.
        assert_near("attempts", report.amplification().unwrap(), attempts(p, k), 0.025);
        assert_near("the share that fails", share(class(&report).failed, report.offered()), p.powi(k), 0.15);
        // Each attempt takes a millisecond, and a call that fails has made all k attempts.
        let failed = class(&report).latency_of_failed.unwrap();
        assert_near("the fastest failure", failed.p50, f64::from(k) / 1_000.0, 0.001);
        assert_near("the slowest failure", failed.max, f64::from(k) / 1_000.0, 0.001);
        // A successful call has made (attempts - k p^k) / (1 - p^k) on average. The standard error is at most 1.2%.
        let succeeded = (attempts(p, k) - f64::from(k) * p.powi(k)) / (1.0 - p.powi(k));
        assert_near("the mean success", latency(&report).mean, succeeded / 1_000.0, 0.04);
    }
}

#[test]
fn a_retry_after_a_timeout_cuts_the_tail_of_an_exponential_and_nothing_else() {
    // An attempt with the timeout tau lasts min(S, tau). On average that is (1 - p) E[S], with p = e^(-tau / E[S]). All
    // attempts of a call together last for (1 - p^k) E[S]. Calls begin at whole milliseconds, at which timers are
    // exact.
    let (mean, tau, k) = (0.010, 0.008, 3);
    let p = f64::exp(-tau / mean);
    let lost = p.powi(k);
    let report = Scenario::new(Load::constant(1_000.0)).length(secs(20)).run(|sim| {
        let backend = sim.backend(Backend::new(Latency::exponential(ms(10))));
        steadfast::client().retry(retry(sim, k as u32)).attempt_timeout(ms(8)).service(backend)
    });
    let report = report.unwrap();
    // Of 20,000 calls the standard errors are 0.3%, 0.6%, 2.2% and 0.5%.
    let BackendCounts { received, wasted, .. } = *seen(&report);
    assert_near("attempts", report.amplification().unwrap(), attempts(p, k), 0.01);
    assert_near("the share of attempts cut off", share(wasted, received), p, 0.02);
    assert_near("the share that is lost", report.rejected("timeout"), lost, 0.08);
    let answered = mean - f64::from(k) * tau * lost / (1.0 - lost);
    assert_near("the mean", latency(&report).mean, answered, 0.02);
    let rejected = class(&report).latency_of_rejected.unwrap();
    assert_near("the last timeout", rejected.p50, f64::from(k) * tau, 0.001);
    assert_near("the last timeout", rejected.max, f64::from(k) * tau, 0.001);
}

#[test]
fn a_poisson_stream_over_a_link_stays_a_poisson_stream() {
    // N. M. Mirasol, "The output of an M/G/infinity queuing system is Poisson", Operations Research 11, 1963:
    // independent delays turn a Poisson stream into a Poisson stream, and behind the link is M/M/1.
    let scenario = Scenario::new(Load::poisson(500.0)).length(secs(11)).warm_up(secs(1));
    let reports = scenario.seeds(1..=6).run(|sim| {
        let backend = sim.backend(Backend::new(Latency::exponential(ms(1))).servers(1));
        Ok(Link::new(sim, Latency::exponential(ms(5)), backend))
    });
    let reports = reports.unwrap();
    let mean = |number: fn(&Report) -> f64| reports.estimate(number).mean;
    // Of 30,000 calls the standard errors are 0.5%, 0.8% and 3.4%.
    assert_near("the mean", mean(|report| latency(report).mean), 2.0 * 0.005 + 0.002, 0.02);
    assert_near("busy", mean(|report| seen(report).mean_busy), 0.5, 0.025);
    assert_near("the waiting calls", mean(|report| seen(report).mean_waiting), 0.5, 0.11);
}

#[test]
fn a_link_shifts_arrivals_by_one_hop() {
    // A call each 10 ms. Calls sent from 1.905 to 2.905 s arrive in the outage: the 191st to the 290th.
    let report = Scenario::new(Load::constant(100.0)).length(secs(10)).run(|sim| {
        let backend = Backend::new(Latency::fixed(ms(10))).outage(ms(2_005)..ms(3_005));
        Ok(Link::new(sim, Latency::fixed(ms(100)), sim.backend(backend)))
    });
    let report = report.unwrap();
    let failed: Vec<u64> = report.spans.iter().map(|span| span.offered - span.in_time).collect();
    assert_eq!((failed[19], &failed[20..29], failed[29], class(&report).failed), (9, &[10; 9][..], 1, 100));
    // A call takes 0.1 s in each direction. An answer takes 0.01 s of work in between, a failure in the outage none.
    assert_near("a failure", class(&report).latency_of_failed.unwrap().max, 0.2, 0.001);
    assert_near("an answer", latency(&report).max, 0.21, 0.001);
}

/// A base, a spike, a ramp up, a ramp down and a step, with the mean number of calls before each edge.
const EDGES: [(f64, f64); 7] =
    [(0.0, 0.0), (2.0, 1_000.0), (3.0, 6_000.0), (4.0, 6_500.0), (8.0, 14_500.0), (10.0, 18_500.0), (12.0, 19_500.0)];

fn changing() -> Load {
    let spike = Load::poisson(500.0).spike(secs(2), secs(3), 5_000.0);
    let ramps = spike.ramp(secs(4), secs(8), 0.0, 4_000.0).ramp(secs(8), secs(10), 4_000.0, 0.0);
    ramps.step(secs(10), 500.0)
}

/// The integral of the rate of [`changing`] up to this time: the mean number of calls.
fn integral(time: f64) -> f64 {
    match time {
        ..2.0 => 500.0 * time,
        2.0..3.0 => 1_000.0 + 5_000.0 * (time - 2.0),
        3.0..4.0 => 6_000.0 + 500.0 * (time - 3.0),
        4.0..8.0 => 6_500.0 + 500.0 * (time - 4.0).powi(2),
        8.0..10.0 => 18_500.0 - 1_000.0 * (10.0 - time).powi(2),
        _ => 18_500.0 + 500.0 * (time - 10.0),
    }
}

#[test]
fn a_changing_rate_brings_the_calls_of_its_integral_at_the_right_times() {
    let times: Vec<f64> = instants(changing(), secs(12)).iter().map(Duration::as_secs_f64).collect();
    for window in EDGES.windows(2) {
        let [(from, before), (to, until)] = [window[0], window[1]];
        assert!((integral(to - 1e-9) - until).abs() < 1e-3, "the integral at {to}");
        // The standard error of a Poisson number is its root.
        let (calls, wanted) = (times.iter().filter(|time| (from..to).contains(*time)).count(), until - before);
        assert_near("calls", calls as f64, wanted, 3.5 / wanted.sqrt());
    }
    assert_near("calls", times.len() as f64, 19_500.0, 3.0 / 19_500_f64.sqrt());
    // In time measured by the mean number of calls, every Poisson stream has the rate 1.
    let gaps: Vec<f64> = times.windows(2).map(|pair| integral(pair[1]) - integral(pair[0])).collect();
    assert_near("the mean gap", gaps.iter().sum::<f64>() / gaps.len() as f64, 1.0, 0.022);
    let repeated: f64 = gaps.windows(2).map(|pair| (pair[0] - 1.0) * (pair[1] - 1.0)).sum::<f64>() / gaps.len() as f64;
    // The correlation of neighbours, whose standard error is 0.0072.
    assert!(repeated.abs() < 0.022, "{repeated}");
    assert_sample_of("times", times, |time| integral(time) / 19_500.0);
    assert_sample_of("gaps", gaps, |gap| 1.0 - (-gap).exp());
}

#[test]
fn servers_without_a_bound_follow_a_ramp_with_the_lag_of_its_service_time() {
    // S. G. Eick, W. A. Massey and W. Whitt, "The physics of the M_t/G/infinity queue", Operations Research 41, 1993.
    // With the rate b t and an exponential service of mean s, the mean number of busy servers at t is b s (t - s (1 -
    // e^(-t / s))). It follows the rate with a lag, which grows to s. The formula is the mean of that number from 4 s
    // to 10 s, with s = 1.
    let b = 200.0;
    let formula = b * (7.0 - 1.0 + (f64::exp(-4.0) - f64::exp(-10.0)) / 6.0);
    let load = Load::poisson(0.0).ramp(Duration::ZERO, secs(10), 0.0, 10.0 * b);
    let scenario = Scenario::new(load).length(secs(10)).warm_up(secs(4)).settle_within(Duration::ZERO);
    let reports = scenario.seeds(1..=2).run(|sim| Ok(sim.backend(Backend::new(Latency::exponential(secs(1))))));
    let Estimate { mean, .. } = reports.unwrap().estimate(|report| seen(report).mean_busy);
    // There are 20,000 calls. Each is in the backend for a second on average, with a deviation of a second, so the
    // standard error is 1.3%. Without the lag the number would be 17% higher.
    assert_near("busy", mean, formula, 0.04);
}

#[test]
fn failures_come_in_streaks_of_a_geometric_length() {
    for p in [0.5, 0.8_f64] {
        let log = Rc::new(RefCell::new(Vec::new()));
        let fates = log.clone();
        let report = Scenario::new(Load::constant(1_000.0)).length(secs(15)).run(move |sim| {
            let backend = sim.backend(Backend::new(Latency::fixed(ms(2))).failing(p));
            Ok(backend.map_result(move |result: Result<Reply, _>| {
                log.borrow_mut().push(result.is_err());
                result
            }))
        });
        let fates = fates.take();
        assert_eq!(report.unwrap().offered(), fates.len() as u64);
        let streaks = fates.chunk_by(|one, other| one == other).filter(|streak| streak[0]);
        let lengths: Vec<usize> = streaks.map(<[bool]>::len).collect();
        let count = lengths.len() as f64;
        // A streak begins where a failure follows a success. Of 3,750 and 2,400 of them: the standard error of the
        // number is at most 1.5%, that of the mean length 1.2 and 1.8%.
        assert_near("streaks", count, 15_000.0 * p * (1.0 - p), 0.05);
        assert_near("the mean length", lengths.iter().sum::<usize>() as f64 / count, 1.0 / (1.0 - p), 0.06);
        for (length, power) in [(2, 1), (3, 2), (4, 3), (6, 5)] {
            let longer = lengths.iter().filter(|streak| **streak >= length).count() as f64 / count;
            let wanted = p.powi(power);
            let error = (wanted * (1.0 - wanted) / count).sqrt();
            assert!((longer - wanted).abs() < 3.0 * error, "{longer} and not {wanted} are of {length} or more");
        }
        // M. F. Schilling, "The longest run of heads", College Mathematics Journal 21, 1990.
        let (steps, longest) = (-p.ln(), lengths.iter().max().copied().unwrap_or_default() as f64);
        let wanted = ((15_000.0 * (1.0 - p)).ln() + 0.5772) / steps - 0.5;
        let deviation = std::f64::consts::PI / 6_f64.sqrt() / steps;
        println!("the longest: {longest}, {wanted:.1} ± {deviation:.1} by the formula");
        assert!((longest - wanted).abs() < 3.0 * deviation, "the longest is {longest}, and {wanted} by the formula");
    }
}

#[test]
fn an_outage_fails_its_share_of_the_time() {
    // 25% of the time, with the overlap counted once. Poisson arrivals see averages over time. Of 20,000 calls the
    // standard error is 1.2%.
    let backend = Backend::new(Latency::fixed(ms(1))).outage(secs(1)..secs(3)).outage(ms(2_500)..secs(5));
    let report = bare(Load::poisson(1_000.0), secs(20), backend.outage(secs(19)..secs(20)));
    assert_near("the share", share(class(&report).failed, report.offered()), 0.25, 0.04);
    let report = Scenario::new(Load::poisson(500.0)).length(secs(20)).run(|sim| {
        let backend = Backend::new(Latency::fixed(ms(1))).outage(secs(5)..secs(10));
        steadfast::client().retry(retry(sim, 3)).service(sim.backend(backend))
    });
    // All attempts of a call that arrives in the outage fail at once.
    assert_near("attempts", report.unwrap().amplification().unwrap(), 0.75 + 3.0 * 0.25, 0.02);
}

#[test]
fn a_hang_costs_half_of_its_square() {
    // Calls that arrive in the H seconds of a hang wait for H / 2 on average. They are H / 10 of all calls in 10 s.
    let hanging = Backend::new(Latency::fixed(ms(1))).hang(secs(4)..secs(6));
    let report = bare(Load::constant(1_000.0).in_time(secs(100)), secs(10), hanging.clone());
    assert_near("the mean", latency(&report).mean, 0.001 + 2.0 * 2.0 / 2.0 / 10.0, 0.002);
    // One server at half of its capacity needs H rho / (1 - rho) to catch up. The number of waiting calls is then a
    // triangle: 4 s wide, and 1,000 calls high.
    let report = bare(Load::constant(500.0).in_time(secs(100)), secs(10), hanging.servers(1));
    assert_near("the waiting calls", seen(&report).mean_waiting, 4.0 * 1_000.0 / 2.0 / 10.0, 0.002);
    assert_near("busy", seen(&report).mean_busy, 0.5, 0.002);
}
