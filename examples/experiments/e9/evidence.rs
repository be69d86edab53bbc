//! Which share of failures opens the circuit of one shard, and which endings of a call are failures.

use super::{MINIMUM, SHARDS, THRESHOLD, WINDOW, a_breaker, refused};
use crate::{
    finding::{Bound, Figure},
    lab::{Lab, ms, secs},
};
use std::{cell::Cell, rc::Rc, time::Duration};
use steadfast::{
    ConfigError, Outcome,
    circuit_breaker::{Breaker, BreakerState},
    sim::{Backend, Call, Failure, Latency, Load, Reply, Scenario, Sim},
};
use tower::{ServiceExt, service_fn};

/// The calls per second to each shard, and the minimum of calls. With 20 calls chance decides. With 500 calls, a share
/// of 0.15 is three standard deviations above the threshold, and 0.05 is five below it.
const RPS: f64 = 100.0;
const MANY: u32 = 500;

/// The shares of failures, or of overload answers, of the four shards.
const ABOVE: f64 = 1.5 * THRESHOLD;
const BELOW: f64 = 0.5 * THRESHOLD;
const OVERLOADED: f64 = 0.3;

/// The calls per second to the hanging shard, as many as to each shard in the outage; and its attempt timeout.
const RPS_TO_HANGING: f64 = 100.0 / SHARDS as f64;
const PATIENCE: Duration = ms(500);
/// The calls that arrive at it within an attempt timeout.
const IN_FLIGHT: f64 = RPS_TO_HANGING * PATIENCE.as_millis() as f64 / 1000.0;

pub fn figures(lab: &Lab, seeds: u64) -> Result<Vec<Figure>, ConfigError> {
    let opened = lab.worst(seeds, shares)?;
    let within_a_window = Bound::AtMost(WINDOW.as_secs_f64());
    let never = Bound::AtMost(0.0);
    let hanging = lab.worst(seeds, hanging)?;
    // The circuit opens when the minimum of calls has timed out. Later calls are still in flight.
    let sent = Bound::Within(f64::from(MINIMUM), f64::from(MINIMUM) + IN_FLIGHT);
    Ok(vec![
        Figure::new(
            "of at least 500 calls 15% fail: s until it opens; 5% fail: refused; 30% are overload answers: refused; if these \
             are failures: s until it opens",
            [within_a_window, never, never, within_a_window],
            opened,
        ),
        Figure::new("a shard hangs, attempts of .5 s: calls sent before it opens", [sent], hanging),
    ])
}

/// Calls four shards with a breaker each. Returns when the circuits opened that had to open, and the refused share of
/// the calls for the others.
fn shares(seed: u64) -> Result<[f64; 4], ConfigError> {
    let opened = Rc::new([const { Cell::new(f64::INFINITY) }; 4]);
    let noted = opened.clone();
    let load = |name: &str| Load::poisson(RPS).named(name);
    let scenario = Scenario::new(load("above")).and(load("below")).and(load("overloaded")).and(load("as failures"));
    let report = scenario.length(secs(60)).seed(seed).run(|sim| {
        let mut guarded = Vec::new();
        for (shard, share) in [ABOVE, BELOW, OVERLOADED, OVERLOADED].into_iter().enumerate() {
            let breaker =
                a_breaker().minimum_calls(MANY).overload_is_failure(shard == 3).random(sim.random()).build()?;
            sim.spawn(note_opening(sim.clone(), breaker.clone(), noted.clone(), shard));
            let failure = if shard < 2 { Failure::Failed } else { Failure::Overloaded };
            let backend = sim.backend(Backend::new(Latency::fixed(ms(1))).failing(share)).map_err(move |_| failure);
            guarded.push(steadfast::client().circuit_breaker(breaker).classify(outcome).service(backend)?);
        }
        let guarded: Rc<[_]> = guarded.into();
        Ok(service_fn(move |call: Call| guarded[call.class].clone().oneshot(call)))
    })?;
    let [above, _, _, as_failures] = &*opened;
    Ok([above.get(), refused(&report.classes[1..2]), refused(&report.classes[2..3]), as_failures.get()])
}

fn outcome(result: Result<&Reply, &Failure>) -> Outcome {
    match result {
        Ok(Reply) => Outcome::Success,
        Err(Failure::Overloaded) => Outcome::Overloaded { retry_after: None },
        Err(_) => Outcome::Failure,
    }
}

async fn note_opening(sim: Sim, breaker: Breaker, opened: Rc<[Cell<f64>; 4]>, shard: usize) {
    while breaker.state() == BreakerState::Closed && sim.elapsed() < secs(60) {
        sim.sleep(ms(10)).await;
    }
    if breaker.state() != BreakerState::Closed {
        opened[shard].set(sim.elapsed().as_secs_f64());
    }
}

/// Calls a shard that answers no call, until its circuit is open. The run ends before the first probe.
fn hanging(seed: u64) -> Result<[f64; 1], ConfigError> {
    let length = secs(5);
    let report = Scenario::new(Load::constant(RPS_TO_HANGING)).length(length).seed(seed).run(|sim| {
        let backend = sim.backend(Backend::new(Latency::fixed(ms(1))).hang(Duration::ZERO..length));
        let breaker = a_breaker().random(sim.random()).build()?;
        steadfast::client().circuit_breaker(breaker).attempt_timeout(PATIENCE).service(backend)
    })?;
    Ok([report.backends[0].received as f64])
}
