//! E6: who is served by a queue to which twice as much comes as its server can do.

use crate::{
    finding::{Anchor, Finding, ToCome},
    lab::{Lab, secs},
    queues::{DEADLINE, Discipline, MEAN_SERVICE, Queued},
};
use std::time::Duration;
use steadfast::{
    ConfigError,
    sim::{Backend, Latency, Load, Scenario},
};

const LENGTH: Duration = secs(20);
/// Most in the queue. The published p99 of FIFO, 2.13 s, is the wait behind so many calls of 2 ms each.
const BOUND: usize = 1_000;

/// The disciplines, with what was published: useful answers per second, and the p99 of the served in milliseconds.
pub const PUBLISHED: [(&str, Discipline, [f64; 2]); 6] = [
    ("FIFO", Discipline::Fifo, [5.0, 2_133.0]),
    ("FIFO, expired dropped", Discipline::FifoWithoutTheExpired, [410.0, 106.0]),
    ("LIFO", Discipline::Lifo, [489.0, 242.0]),
    ("Facebook CoDel", Discipline::FacebookCodel, [478.0, 103.0]),
    ("folly CoDel", Discipline::FollyCodel, [497.0, 95.0]),
    ("adaptive LIFO + CoDel", Discipline::AdaptiveLifoWithCodel, [495.0, 78.0]),
];

pub fn run(lab: &Lab) -> Result<Vec<Finding>, ConfigError> {
    let mut means = Vec::new();
    for (_, discipline, _) in PUBLISHED {
        // In a run of the oldest first only the first hundred calls are of use, and of the newest first those decide on the
        // p99 that come back to a queue once it is short: ten such runs differ from ten others by a tenth.
        let seeds = match discipline {
            Discipline::Fifo => 100,
            Discipline::Lifo => 40,
            _ => lab.count(10, 4),
        };
        means.push(lab.mean(0..seeds, |seed| served(seed, discipline))?);
    }
    let published = |number: usize| PUBLISHED.map(|(_, _, numbers)| numbers[number]);
    Ok(vec![Finding {
        id: "E6",
        what: "queue before one server: 1000/s come, 500/s can be served, in 100 ms; FIFO, FIFO with the expired dropped, \
               LIFO, Facebook CoDel, folly CoDel, adaptive LIFO + CoDel",
        anchors: vec![
            Anchor::column("useful/s", published(0), &means, 0),
            Anchor::column("p99 in ms", published(1), &means, 1),
        ],
        figures: Vec::new(),
        to_come: Some(ToCome {
            anchor: "",
            reach: "useful ≥ 0.998 of the served, server busy ≥ 0.998, p99 ≤ 60 ms; the same at 5x",
        }),
    }])
}

/// Useful answers per second, and the p99 of all answers in milliseconds.
pub fn served(seed: u64, discipline: Discipline) -> Result<[f64; 2], ConfigError> {
    let load = Load::poisson(1_000.0).in_time(DEADLINE);
    // Whoever still waits when the last call has come is not served any more.
    let report = Scenario::new(load).length(LENGTH).settle_within(Duration::ZERO).seed(seed).run(|sim| {
        let server = sim.backend(Backend::new(Latency::exponential(MEAN_SERVICE)).servers(1));
        Ok(Queued::new(sim, discipline, BOUND, server))
    })?;
    let (useful, p99) = report.classes.iter().fold((0, 0.0), |_, class| (class.in_time, class.latency.p99));
    Ok([useful as f64 / LENGTH.as_secs_f64(), p99 * 1e3])
}
