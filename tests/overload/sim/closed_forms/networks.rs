//! Queues in a row and in parallel, and closed loads.

use super::{MU, WARM_UP, agree, bare, exponential, mean_busy, mean_latency, mean_number, open, runs, utilization};
use crate::sim::{self, assert_near, into, latency, ms, secs};
use std::time::Duration;
use steadfast::sim::{Backend, BackendService, Call, Latency, Load, Scenario, Sim};
use tower::{ServiceExt, service_fn};

/// Returns a scenario with a closed load. Eight runs of it take `length` in all, without their warm-ups.
fn closed(callers: usize, think: Duration, length: Duration) -> Scenario {
    Scenario::new(Load::closed(callers, think)).length(WARM_UP + length / 8).warm_up(WARM_UP)
}

#[test]
fn two_loads_into_one_backend_are_one_queue() {
    // The sum of two Poisson streams is a Poisson stream, and the calls of each see the average over time.
    let load = |name, rps| Load::poisson(rps).named(name).in_time(secs(100));
    let scenario = Scenario::new(load("few", 150.0)).and(load("many", 350.0));
    let reports = bare(scenario.length(secs(8)).warm_up(WARM_UP), &exponential(1));
    agree("the mean of few", &reports, 1.0 / (MU - 500.0), 0.065, |report| report.class("few").latency.unwrap().mean);
    agree("the mean of many", &reports, 1.0 / (MU - 500.0), 0.06, |report| report.class("many").latency.unwrap().mean);
}

#[test]
fn clients_chosen_at_random_split_a_load_into_independent_loads() {
    // Two M/M/1 queues with half of the rate each. Clients used in turn would make the arrivals at each more even.
    let build = |sim: &Sim| Ok((0..2).map(|_| sim.backend(exponential(1))).collect::<Vec<BackendService>>());
    let reports = open(30_000.0, 1_000.0).seeds(1..=8).run_clients(build).unwrap();
    agree("the mean", &reports, 1.0 / (MU - 500.0), 0.06, mean_latency);
    for client in 0..2 {
        agree("the utilization", &reports, 0.5, 0.04, |report| report.backends[client].utilization.unwrap());
    }
}

#[test]
fn queues_in_a_row_behave_as_if_each_were_alone() {
    // P. J. Burke, "The output of a queuing system", Operations Research 4, 1956: what leaves M/M/c is a Poisson
    // stream.
    let reports = runs(open(30_000.0, 500.0), |sim| {
        let first = sim.backend(exponential(1));
        let second = sim.backend(Backend::new(Latency::exponential(ms(3))).servers(2));
        Ok(service_fn(move |call: Call| {
            let (first, second) = (first.clone().oneshot(call), second.clone());
            async move {
                first.await?;
                second.oneshot(call).await
            }
        }))
    });
    // M/M/2 with rho = 3/4 takes S / (1 - rho^2).
    agree("the mean", &reports, 0.002 + 0.003 / (1.0 - 0.75_f64.powi(2)), 0.11, mean_latency);
    agree("busy", &reports, 1.5, 0.035, |report| report.backends[1].mean_busy);
}

#[test]
fn a_closed_load_follows_the_machine_repairman_model() {
    // L. Kleinrock, "Queueing Systems" I, 1975, 3.8 and 3.10: let N callers think for Z on average, and c servers take
    // S on average. Let p_n be the probability of n calls in the backend. Up to a common factor,
    // p_n = p_(n-1) (N - n + 1) S / Z / min(n, c).
    // This holds for thinking times of any distribution, and so for fixed ones (B. D. Bunday and R. E. Scraton, "The
    // G/M/r machine interference model", European Journal of Operational Research 4, 1980).
    for (callers, think, servers) in [(8, 8.0, 1), (8, 2.0, 2)] {
        let mut weights = vec![1.0];
        for n in 1..=callers {
            let (calling, working) = ((callers - n + 1) as f64 / think, n.min(servers) as f64);
            weights.push(weights[n - 1] * calling / working);
        }
        let sum: f64 = weights.iter().sum();
        let mean = |number: &dyn Fn(usize) -> usize| {
            weights.iter().enumerate().map(|(n, weight)| weight / sum * number(n) as f64).sum::<f64>()
        };
        let (busy, number) = (mean(&|n| n.min(servers)), mean(&|n| n));
        let think = Duration::from_secs_f64(think / MU);
        let reports = bare(closed(callers, think, secs(20)), &exponential(servers));
        agree("calls per second", &reports, MU * busy, 0.015, |report| report.offered() as f64 / 2.5);
        agree("the utilization", &reports, busy / servers as f64, 0.022, utilization);
        agree("the mean number", &reports, number, 0.04, mean_number);
        agree("the mean", &reports, number / (MU * busy), 0.05, mean_latency);
    }
}

#[test]
fn a_single_caller_calls_once_per_service_and_thinking_time() {
    let fixed = Backend::new(Latency::fixed(ms(3)));
    let report = sim::bare(Load::closed(1, ms(7)), secs(10), fixed);
    assert_eq!(report.offered(), 1_000);
    assert_near("busy", mean_busy(&report), 0.3, 1e-9);
    let reports = bare(closed(1, ms(7), secs(80)), &Backend::new(Latency::exponential(ms(3))));
    agree("calls per second", &reports, 100.0, 0.012, |report| report.offered() as f64 / 10.0);
    agree("busy", &reports, 0.3, 0.025, mean_busy);
}

#[test]
fn the_throughput_of_a_deterministic_closed_load_is_at_its_asymptotes() {
    // P. J. Denning and J. P. Buzen, "The operational analysis of queueing network models", Computing Surveys 10, 1978:
    // the throughput X is at most N / (S + Z), and at most 1 / S. With fixed times, X is the smaller of these two
    // bounds, which are equal at 6 callers here. The response time is R = N / X - Z.
    for callers in 1..=20_u32 {
        let scenario = Scenario::new(Load::closed(callers as usize, ms(50))).length(secs(7)).warm_up(secs(1));
        let report = scenario.run(into(Backend::new(Latency::fixed(ms(10))).servers(1))).unwrap();
        let rate = (f64::from(callers) / 0.06).min(100.0);
        assert!((report.offered() as f64 - 6.0 * rate).abs() <= 1.0, "{callers} callers make {}", report.offered());
        assert_near("busy", mean_busy(&report), rate * 0.01, 0.002);
        let took = latency(&report);
        for time in [took.mean, took.p50, took.max] {
            assert_near("the time", time, f64::from(callers) / rate - 0.05, 0.001);
        }
    }
}
