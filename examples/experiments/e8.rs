//! E8: one limit for ten processes, which flush to a shared store each second.
//!
//! Windows are (t - W, t] from the start. Zipf's law distributes the demand over the nodes. The flushes have random
//! phases, and a jitter of a tenth. In an outage the store does not answer from 50 s to 150 s.
//!
//! Three further runs: the demand moves from node to node; half of the calls are refunded; the store recovers at the
//! worst instant for the busiest node.

use crate::{
    absent::Absent,
    finding::{Anchor, Bound, Figure, Finding},
    lab::{Lab, ms, secs},
    textbook,
};
use rand::{Rng, RngExt};
use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};
use steadfast::{
    ConfigError, Random,
    rate_limit::distributed::{Embedded, Leased},
};
use tokio::{
    runtime,
    task::{LocalSet, spawn_local},
    time::{Instant, sleep_until},
};

const NODES: usize = 10;
const LIMIT: u64 = 1000;
const WINDOW: Duration = secs(10);
const PERIOD: Duration = secs(1);
const LENGTH: Duration = secs(200);
/// A node asks just after another node if less time than this is between them: a tenth of the period.
const JUST: Duration = ms(100);
/// The limit in tokens per second.
const RATE: f64 = LIMIT as f64 / WINDOW.as_secs() as f64;

pub fn run(lab: &Lab) -> Result<Vec<Finding>, ConfigError> {
    let seeds = lab.count(5, 1, 1);
    let length = lab.length(LENGTH, secs(48));
    let run = |load: f64, outage: Outage| Run { load, length, outage, ..Run::default() };
    let ours = |run: Run| lab.means(seeds, |seed| run.summary(seed));
    let anchors = lab.beyond_a_glance(|| {
        let book = |load: f64, outage: bool| lab.mean(0..lab.count(5, 2, 0), |seed| Ok([batching(load, outage, seed)]));
        Ok(vec![Anchor {
            name: "the book's batching, demand 2x, 10x, 2x with an outage",
            published: vec![1.23, 1.83, 2.11],
            reproduced: vec![book(2.0, false)?[0], book(10.0, false)?[0], book(2.0, true)?[0]],
        }])
    })?;
    let (calm, flooded) = (ours(run(2.0, Outage::None))?, ours(run(10.0, Outage::None))?);
    let (cut_off, flooded_and_cut_off) = (ours(run(2.0, Outage::Half))?, ours(run(10.0, Outage::Half))?);
    // Not shortened at a glance: the first windows lose a larger share, which weighs more in a short run.
    let quiet = ours(Run { load: 0.9, ..Run::default() })?;
    let moving = Run { load: 0.9, moves: true, ..Run::default() };
    let moving = lab.means(seeds, |seed| Ok([moving.after_moves(seed)?]))?;
    let refunded = ours(Run { load: 4.0, refunds: true, ..Run::default() })?;
    let unlucky = Run { load: 10.0, length: secs(80), outage: Outage::UntilBusiestHasAsked, ..Run::default() };
    let runs = lab.count(20, 10, 3);
    let unlucky = lab.worst_with(runs, runs, |seed| Ok([unlucky.summary(seed)?[0]]))?;
    let worst = [&calm, &flooded, &cut_off, &flooded_and_cut_off];
    let kept = [&quiet, &calm, &flooded];
    let away = [&cut_off, &flooded_and_cut_off];
    Ok(vec![Finding {
        id: "E8",
        what: "distributed limit, 10 nodes, 1000 per 10 s, leased: worst true window over the limit",
        anchors,
        figures: vec![
            Figure::column(
                "at 2x, 10x, and with a store outage of 100 s",
                [1.01, 1.01, 1.02, 1.05].map(Bound::AtMost),
                &worst,
                0,
            ),
            Figure::column("share of what an exact log admits, at 0.9x, 2x, 10x", [Bound::AtLeast(0.88); 3], &kept, 1),
            Figure::column(
                "admitted while the store is away, of what an exact log admits, at 2x, 10x",
                [Bound::AtLeast(0.8); 2],
                &away,
                3,
            ),
            Figure::column("store operations per second", [Bound::AtMost(12.0); 3], &kept, 2),
            Figure::new(
                "0.9x at one node, then at the next: share of an exact log in the windows after nine moves",
                [Bound::AtLeast(0.88)],
                moving,
            ),
            Figure::column(
                "4x, half of it given back at once: share of an exact log",
                [Bound::AtLeast(0.88)],
                std::slice::from_ref(&refunded),
                1,
            ),
            Figure::column("its worst window over the limit", [Bound::AtMost(1.01)], &[refunded], 0),
            Figure::new(
                "10x, the store is back just when the busiest node has asked in vain: worst window of all runs",
                [Bound::AtMost(1.05)],
                unlucky,
            ),
        ],
        to_come: None,
    }])
}

