//! E6: whom does a queue serve when more calls arrive than its server can process?

use crate::{
    finding::{Anchor, Bound, Figure, Finding},
    lab::{Client, Lab, ms, secs, settled},
    queues::{DEADLINE, Discipline, Queued, WithDeadline, adaptive, level, levelled},
};
use std::{
    cell::Cell,
    future::{Future, poll_fn},
    pin::pin,
    rc::Rc,
    task::Poll,
    time::Duration,
};
use steadfast::{
    ConfigError, Error, load_level,
    sim::{Backend, BackendService, Call, Failure, Latency, Load, Report, Scenario, Sim},
};
use tower::{ServiceExt, service_fn};

pub const LENGTH: Duration = secs(20);
/// The mean service time.
const MEAN_SERVICE: Duration = ms(2);
/// The bound of a textbook queue. The published p99 of FIFO, 2.13 s, is the wait behind 1,000 calls of 2 ms each.
const BOUND: usize = 1_000;
/// Twice the capacity of the server, and ten times.
const LOADS: [f64; 2] = [1_000.0, 5_000.0];

/// The disciplines, with the published numbers: useful answers per second, and the p99 of the served calls in
/// milliseconds.
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
            // In a FIFO run only the first hundred calls are useful. In a LIFO run the p99 depends on the calls that
            // leave a queue once it is short. Ten such runs differ from ten others by a tenth.
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
    let (mut ours, mut adapted) = (Vec::new(), Vec::new());
    for rps in LOADS {
        ours.push(lab.means(lab.count(10, 3, 1), |seed| steadfast(seed, length, rps))?);
        adapted.push(lab.means(lab.count(10, 3, 1), |seed| with_queue(seed, length, rps, adaptive))?);
    }
    let deep = lab.worst(lab.count(10, 3, 1), most_waiting)?;
    let lost = lab.worst(lab.count(10, 3, 1), lost_places)?;
    Ok(vec![Finding {
        id: "E6",
        what: "queue before one server: 1000/s come, 500/s can be served, in 100 ms; FIFO, FIFO with the expired dropped, \
               LIFO, Facebook CoDel, folly CoDel, adaptive LIFO + CoDel; load leveling as it is by default, also at 5000/s, and with a depth that it finds by itself",
        anchors,
        figures: vec![
            Figure::column("useful of the served", [Bound::AtLeast(0.998); 2], &ours, 2),
            Figure::column("server busy", [Bound::AtLeast(0.998); 2], &ours, 3),
            Figure::column("p99 in ms", [Bound::AtMost(60.0); 2], &ours, 1),
            Figure::column("useful/s", [Bound::Free; 2], &ours, 0),
            Figure::column("depth found: useful of the served", [Bound::AtLeast(0.998); 2], &adapted, 2),
            Figure::column("depth found: server busy", [Bound::AtLeast(0.998); 2], &adapted, 3),
            Figure::column("depth found: p99 in ms", [Bound::AtMost(60.0); 2], &adapted, 1),
            Figure::column("depth found: useful/s", [Bound::Free; 2], &adapted, 0),
            Figure::new("a depth of 20 at 5000/s: most who wait", [Bound::Within(20.0, 20.0)], deep),
            Figure::new("callers leave when their turn comes: places lost", [Bound::AtMost(0.0)], lost),
        ],
        to_come: None,
    }])
}

/// Simulates a textbook queue at 1000 calls per second.
pub fn textbook(seed: u64, discipline: Discipline) -> Result<[f64; 4], ConfigError> {
    // Calls that still wait when the last call has arrived are not served.
    let queue = |sim: &Sim, server| Ok(Queued::new(sim, discipline, BOUND, 1, server));
    summary(LENGTH, &served(seed, LENGTH, Duration::ZERO, LOADS[0], queue)?)
}

/// Simulates this crate's queue with its defaults.
pub fn steadfast(seed: u64, length: Duration, rps: f64) -> Result<[f64; 4], ConfigError> {
    with_queue(seed, length, rps, level)
}

fn with_queue(
    seed: u64,
    length: Duration,
    rps: f64,
    queue: impl Fn(usize) -> Result<load_level::Queue, ConfigError>,
) -> Result<[f64; 4], ConfigError> {
    let queue = |sim: &Sim, server| Ok(WithDeadline(DEADLINE, levelled(sim, queue(1)?, server)));
    summary(length, &served(seed, length, secs(10), rps, queue)?)
}

/// Returns the useful answers per second, the p99 of all answers in milliseconds, the share of the served calls that
/// was useful, and the share of the time in which the server worked.
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

/// Returns the most calls that wait in a queue of a small depth, at ten times the server's capacity. No call waits long
/// enough to be refused for its wait.
fn most_waiting(seed: u64) -> Result<[f64; 1], ConfigError> {
    const DEPTH: usize = 20;
    let most = Rc::new(Cell::new(0));
    let seen = most.clone();
    settled(Scenario::new(Load::poisson(LOADS[1])).length(secs(5)).seed(seed).run(|sim| {
        let server = sim.backend(Backend::new(Latency::fixed(MEAN_SERVICE)).servers(1));
        let queue = load_level::Queue::builder(1, DEPTH).build()?;
        let (looks, looked_at) = (sim.clone(), queue.clone());
        sim.spawn(async move {
            while looks.elapsed() < secs(5) {
                looks.sleep(ms(1)).await;
                seen.set(seen.get().max(looked_at.readings().waiting));
            }
        });
        Ok(WithDeadline(secs(1), levelled(sim, queue, server)))
    })?)?;
    Ok([most.get() as f64])
}

/// Returns the places of a queue that are still taken at the end of a run. Calls arrive, end and time out at multiples
/// of ten milliseconds, so callers often leave at the instant in which they are admitted.
fn lost_places(seed: u64) -> Result<[f64; 1], ConfigError> {
    let load = Load::constant(100.0).keys(8);
    let report = Scenario::new(load).length(secs(20)).seed(seed).run(|sim| {
        let server = sim.backend(Backend::new(Latency::fixed(ms(40))));
        let (sim, server) = (sim.clone(), levelled(sim, level(2)?, server));
        Ok(service_fn(move |call: Call| {
            let patience = ms(10) * (call.key as u32 + 1);
            let (left, answer) = (sim.sleep(patience), server.clone().oneshot(call));
            async move {
                let (mut left, mut answer) = (pin!(left), pin!(answer));
                poll_fn(|cx| match left.as_mut().poll(cx) {
                    Poll::Ready(()) => Poll::Ready(Err(Error::Service(Failure::Failed))),
                    Poll::Pending => answer.as_mut().poll(cx),
                })
                .await
            }
        }))
    })?;
    Ok([report.held.values().sum::<u64>() as f64])
}
