//! A limit that finds itself refuses nothing to a service that is well, and lets one that stood still come back.

use crate::support::{ms, secs};
use std::time::Duration;
use steadfast::{
    ConfigError,
    load_shed::Limiter,
    sim::{Backend, Latency, Link, Load, Report, Scenario},
};

const DEADLINE: Duration = Duration::from_millis(300);
const SEEDS: std::ops::Range<u64> = 0..3;

/// Callers on another machine, who give up at the deadline.
fn run(scenario: Scenario, service: Backend) -> Report {
    let client = |sim: &steadfast::sim::Sim| -> Result<_, ConfigError> {
        let limiter = Limiter::adaptive().deadline(DEADLINE).build()?;
        let server = steadfast::server().load_shed(limiter).service(sim.backend(service))?;
        let server = Link::new(sim, Latency::fixed(Duration::ZERO), server);
        steadfast::client().attempt_timeout(DEADLINE).keep_error().service(server)
    };
    scenario.run(client).unwrap()
}

fn of(load: Load, length: Duration, seed: u64) -> Scenario {
    Scenario::new(load.in_time(DEADLINE)).length(length).seed(seed)
}

#[test]
fn a_cold_start_of_a_service_that_is_well_refuses_nothing() {
    for seed in SEEDS {
        let parallel = run(of(Load::poisson(2000.0), secs(5), seed), Backend::new(Latency::exponential(ms(20))));
        parallel.assert_rejected_at_most("load_shed", 0.0);
        let workers = Backend::new(Latency::exponential(ms(10))).servers(10);
        run(of(Load::poisson(800.0), secs(5), seed), workers).assert_rejected_at_most("load_shed", 0.0);
    }
}

#[test]
fn a_few_calls_that_take_half_of_their_deadline_are_not_refused() {
    for seed in SEEDS {
        let scenario = of(Load::poisson(20.0), secs(300), seed).warm_up(secs(5));
        run(scenario, Backend::new(Latency::fixed(DEADLINE / 2))).assert_rejected_at_most("load_shed", 0.001);
    }
}

#[test]
fn a_service_that_was_idle_for_a_minute_refuses_nothing() {
    for seed in SEEDS {
        let load = Load::poisson(200.0).spike(secs(20), secs(80), 0.0).step(secs(80), 800.0);
        let service = Backend::new(Latency::exponential(ms(20)));
        run(of(load, secs(90), seed), service).assert_rejected_at_most("load_shed", 0.0);
    }
}

#[test]
fn bursts_to_an_idle_service_are_not_refused() {
    for latency in [ms(10), ms(100), DEADLINE / 2] {
        let bursts = (1..=12).map(|burst| secs(5 * burst));
        let load = bursts.fold(Load::constant(0.0), |load, at| load.spike(at, at + ms(1), 50_000.0));
        let report = run(of(load, secs(65), 0), Backend::new(Latency::fixed(latency)));
        assert!(report.offered() >= 12 * 49, "{report}");
        report.assert_rejected_at_most("load_shed", 0.0);
    }
}

#[test]
fn a_service_that_stood_still_for_ten_deadlines_is_back_within_two_seconds() {
    for seed in SEEDS {
        let workers = Backend::new(Latency::exponential(ms(10))).servers(10).hang(secs(10)..secs(13));
        let report = run(of(Load::poisson(800.0), secs(25), seed), workers);
        assert!(report.goodput_between(secs(10), secs(12)).unwrap() < 0.1, "it did not stand still\n{report}");
        let after = report.goodput_between(secs(15), secs(25)).unwrap();
        assert!(after >= 0.95, "{after} was answered in time after the standstill\n{report}");
    }
}
