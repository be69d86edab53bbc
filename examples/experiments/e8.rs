//! E8: one limit for ten processes, kept by flushing to a shared store each second.
//!
//! Windows are (t - W, t] from the start; demand comes to the nodes by Zipf's law; the flushes have random phases, and a
//! jitter of a tenth. In an outage the store does not answer from 50 s to 150 s.

use crate::{
    finding::{Anchor, Bound, Figure, Finding},
    lab::{Lab, secs},
    textbook,
};
use rand::{Rng, RngExt};
use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use steadfast::{
    ConfigError, Random,
    rate_limit::distributed::{
        Answering, Charge, Charged, Demand, Embedded, Leased, Settled, Store, StoreError, StoreErrorKind,
    },
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
/// Tokens per second at the limit.
const RATE: f64 = LIMIT as f64 / WINDOW.as_secs() as f64;

pub fn run(lab: &Lab) -> Result<Vec<Finding>, ConfigError> {
    let seeds = lab.count(5, 1, 1);
    let length = lab.length(LENGTH, secs(48));
    let ours = |load: f64, outage: bool| lab.means(seeds, |seed| fleet(load, length, outage, seed));
    let anchors = lab.beyond_a_glance(|| {
        let book = |load: f64, outage: bool| lab.mean(0..lab.count(5, 2, 0), |seed| Ok([batching(load, outage, seed)]));
        Ok(vec![Anchor {
            name: "the book's batching, demand 2x, 10x, 2x with an outage",
            published: vec![1.23, 1.83, 2.11],
            reproduced: vec![book(2.0, false)?[0], book(10.0, false)?[0], book(2.0, true)?[0]],
        }])
    })?;
    let (calm, flooded) = (ours(2.0, false)?, ours(10.0, false)?);
    let (cut_off, flooded_and_cut_off) = (ours(2.0, true)?, ours(10.0, true)?);
    // Of the first windows a larger share is lost.
    let quiet = lab.means(seeds, |seed| fleet(0.9, LENGTH, false, seed))?;
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

/// The real engine on the embedded store: worst window over the limit, share of what an exact log would admit, operations of
/// the store per second, and that share in the middle of the run, where the outage is.
fn fleet(load: f64, length: Duration, outage: bool, seed: u64) -> Result<[f64; 4], ConfigError> {
    let clock = runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    let Ok(clock) = clock else { return Ok([f64::NAN; 4]) };
    LocalSet::new().block_on(&clock, async move {
        let start = Instant::now();
        let store =
            Flaky { inner: Embedded::new(), start, outage: outage.then_some(length), operations: Arc::default() };
        let random = Random::seeded(seed);
        let mut nodes = Vec::new();
        for _ in 0..NODES {
            let builder = Leased::builder(store.clone(), LIMIT, WINDOW).flush_every(PERIOD).random(random.clone());
            let (limit, flusher) = builder.build()?;
            spawn_local(flusher.run());
            nodes.push(limit);
        }
        let (mut asked, mut admitted) = (Vec::new(), Vec::new());
        for (at, node) in arrivals(load, length, &mut textbook::random(seed)) {
            // Timers go by whole milliseconds, and so do the arrivals.
            sleep_until(start + Duration::from_secs_f64(at)).await;
            let now = Instant::now().saturating_duration_since(start).as_secs_f64();
            asked.push(now);
            if nodes.get(node).is_some_and(|limit| limit.try_acquire(b"all", 1).is_ok()) {
                admitted.push(now);
            }
        }
        let ideal = admitted_by_a_log(&asked);
        let in_the_middle = |instants: &[f64]| {
            instants.iter().filter(|at| is_out(Duration::from_secs_f64(**at), length)).count() as f64
        };
        let share = admitted.len() as f64 / ideal.len() as f64;
        let share_in_the_middle = in_the_middle(&admitted) / in_the_middle(&ideal);
        let operations = store.operations.load(Ordering::Relaxed) as f64 / length.as_secs_f64();
        Ok([worst_window(&admitted), share, operations, share_in_the_middle])
    })
}

/// A store that does not answer for a while.
#[derive(Clone)]
struct Flaky {
    inner: Embedded,
    start: Instant,
    /// How long the run is, if there is an outage in it.
    outage: Option<Duration>,
    operations: Arc<AtomicU64>,
}

impl Store for Flaky {
    fn charge<'a>(&'a self, charges: &'a [Charge]) -> Answering<'a, Charged> {
        match self.answers() {
            Ok(()) => self.inner.charge(charges),
            Err(error) => Box::pin(async { Err(error) }),
        }
    }

    fn settle<'a>(&'a self, demands: &'a [Demand]) -> Answering<'a, Settled> {
        match self.answers() {
            Ok(()) => self.inner.settle(demands),
            Err(error) => Box::pin(async { Err(error) }),
        }
    }
}

impl Flaky {
    /// Counts an operation, and fails it in the outage.
    fn answers(&self) -> Result<(), StoreError> {
        self.operations.fetch_add(1, Ordering::Relaxed);
        let at = Instant::now().saturating_duration_since(self.start);
        match self.outage {
            Some(length) if is_out(at, length) => Err(StoreError::new(StoreErrorKind::Unreachable, "an outage")),
            _ => Ok(()),
        }
    }
}

/// The store is down for half of the run, in its middle.
fn is_out(at: Duration, length: Duration) -> bool {
    (length / 4..length * 3 / 4).contains(&at)
}

/// The most in any window, by the limit.
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

/// The book's design: each node counts in memory, adds what it counted to the store's window of two buckets each second,
/// and admits by what it was last told and what it counted since. While the store is down it goes on with that.
fn batching(load: f64, outage: bool, seed: u64) -> f64 {
    let mut random = textbook::random(seed);
    let arrivals = arrivals(load, LENGTH, &mut random);
    let mut shared = TwoBuckets::default();
    let mut nodes: Vec<Node> =
        (0..NODES).map(|_| Node { next: random.random_range(0.0..1.0), ..Node::default() }).collect();
    let mut admitted = Vec::new();
    for (at, index) in arrivals {
        // The flushes that are due by now, in their order.
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

/// The count of the present window's length, and that of the last one by the share of it that the window still covers.
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