/// The arrivals of a run, in seconds, each at a node.
fn arrivals(load: f64, length: Duration, random: &mut impl Rng) -> Vec<(f64, usize)> {
    let shares: Vec<f64> = (1..=NODES).map(|rank| 1.0 / rank as f64).collect();
    let sum: f64 = shares.iter().sum();
    let (mut at, mut arrivals) = (0.0, Vec::new());
    loop {
        at -= (1.0 - random.random::<f64>()).ln() / (load * RATE);
        if at > length.as_secs_f64() {
            return arrivals;
        }
        let mut left = random.random::<f64>() * sum;
        let node = shares.iter().position(|share| {
            left -= share;
            left <= 0.0
        });
        arrivals.push((at, node.unwrap_or(NODES - 1)));
    }
}

/// A run of the real engine on the embedded store.
#[derive(Clone, Copy)]
struct Run {
    /// The demand as a multiple of the limit.
    load: f64,
    length: Duration,
    outage: Outage,
    /// All demand is at one node at a time, for a tenth of the run at each node.
    moves: bool,
    /// Every other admitted call is refunded at once, as a call that was not made.
    refunds: bool,
}

#[derive(Clone, Copy, PartialEq)]
enum Outage {
    None,
    /// From a quarter to three quarters of the run.
    Half,
    /// From a quarter of the run until the busiest node has just asked without an answer. That node has spent most, and
    /// is then among the last to report. See [`StoreCalls::waits_for_busiest`].
    UntilBusiestHasAsked,
}

impl Default for Run {
    fn default() -> Self {
        Self { load: 1.0, length: LENGTH, outage: Outage::None, moves: false, refunds: false }
    }
}

/// The times of all calls, and of the admitted calls that were not refunded, in seconds; and the number of store
/// operations.
struct Log {
    asked: Vec<f64>,
    admitted: Vec<f64>,
    operations: u64,
}

impl Run {
    /// Returns the worst window as a multiple of the limit, the share of an exact log's admissions, the store
    /// operations per second, and that share during the outage in the middle of the run.
    fn summary(self, seed: u64) -> Result<[f64; 4], ConfigError> {
        let Log { asked, admitted, operations } = self.log(seed)?;
        let ideal = admitted_by_a_log(&asked);
        let in_the_middle = |instants: &[f64]| {
            instants.iter().filter(|at| is_out(Duration::from_secs_f64(**at), self.length)).count() as f64
        };
        let share = admitted.len() as f64 / ideal.len() as f64;
        let share_in_the_middle = in_the_middle(&admitted) / in_the_middle(&ideal);
        Ok([worst_window(&admitted), share, operations as f64 / self.length.as_secs_f64(), share_in_the_middle])
    }

    /// Returns the share of an exact log's admissions, in the windows after the moves.
    fn after_moves(self, seed: u64) -> Result<f64, ConfigError> {
        let Log { asked, admitted, .. } = self.log(seed)?;
        let ideal = admitted_by_a_log(&asked);
        let stay = self.length.as_secs_f64() / NODES as f64;
        let after = |instants: &[f64]| {
            let is_after = |at: &&f64| **at >= stay && **at % stay < WINDOW.as_secs_f64();
            instants.iter().filter(is_after).count() as f64
        };
        Ok(after(&admitted) / after(&ideal))
    }

    fn log(self, seed: u64) -> Result<Log, ConfigError> {
        let clock = runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        let clock = clock.map_err(|error| ConfigError::new("experiment.runtime", error, "must start"))?;
        let mut log = Log { asked: Vec::new(), admitted: Vec::new(), operations: 0 };
        LocalSet::new().block_on(&clock, async move {
            let start = Instant::now();
            let store = Embedded::new();
            let calls = StoreCalls {
                start,
                run: self,
                node: 0,
                busiest_asked: Arc::new(Mutex::new(start)),
                is_back: Arc::default(),
                operations: Arc::default(),
            };
            let random = Random::seeded(seed);
            let mut nodes = Vec::new();
            for node in 0..NODES {
                let calls = StoreCalls { node, ..calls.clone() };
                let store = Absent::new(store.clone(), move || calls.is_away());
                let builder = Leased::builder(store, LIMIT, WINDOW).flush_every(PERIOD).random(random.clone());
                let (limit, flusher) = builder.build()?;
                spawn_local(flusher.run());
                nodes.push(limit);
            }
            let arrivals = arrivals(self.load, self.length, &mut textbook::random(seed));
            for (number, (at, node)) in arrivals.into_iter().enumerate() {
                // Timers use whole milliseconds, and so do the arrivals.
                sleep_until(start + Duration::from_secs_f64(at)).await;
                let now = Instant::now().saturating_duration_since(start).as_secs_f64();
                let node = if self.moves { (at / self.length.as_secs_f64() * NODES as f64) as usize } else { node };
                let taken = nodes.get(node).and_then(|limit| Some((limit, limit.try_acquire(b"all", 1).ok()?)));
                if self.refunds && number % 2 == 1 {
                    if let Some((limit, spent)) = taken {
                        limit.refund(spent);
                    }
                    continue;
                }
                log.asked.push(now);
                log.admitted.extend(taken.map(|_| now));
            }
            log.operations = calls.operations.load(Ordering::Relaxed);
            Ok(log)
        })
    }
}

