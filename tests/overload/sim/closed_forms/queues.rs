//! Queues with a single server: general service times, a bound, averages over time, and callers who leave.
//!
//! "Kleinrock" is L. Kleinrock, "Queueing Systems" I, 1975, with the section.

use super::{
    MU, SERVICE, agree, assert_sample_of, bare, exponential, mean_latency, mean_number, mean_waiting, open, runs,
    share, utilization,
};
use crate::sim::{self, assert_near, into, latency, ms, secs, seen};
use futures::future::{Either, select};
use std::{cell::RefCell, pin::pin, rc::Rc, time::Duration};
use steadfast::sim::{Backend, BackendCounts, Call, Failure, Latency, Load, Reply, Report, Scenario, Sim};
use tower::{Service, ServiceExt, service_fn};

#[test]
fn a_general_server_has_the_wait_of_pollaczek_and_khinchine() {
    // Kleinrock 5.6: the wait is lambda E[S^2] / (2 (1 - rho)).
    let (median, sigma) = (0.001, 0.75_f64);
    let (mean, second) = (median * (sigma * sigma / 2.0).exp(), median * median * (2.0 * sigma * sigma).exp());
    let (rho, lambda) = (0.5, 0.5 / mean);
    let wait = lambda * second / (2.0 * (1.0 - rho));
    let reports = bare(open(40_000.0, lambda), &Backend::new(Latency::log_normal(SERVICE, sigma)).servers(1));
    agree("the utilization", &reports, rho, 0.025, utilization);
    agree("the mean", &reports, mean + wait, 0.055, mean_latency);
    agree("the waiting calls", &reports, lambda * wait, 0.115, mean_waiting);
}

#[test]
fn each_latency_has_the_mean_and_the_quantiles_of_its_distribution() {
    // With unlimited servers a response takes as long as the drawn latency. These quantiles of the standard normal are
    // 1.2816 and 2.3263. Of 15,000 calls the standard errors of the p99 are 1.8%, 2.3% and 0.5%, and the others at most
    // 1.2%.
    let sigma = 0.75_f64;
    let log_normal = |deviations: f64| 0.001 * (sigma * deviations).exp();
    let normal = |deviations: f64| 0.002 + 0.0005 * deviations;
    let exponential = [0.001, 0.001 * 2_f64.ln(), 0.001 * 10_f64.ln(), 0.001 * 100_f64.ln()];
    for (shape, [mean, p50, p90, p99]) in [
        (Latency::exponential(SERVICE), exponential),
        (
            Latency::log_normal(SERVICE, sigma),
            [log_normal(sigma / 2.0), log_normal(0.0), log_normal(1.2816), log_normal(2.3263)],
        ),
        (Latency::normal(ms(2), Duration::from_micros(500)), [0.002, 0.002, normal(1.2816), normal(2.3263)]),
    ] {
        let report = sim::bare(Load::poisson(1_000.0), secs(15), Backend::new(shape));
        let took = latency(&report);
        assert_near("the mean", took.mean, mean, 0.03);
        assert_near("the median", took.p50, p50, 0.035);
        assert_near("the p90", took.p90, p90, 0.035);
        assert_near("the p99", took.p99, p99, 0.07);
    }
}

#[test]
fn a_queue_of_five_has_the_blocking_and_the_mean_number_of_m_m_1_6() {
    // Kleinrock 3.6: p_n is proportional to rho^n, for n up to 6. Poisson arrivals see averages over time, so p_6 is
    // the share refused.
    for (rho, [of_refused, of_number, of_busy, of_mean]) in
        [(0.8_f64, [0.13, 0.05, 0.024, 0.045]), (1.5, [0.055, 0.025, 0.008, 0.042])]
    {
        let weights = [0, 1, 2, 3, 4, 5, 6].map(|n| rho.powi(n));
        let sum: f64 = weights.iter().sum();
        let number = weights.iter().zip(0..).map(|(weight, n)| weight * f64::from(n)).sum::<f64>() / sum;
        let (blocked, idle) = (weights[6] / sum, 1.0 / sum);
        let reports = bare(open(30_000.0, rho * MU), &exponential(1).queue_bound(5));
        agree("the share refused", &reports, blocked, of_refused, |report| {
            let BackendCounts { refused, received, .. } = *seen(report);
            share(refused, received)
        });
        agree("the mean number", &reports, number, of_number, mean_number);
        agree("the utilization", &reports, 1.0 - idle, of_busy, utilization);
        // Little's law for the admitted calls.
        agree("the mean", &reports, number / (rho * MU * (1.0 - blocked)), of_mean, mean_latency);
        assert!(reports.reports.iter().all(|report| seen(report).most_in_flight == 6));
    }
}

