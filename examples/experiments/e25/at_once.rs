//! Calls that no further attempt can help: does the caller get the answer at once?

use super::{ATTEMPTS, LATENCY, OPEN, PROBES, RPS};
use crate::{
    finding::{Bound, Figure},
    lab::{Client, Lab, secs},
};
use std::{rc::Rc, time::Duration};
use steadfast::{
    ConfigError, Outcome,
    circuit_breaker::Breaker,
    retry::{Backoff, Retry},
    sim::{Backend, Call, ClassReport, Failure, Latencies, Latency, Load, Reply, Scenario, Sim},
};
use tower::{ServiceExt, service_fn};

/// The longest wait named by a service that the retry accepts.
const LONGEST_HINT: Duration = secs(1);

pub fn figures(lab: &Lab, seeds: u64) -> Result<Vec<Figure>, ConfigError> {
    let latency = LATENCY.as_secs_f64();
    let dying = lab.worst(seeds, dying)?;
    let asked = lab.worst(seeds, asked_to_stay_away)?;
    let hint = LONGEST_HINT.as_secs_f64();
    let retried = f64::from(ATTEMPTS) * latency + f64::from(ATTEMPTS - 1) * hint;
    Ok(vec![
        Figure::new("a service that fails opens the circuit: the longest call, s", [exactly(latency)], dying),
        Figure::new(
            "the service names a wait of 2 s, the longest is 1 s: the longest call, s; it names 1 s: the mean call, s",
            [exactly(latency), exactly(retried)],
            asked,
        ),
    ])
}

/// A report is precise to a thousandth.
fn exactly(seconds: f64) -> Bound {
    Bound::Within(seconds * 0.999, seconds * 1.001)
}

/// Calls a service whose calls all fail, each after [`LATENCY`]. The first failure opens the circuit, and so does each
/// failed probe. A call in flight then ends with its first answer, because its stack would refuse a retry.
fn dying(seed: u64) -> Result<[f64; 1], ConfigError> {
    let report = Scenario::new(Load::poisson(RPS)).length(secs(15)).seed(seed).run(|sim| {
        let backend = sim.backend(Backend::new(Latency::fixed(LATENCY)).failing(1.0));
        let breaker = Breaker::builder().consecutive_failures(1).open_for(OPEN).probes(PROBES);
        let breaker = breaker.random(sim.random()).build()?;
        let retry = Retry::new(ATTEMPTS).without_budget().random(sim.random());
        steadfast::client().retry(retry).circuit_breaker(breaker).service(backend)
    })?;
    let [calls] = &report.classes[..] else { return Ok([f64::NAN]) };
    let longest = |latency: Option<Latencies>| latency.map_or(0.0, |latency| latency.max);
    let unanswered = if calls.unanswered == 0 { 0.0 } else { f64::INFINITY };
    Ok([longest(calls.latency_of_failed).max(longest(calls.latency_of_rejected)).max(unanswered)])
}

/// Calls two overloaded services that name a wait. The wait of the first is above the maximum; that of the second
/// equals it. Returns the longest call to the first, and the mean of the calls to the second.
fn asked_to_stay_away(seed: u64) -> Result<[f64; 2], ConfigError> {
    let load = |name: &str| Load::poisson(RPS / 2.0).named(name);
    let report = Scenario::new(load("too long")).and(load("as long")).length(secs(15)).seed(seed).run(|sim| {
        let clients: Rc<[_]> = Rc::new([overloaded(sim, 2 * LONGEST_HINT)?, overloaded(sim, LONGEST_HINT)?]);
        Ok(service_fn(move |call: Call| clients[call.class].clone().oneshot(call)))
    })?;
    let failed = |class: &ClassReport| class.latency_of_failed.filter(|_| class.unanswered == 0);
    let [too_long, as_long] = &report.classes[..] else { return Ok([f64::NAN; 2]) };
    Ok([
        failed(too_long).map_or(f64::NAN, |latency| latency.max),
        failed(as_long).map_or(f64::NAN, |latency| latency.mean),
    ])
}

/// A client of a service that answers each call, after [`LATENCY`], with a wait.
fn overloaded(sim: &Sim, wait: Duration) -> Result<impl Client + use<>, ConfigError> {
    let backend = sim.backend(Backend::new(Latency::fixed(LATENCY)).failing(1.0));
    let retry = Retry::new(ATTEMPTS).backoff(Backoff::none()).max_hint(LONGEST_HINT).without_budget();
    let outcome = move |_: Result<&Reply, &Failure>| Outcome::Overloaded { retry_after: Some(wait) };
    steadfast::client().retry(retry.random(sim.random())).classify(outcome).service(backend)
}