/// The store calls of a node.
#[derive(Clone)]
struct StoreCalls {
    start: Instant,
    run: Run,
    node: usize,
    /// When the busiest node last asked.
    busiest_asked: Arc<Mutex<Instant>>,
    /// Whether the outage [`Outage::UntilBusiestHasAsked`] has ended.
    is_back: Arc<AtomicBool>,
    operations: Arc<AtomicU64>,
}

impl StoreCalls {
    /// Counts an operation. Returns whether the store does not answer it.
    fn is_away(&self) -> bool {
        self.operations.fetch_add(1, Ordering::Relaxed);
        let now = Instant::now();
        let at = now - self.start;
        match self.run.outage {
            Outage::None => false,
            Outage::Half => is_out(at, self.run.length),
            Outage::UntilBusiestHasAsked => at >= self.run.length / 4 && self.waits_for_busiest(now),
        }
    }

    /// Returns whether the outage continues. Node 0 is the busiest. In the second half of the run, the outage ends when
    /// node 1 asks within [`JUST`] after node 0. In the last quarter, it ends once node 0 has asked.
    fn waits_for_busiest(&self, now: Instant) -> bool {
        if self.is_back.load(Ordering::Relaxed) {
            return false;
        }
        let Ok(mut busiest_asked) = self.busiest_asked.lock() else { return true };
        let (at, length) = (now - self.start, self.run.length);
        if self.node == 0 {
            *busiest_asked = now;
            self.is_back.store(at >= length * 3 / 4, Ordering::Relaxed);
            return true;
        }
        let is_back = self.node == 1 && at >= length / 2 && now - *busiest_asked < JUST;
        self.is_back.store(is_back, Ordering::Relaxed);
        !is_back
    }
}

/// The outage takes the middle half of the run.
fn is_out(at: Duration, length: Duration) -> bool {
    (length / 4..length * 3 / 4).contains(&at)
}

/// Returns the most admissions in any window, as a multiple of the limit.
fn worst_window(admitted: &[f64]) -> f64 {
    let mut window = VecDeque::new();
    let mut worst = 0;
    for at in admitted {
        window.push_back(*at);
        while window.front().is_some_and(|oldest| *oldest <= at - WINDOW.as_secs_f64()) {
            window.pop_front();
        }
        worst = worst.max(window.len());
    }
    worst as f64 / LIMIT as f64
}

fn admitted_by_a_log(asked: &[f64]) -> Vec<f64> {
    let mut window = VecDeque::new();
    let mut admitted = Vec::new();
    for at in asked {
        while window.front().is_some_and(|oldest| *oldest <= at - WINDOW.as_secs_f64()) {
            window.pop_front();
        }
        if window.len() < LIMIT as usize {
            window.push_back(*at);
            admitted.push(*at);
        }
    }
    admitted
}

/// The book's design. Each node counts in memory. Each second, it adds its count to the store's two-bucket window. It
/// admits calls by the store's last answer and its own count since then, also while the store is down.
fn batching(load: f64, outage: bool, seed: u64) -> f64 {
    let mut random = textbook::random(seed);
    let arrivals = arrivals(load, LENGTH, &mut random);
    let mut shared = TwoBuckets::default();
    let mut nodes: Vec<Node> =
        (0..NODES).map(|_| Node { next: random.random_range(0.0..1.0), ..Node::default() }).collect();
    let mut admitted = Vec::new();
    for (at, index) in arrivals {
        // The flushes that are due, in order.
        while let Some(node) = nodes.iter_mut().min_by(|a, b| a.next.total_cmp(&b.next)).filter(|node| node.next <= at)
        {
            let now = node.next;
            if !(outage && is_out(Duration::from_secs_f64(now), LENGTH)) {
                shared.add(now, node.counted);
                (node.known, node.counted) = (shared, 0.0);
            }
            node.next += PERIOD.as_secs_f64() * random.random_range(0.9..1.1);
        }
        let node = &mut nodes[index];
        if node.known.estimate(at) + node.counted + 1.0 <= LIMIT as f64 {
            node.counted += 1.0;
            admitted.push(at);
        }
    }
    worst_window(&admitted)
}

#[derive(Default)]
struct Node {
    next: f64,
    known: TwoBuckets,
    counted: f64,
}

/// The count of the present window, and the part of the last window's count that the window still covers.
#[derive(Clone, Copy, Default)]
struct TwoBuckets {
    number: f64,
    present: f64,
    last: f64,
}

impl TwoBuckets {
    fn slide(&mut self, at: f64) {
        let number = (at / WINDOW.as_secs_f64()).floor();
        if number > self.number {
            self.last = if number == self.number + 1.0 { self.present } else { 0.0 };
            (self.number, self.present) = (number, 0.0);
        }
    }

    fn add(&mut self, at: f64, tokens: f64) {
        self.slide(at);
        self.present += tokens;
    }

    fn estimate(mut self, at: f64) -> f64 {
        self.slide(at);
        let covered = 1.0 - (at / WINDOW.as_secs_f64() - self.number);
        self.last * covered + self.present
    }
}