#[test]
fn averages_over_time_are_those_of_m_m_1_after_any_warm_up() {
    // The spike leaves 600 waiting. They are served within 1.2 s, and the warm-up lasts for 3 s.
    let (lambda, rho) = (500.0, 0.5);
    let load = Load::poisson(lambda).in_time(secs(100)).spike(Duration::ZERO, ms(300), 3_000.0);
    let reports = bare(Scenario::new(load).length(secs(10)).warm_up(secs(3)), &exponential(1));
    agree("the utilization", &reports, rho, 0.025, utilization);
    agree("the waiting calls", &reports, rho * rho / (1.0 - rho), 0.13, mean_waiting);
    agree("the mean", &reports, 1.0 / (MU - lambda), 0.06, mean_latency);
    for report in &reports.reports {
        // Little's law for this run. A few calls cross its edges.
        let came = report.offered() as f64 / 7.0;
        assert_near("the number", mean_number(report), came * mean_latency(report), 0.005);
    }
}

#[test]
fn little_s_law_holds_for_each_run_in_which_every_call_ends() {
    // The area under the number of calls is the sum of their latencies: an identity. A report's latencies are exact to
    // a thousandth.
    let load = Load::poisson(900.0).in_time(secs(100)).step(secs(3), 0.0);
    for backend in [
        exponential(1),
        exponential(1).newest_first(),
        exponential(3).slow(secs(1)..secs(2), 4.0),
        exponential(1).queue_bound(7),
        Backend::new(Latency::exponential(SERVICE)),
        Backend::new(Latency::log_normal(SERVICE, 1.0)).servers(2),
        Backend::new(Latency::growing_with_in_flight(ms(1), Duration::from_micros(100))).servers(6),
    ] {
        let report = Scenario::new(load.clone()).length(secs(5)).run(into(backend)).unwrap();
        let BackendCounts { answered, in_flight, .. } = *seen(&report);
        assert!(answered > 2_000 && in_flight == 0, "{report}");
        assert_near("the area", 5.0 * mean_number(&report), answered as f64 * mean_latency(&report), 0.001);
    }
}

#[test]
fn one_server_takes_its_calls_in_order_and_an_exponential_time_for_each() {
    // Lindley's recursion, solved for the service time: a service begins when its call has arrived and the previous
    // service has ended. This is true in and out of equilibrium.
    let ended = Rc::new(RefCell::new(Vec::new()));
    let log = ended.clone();
    let report = Scenario::new(Load::poisson(700.0)).length(secs(15)).run(move |sim| {
        let (clock, backend) = (sim.clone(), sim.backend(exponential(1)));
        Ok(service_fn(move |call: Call| {
            let (clock, log, answer) = (clock.clone(), log.clone(), backend.clone().oneshot(call));
            let came = clock.elapsed().as_secs_f64();
            async move {
                let reply = answer.await;
                log.borrow_mut().push((came, clock.elapsed().as_secs_f64()));
                reply
            }
        }))
    });
    let ended: Vec<(f64, f64)> = ended.take();
    assert_eq!(report.unwrap().offered(), ended.len() as u64);
    let pairs = || ended.iter().zip(&ended[1..]);
    let gaps: Vec<f64> = pairs().map(|((before, _), (came, _))| came - before).collect();
    let services: Vec<f64> = pairs().map(|((_, free), (came, done))| done - came.max(*free)).collect();
    assert!(gaps.iter().chain(&services).all(|time| *time >= 0.0), "not in the order of arrival");
    // Of 10,500 numbers whose deviation is their mean: the standard error is 1%.
    assert_near("the mean service", services.iter().sum::<f64>() / services.len() as f64, 1.0 / MU, 0.03);
    assert_near("the mean gap", gaps.iter().sum::<f64>() / gaps.len() as f64, 1.0 / 700.0, 0.03);
    assert_sample_of("services", services, |time| 1.0 - (-MU * time).exp());
    assert_sample_of("gaps", gaps, |time| 1.0 - (-700.0 * time).exp());
}

