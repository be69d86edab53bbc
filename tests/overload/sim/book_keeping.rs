//! Properties of every kind of scenario: one seed gives one report, and no call gets lost.

use super::{ms, secs};
use std::{sync::LazyLock, time::Duration};
use steadfast::{
    ConfigError, Criticality,
    circuit_breaker::Breaker,
    load_shed::Limiter,
    rate_limit::TokenBucket,
    retry::{Backoff, Retry, RetryBudget},
    sim::{Backend, BackendCounts, ClassReport, Latency, Link, Load, Report, Scenario, Sim},
};

const LENGTH: Duration = secs(4);

/// A report of each kind.
static REPORTS: LazyLock<Vec<(&str, Report)>> =
    LazyLock::new(|| kinds().into_iter().map(|(kind, run)| (kind, run(7).unwrap())).collect());

/// One run of each kind, by name.
fn kinds() -> Vec<(&'static str, fn(u64) -> Result<Report, ConfigError>)> {
    vec![
        ("poisson", |seed| run(seed, Load::poisson(200.0), backend())),
        ("constant", |seed| run(seed, Load::constant(200.0), backend())),
        ("closed", |seed| run(seed, Load::closed(20, ms(50)), backend())),
        ("spike and ramp", |seed| {
            let load = Load::poisson(50.0).spike(secs(1), ms(1_500), 900.0).ramp(ms(2_000), ms(3_500), 0.0, 400.0);
            run(seed, load, backend())
        }),
        ("classes", |seed| {
            let batch = Load::constant(30.0).named("batch").criticality(Criticality::Sheddable).keys(7);
            let scenario = Scenario::new(Load::poisson(100.0)).and(batch).and(Load::closed(3, ms(100)).named("loop"));
            scenario.seed(seed).length(LENGTH).run(|sim| Ok(sim.backend(backend())))
        }),
        ("overload, oldest first", |seed| run(seed, Load::poisson(500.0).in_time(ms(100)), backend().servers(4))),
        ("overload, newest first", |seed| {
            run(seed, Load::poisson(500.0).in_time(ms(100)), backend().servers(4).newest_first())
        }),
        ("bounded queue", |seed| run(seed, Load::poisson(500.0), backend().servers(4).queue_bound(5))),
        ("failing", |seed| run(seed, Load::poisson(200.0), backend().failing(0.4))),
        ("dead keys", |seed| run(seed, Load::poisson(200.0).keys(5), backend().dead_keys(1..3))),
        ("outage", |seed| run(seed, Load::poisson(200.0), backend().outage(secs(1)..ms(2_500)))),
        ("slow", |seed| run(seed, Load::poisson(200.0), backend().slow(secs(1)..ms(2_500), 20.0))),
        ("hang", |seed| run(seed, Load::poisson(200.0), backend().hang(secs(1)..ms(2_500)))),
        ("log-normal", |seed| run(seed, Load::poisson(200.0), Backend::new(Latency::log_normal(ms(10), 1.5)))),
        ("normal", |seed| run(seed, Load::poisson(200.0), Backend::new(Latency::normal(ms(10), ms(10))))),
        ("collapse", |seed| {
            let backend = Backend::new(Latency::growing_with_in_flight(ms(50), ms(2)));
            through(seed, Load::poisson(100.0), backend.outage(ms(1_500)..secs(2)))
        }),
        ("stack", |seed| through(seed, Load::poisson(200.0), backend().servers(4).failing(0.2))),
        ("stack, and a backend that notices", |seed| {
            through(seed, Load::poisson(600.0), backend().servers(4).notices_cancellation())
        }),
        ("many clients", |seed| {
            Scenario::new(Load::poisson(200.0)).seed(seed).length(LENGTH).run_clients(|sim| {
                let service = sim.backend(backend().failing(0.3));
                (0..20).map(|_| steadfast::client().retry(retry(sim)?).service(service.clone())).collect()
            })
        }),
        ("no time to settle", |seed| {
            let scenario = Scenario::new(Load::poisson(500.0)).seed(seed).length(LENGTH);
            scenario.settle_within(Duration::ZERO).run(|sim| Ok(sim.backend(backend().servers(2))))
        }),
    ]
}

