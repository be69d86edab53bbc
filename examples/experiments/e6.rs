//! E6: who is served by a queue to which more comes than its server can do.

use crate::{
    finding::{Anchor, Bound, Figure, Finding},
    lab::{Client, Lab, ms, secs, settled},
    queues::{DEADLINE, Discipline, Queued, WithDeadline, level, levelled},
};
use std::time::Duration;
use steadfast::{
    ConfigError,
    sim::{Backend, BackendService, Latency, Load, Report, Scenario, Sim},
};

pub const LENGTH: Duration = secs(20);
/// How long the server takes for a call on average.
const MEAN_SERVICE: Duration = ms(2);
/// Most in the queue of a textbook. The published p99 of FIFO, 2.13 s, is the wait behind so many calls of 2 ms each.
const BOUND: usize = 1_000;
/// Twice what the server can do, and ten times.
const LOADS: [f64; 2] = [1_000.0, 5_000.0];

/// The disciplines, with what was published: useful answers per second, and the p99 of the served in milliseconds.
pub const PUBLISHED: [(&str, Discipline, [f64; 2]); 6] = [
    ("FIFO", Discipline::Fifo, [5.0, 2_133.0]),
    (
        "FIFO, expired dropped",
        Discipline::FifoWithoutTheExpired { deadline: DEADLINE, service: MEAN_SERVICE },
        [410.0, 106.0],
    ),
    ("LIFO", Discipline::Lifo, [489.0, 242.0]),
    ("Facebook CoDel", Discipline::FacebookCodel, [478.0, 103.0]),
    ("folly CoDel", Discipline::FollyCodel, [497.0, 95.0]),
    ("adaptive LIFO + CoDel", Discipline::AdaptiveLifoWithCodel, [495.0, 78.0]),
];

pub fn run(lab: &Lab) -> Result<Vec<Finding>, ConfigError> {
    let anchors = lab.beyond_a_glance(|| {
        let mut means = Vec::new();
        for (_, discipline, _) in PUBLISHED {
            // In a run of the oldest first only the first hundred calls are of use, and of the newest first those decide on
            // the p99 that come back to a queue once it is short: ten such runs differ from ten others by a tenth.
            let seeds = match discipline {
                Discipline::Fifo => 100,
                Discipline::Lifo => 40,
                _ => lab.count(10, 4, 0),
            };
            means.push(lab.mean(0..seeds, |seed| textbook(seed, discipline))?);
        }
        let published = |number: usize| PUBLISHED.map(|(_, _, numbers)| numbers[number]);
        Ok(vec![
            Anchor::column("useful/s", published(0), &means, 0),
            Anchor::column("p99 in ms", published(1), &means, 1),
        ])
    })?;
    let length = lab.length(LENGTH, secs(5));
    let mut ours = Vec::new();
    for rps in LOADS {
        ours.push(lab.means(lab.count(10, 3, 1), |seed| steadfast(seed, length, rps))?);
    }
    Ok(vec![Finding {
        id: "E6",
        what: "queue before one server: 1000/s come, 500/s can be served, in 100 ms; FIFO, FIFO with the expired dropped, \
               LIFO, Facebook CoDel, folly CoDel, adaptive LIFO + CoDel; load leveling as it is by default, also at 5000/s",
        anchors,
        figures: vec![
            Figure::column("useful of the served", [Bound::AtLeast(0.998); 2], &ours, 2),
            Figure::column("server busy", [Bound::AtLeast(0.998); 2], &ours, 3),
            Figure::column("p99 in ms", [Bound::AtMost(60.0); 2], &ours, 1),
            Figure::column("useful/s", [Bound::Free; 2], &ours, 0),
        ],
        to_come: None,
    }])
}

/// What a textbook queue does at 1000 calls per second.
pub fn textbook(seed: u64, discipline: Discipline) -> Result<[f64; 4], ConfigError> {
    // Those that still wait when the last call has come are not served any more.
    let queue = |sim: &Sim, server| Ok(Queued::new(sim, discipline, BOUND, 1, server));
    summary(LENGTH, &served(seed, LENGTH, Duration::ZERO, LOADS[0], queue)?)
}

/// What the queue of this crate does.
pub fn steadfast(seed: u64, length: Duration, rps: f64) -> Result<[f64; 4], ConfigError> {
    let queue = |sim: &Sim, server| Ok(WithDeadline(DEADLINE, levelled(sim, level(1)?, server)));
    summary(length, &served(seed, length, secs(10), rps, queue)?)
}

/// Useful answers per second, the p99 of all answers in milliseconds, the share of the served that was of use, and the
/// share of the time in which the server was at work.
fn summary(length: Duration, report: &Report) -> Result<[f64; 4], ConfigError> {
    let (useful, p99) = report
        .classes
        .iter()
        .fold((0, 0.0), |_, class| (class.in_time, class.latency.map_or(f64::INFINITY, |latency| latency.p99)));
    let (served, busy) =
        report.backends.iter().fold((0, 0.0), |_, server| (server.answered + server.wasted, server.mean_busy));
    let length = length.as_secs_f64();
    Ok([useful as f64 / length, p99 * 1e3, useful as f64 / served as f64, busy])
}

fn served<S: Client>(
    seed: u64,
    length: Duration,
    settle_within: Duration,
    rps: f64,
    client: impl FnOnce(&Sim, BackendService) -> Result<S, ConfigError>,
) -> Result<Report, ConfigError> {
    let load = Load::poisson(rps).in_time(DEADLINE);
    let scenario = Scenario::new(load).length(length).settle_within(settle_within).seed(seed);
    settled(scenario.run(|sim| {
        let server = sim.backend(Backend::new(Latency::exponential(MEAN_SERVICE)).servers(1));
        client(sim, server)
    })?)
}