/// A server and its callers. A caller leaves when its patience ends, and the server notices. The first backend is the
/// server. The second one is the patience: its latency is how long a caller stays.
fn impatient(sim: &Sim, patience: Latency) -> impl Service<Call, Response = Reply, Error = Failure> + Clone + use<> {
    let server = sim.backend(exponential(1).notices_cancellation());
    let patience = sim.backend(Backend::new(patience).named("patience"));
    service_fn(move |call: Call| {
        let (answer, leaves) = (server.clone().oneshot(call), patience.clone().oneshot(call));
        async move {
            match select(pin!(answer), pin!(leaves)).await {
                Either::Left((answer, _)) => answer,
                Either::Right(_) => Err(Failure::Failed),
            }
        }
    })
}

fn server(report: &Report) -> &BackendCounts {
    &report.backends[0]
}

#[test]
fn callers_of_exponential_patience_leave_in_the_share_of_m_m_1_m() {
    // Birth and death (Kleinrock 3.1): the one call in service may leave, too. With n calls in the system, calls
    // therefore end at the rate mu + n theta. With theta = mu and a = lambda / mu, p_n is p_0 a^n / (n + 1)!, and p_0 =
    // a / (e^a - 1).
    let a = 2.0_f64;
    let idle = a / (a.exp() - 1.0);
    let leave = 1.0 - (1.0 - idle) / a;
    let reports = runs(open(20_000.0, a * MU), |sim| Ok(impatient(sim, Latency::exponential(SERVICE))));
    agree("the share that leaves", &reports, leave, 0.02, |report| {
        share(server(report).abandoned, server(report).received)
    });
    agree("the utilization", &reports, 1.0 - idle, 0.027, |report| server(report).utilization.unwrap());
    // Callers leave at the rate theta L, with the mean number L. So L is a times the share that leaves.
    agree("the mean number", &reports, a * leave, 0.055, |report| {
        server(report).mean_busy + server(report).mean_waiting
    });
}

#[test]
fn callers_of_fixed_patience_leave_in_the_share_of_m_m_1_d() {
    // D. Y. Barrer, "Queuing with impatient customers and ordered service", Operations Research 5, 1957. The patience
    // tau of a caller also ends its service. The work V in the system is then that of a finite dam: after each arrival
    // it is min(V + S, tau), with the service time S. Its distribution is that of M/M/1 given that it is below tau.
    // With lambda = mu and k = mu tau it is (1 + mu x) / (1 + k).
    let k = 4.0;
    let reports = runs(open(30_000.0, MU), |sim| Ok(impatient(sim, Latency::fixed(ms(4)))));
    // The share that leaves is P(V + S > tau), which here equals P(V = 0).
    let leave = 1.0 / (1.0 + k);
    agree("the share that leaves", &reports, leave, 0.08, |report| {
        share(server(report).abandoned, server(report).received)
    });
    agree("the utilization", &reports, 1.0 - leave, 0.016, |report| server(report).utilization.unwrap());
    // Little's law for the wait, which is V: each caller reaches the server before tau.
    agree("the waiting calls", &reports, k * k / (2.0 * (1.0 + k)), 0.065, |report| server(report).mean_waiting);
}
