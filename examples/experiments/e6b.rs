//! E6b: how many calls does a queue needlessly refuse?

use crate::{
    finding::{Anchor, Bound, Figure, Finding},
    lab::{Client, Lab, amplification, ms, secs, settled},
    queues::{DEADLINE, Discipline, Queued, WithDeadline, adaptive, level, levelled},
};
use std::time::Duration;
use steadfast::{
    ConfigError,
    load_level::Queue,
    sim::{Backend, BackendService, Latency, Load, Scenario, Sim},
};

const LENGTH: Duration = secs(60);
const SERVICE: Duration = ms(1);
/// The depth of a textbook queue, as in E6.
const BOUND: usize = 1_000;
/// 90% and 95% of the server's capacity.
const LOADS: [f64; 2] = [900.0, 950.0];

pub fn run(lab: &Lab) -> Result<Vec<Finding>, ConfigError> {
    let exponential = Latency::exponential(SERVICE);
    let anchors = lab.beyond_a_glance(|| {
        let folly = textbook(lab, Discipline::FollyCodel, exponential)?;
        let adaptive = textbook(lab, Discipline::AdaptiveLifoWithCodel, exponential)?;
        Ok(vec![
            Anchor::column("folly CoDel", [0.014, 0.032], &folly, 0),
            Anchor::column("adaptive LIFO + CoDel", [0.020, 0.040], &adaptive, 0),
        ])
    })?;
    let wanted = [Bound::AtMost(0.0015), Bound::AtMost(0.006)];
    let length = lab.length(LENGTH, secs(12));
    let mut figures = Vec::new();
    let fixed = Latency::fixed(SERVICE);
    for (name, latency, queue) in [
        ("exponential service", exponential, level as fn(usize) -> Result<Queue, ConfigError>),
        ("fixed service", fixed, level),
        ("depth found: exponential service", exponential, adaptive),
        ("depth found: fixed service", fixed, adaptive),
    ] {
        let mut ours = Vec::new();
        for rps in LOADS {
            let run = |seed| {
                shed(seed, length, rps, latency, |sim, server| {
                    Ok(WithDeadline(DEADLINE, levelled(sim, queue(1)?, server)))
                })
            };
            ours.push(lab.means(lab.count(10, 3, 1), run)?);
        }
        figures.push(Figure::column(name, wanted, &ours, 0));
    }
    Ok(vec![Finding {
        id: "E6b",
        what: "the queues of E6 at 90% and 95% load: needlessly shed",
        anchors,
        figures,
        to_come: None,
    }])
}

fn textbook(lab: &Lab, discipline: Discipline, latency: Latency) -> Result<[[f64; 1]; 2], ConfigError> {
    let mean = |rps| {
        lab.mean(0..lab.count(10, 4, 0), |seed| {
            shed(seed, LENGTH, rps, latency, |sim, server| Ok(Queued::new(sim, discipline, BOUND, 1, server)))
        })
    };
    Ok([mean(LOADS[0])?, mean(LOADS[1])?])
}

/// Returns the share of the calls that did not reach the server.
fn shed<S: Client>(
    seed: u64,
    length: Duration,
    rps: f64,
    latency: Latency,
    client: impl FnOnce(&Sim, BackendService) -> Result<S, ConfigError>,
) -> Result<[f64; 1], ConfigError> {
    let load = Load::poisson(rps).in_time(DEADLINE);
    let report = Scenario::new(load).length(length).seed(seed).run(|sim| {
        let server = sim.backend(Backend::new(latency).servers(1));
        client(sim, server)
    })?;
    Ok([1.0 - amplification(&settled(report)?)])
}