fn backend() -> Backend {
    Backend::new(Latency::exponential(ms(20)))
}

fn retry(sim: &Sim) -> Result<Retry, ConfigError> {
    let budget = RetryBudget::builder().random(sim.random()).build()?;
    Ok(Retry::new(3).backoff(Backoff::exponential(ms(10), ms(100))).budget(budget).random(sim.random()))
}

fn run(seed: u64, load: Load, backend: Backend) -> Result<Report, ConfigError> {
    Scenario::new(load).seed(seed).length(LENGTH).run(|sim| Ok(sim.backend(backend)))
}

/// Calls through a client with most of its layers, and through a server with a limit and a timeout.
fn through(seed: u64, load: Load, backend: Backend) -> Result<Report, ConfigError> {
    Scenario::new(load).seed(seed).length(LENGTH).run(|sim| {
        let handler = sim.backend(backend);
        let server = steadfast::server().load_shed(Limiter::fixed(60)?).timeout(ms(500)).service(handler)?;
        steadfast::client()
            .timeout(secs(2))
            .retry(retry(sim)?)
            .circuit_breaker(Breaker::builder().build()?)
            .rate_limit(TokenBucket::builder(400, secs(1)).build()?)
            .attempt_timeout(ms(250))
            .keep_error()
            .service(Link::new(sim, Latency::exponential(ms(5)), server))
    })
}

#[test]
fn the_same_seed_gives_the_same_report_byte_for_byte() {
    for ((kind, run), (_, first)) in kinds().into_iter().zip(&*REPORTS) {
        let second = run(7).unwrap();
        assert_eq!(serde_json::to_string(first).unwrap(), serde_json::to_string(&second).unwrap(), "{kind}");
        assert_eq!(first.to_string(), second.to_string(), "{kind}");
    }
}

#[test]
fn another_seed_gives_another_report() {
    // Compares the backends: all of their latencies are random, even where the load is constant.
    for ((kind, run), (_, report)) in kinds().into_iter().zip(&*REPORTS) {
        assert_ne!(report.backends, run(8).unwrap().backends, "{kind}");
    }
}

#[test]
fn every_call_is_accounted_for() {
    for (kind, report) in &*REPORTS {
        for ClassReport { name, offered, in_time, late, failed, rejected, unanswered, .. } in &report.classes {
            let rejected: u64 = rejected.values().sum();
            assert!(*offered > 0, "{kind}: nothing of {name}");
            assert_eq!(*offered, in_time + late + failed + rejected + unanswered, "{kind}, {name}\n{report}");
        }
        let (offered, in_time) = report.spans.iter().fold((0, 0), |(all, good), span| {
            assert!(span.in_time <= span.offered, "{kind}: {span:?}");
            (all + span.offered, good + span.in_time)
        });
        assert_eq!(offered, report.offered(), "{kind}");
        for ClassReport { name, offered, in_time, spans, .. } in &report.classes {
            assert_eq!(*offered, spans.iter().map(|span| span.offered).sum::<u64>(), "{kind}, {name}");
            assert_eq!(*in_time, spans.iter().map(|span| span.in_time).sum::<u64>(), "{kind}, {name}");
        }
        assert_eq!(in_time, report.classes.iter().map(|class| class.in_time).sum::<u64>(), "{kind}");
    }
}

#[test]
fn every_call_that_reached_a_backend_is_accounted_for() {
    for (kind, report) in &*REPORTS {
        for BackendCounts { name, received, answered, refused, wasted, abandoned, in_flight, .. } in &report.backends {
            assert!(*received > 0, "{kind}: nothing came to {name}");
            assert_eq!(*received, answered + refused + wasted + abandoned + in_flight, "{kind}, {name}\n{report}");
        }
    }
}

#[test]
fn calls_without_time_to_end_are_unanswered() {
    let (_, report) = REPORTS.iter().find(|(kind, _)| *kind == "no time to settle").unwrap();
    // Two servers of 20 ms do 100 of 500 calls per second.
    let unanswered = report.classes[0].unanswered as f64 / report.offered() as f64;
    assert!((0.75..0.85).contains(&unanswered), "{report}");
}
