//! E7: how far does a sliding window exceed its limit, how much does a strict window lose, and is a token bucket exact?

mod bucket;

use crate::{
    finding::{Anchor, Bound, Figure, Finding},
    lab::{Lab, ms, secs},
};
use rand::{Rng, RngExt, SeedableRng, rngs::Xoshiro256PlusPlus};
use std::{array, collections::VecDeque, iter, time::Duration};
use steadfast::{
    ConfigError,
    rate_limit::{SlidingWindow, SlidingWindowBuilder},
};
use tokio::time::Instant;

const LIMIT: u32 = 100;
const WINDOW: Duration = secs(60);
/// Ten hours.
const LENGTH: Duration = secs(36_000);
/// Loads around the limit. Far above it the buckets are always full and the estimate is exact.
const LOADS: [f64; 3] = [0.8, 1.0, 5.0];

pub fn run(lab: &Lab) -> Result<Vec<Finding>, ConfigError> {
    let seeds = lab.count(10, 5, 1);
    let length = lab.length(LENGTH, LENGTH / 4);
    let published = [118.0, 186.0, 199.0];
    let anchors = lab.beyond_a_glance(|| {
        let textbook = lab.mean(0..seeds, |seed| {
            let runs = arrivals(seed, LIMIT, LENGTH).map(|arrivals| {
                let mut buckets = TwoBuckets::default();
                Run::new(LIMIT, arrivals, |at| buckets.admits(at.as_secs_f64()))
            });
            Ok(random_bursts_adversary(most(&runs)))
        })?;
        Ok(vec![Anchor::new("two buckets: Poisson, bursts, adversary", published, textbook)])
    })?;
    let estimate = lab.means(seeds, |seed| {
        // Longer than the other runs at a glance, because bursts rarely fall at the worst time.
        let length = lab.length(LENGTH, LENGTH / 2);
        let runs = ours(seed, LIMIT, length, SlidingWindowBuilder::estimate)?;
        Ok(random_bursts_adversary(most(&runs)))
    })?;
    let strict = lab.means(seeds, |seed| Ok(most(&ours(seed, LIMIT, length, |strict| strict)?)))?;
    // A large limit receives as many calls in a shorter time.
    let large = [lab.length(LENGTH / 2, LENGTH / 16), lab.length(LENGTH / 10, LENGTH / 60)];
    let mut lost = Vec::new();
    for (limit, length) in [(LIMIT, length), (128, length), (1_000, large[0]), (10_000, large[1])] {
        lost.push(lab.means(lab.count(5, 1, 1), |seed| {
            let runs = ours(seed, limit, length, |strict| strict)?;
            let admitted = most(&runs).into_iter().fold(0.0, f64::max);
            Ok([runs.iter().map(Run::lost).fold(0.0, f64::max), admitted / f64::from(limit)])
        })?);
    }
    let little = Bound::AtMost(0.005);
    Ok(vec![Finding {
        id: "E7",
        what: "sliding window of 100 per 60 s, two-bucket estimate and strict: most admitted in any true window",
        anchors,
        figures: [
            Figure::new("strict: Poisson at 0.8, 1, 5, bursts, adversary", [Bound::Within(100.0, 100.0); 5], strict),
            Figure::column(
                "lost, against an exact log, of 100, 128, 1000, 10,000",
                [Bound::AtMost(0.0), Bound::AtMost(0.0), little, little],
                &lost,
                0,
            ),
            Figure::column("most admitted of these, over the limit", [Bound::Within(1.0, 1.0); 4], &lost, 1),
            Figure::new("estimate: Poisson, bursts, adversary", published.map(Bound::near), estimate),
        ]
        .into_iter()
        .chain(bucket::figures(lab, seeds)?)
        .collect(),
        to_come: None,
    }])
}

/// Runs a window of this crate on each kind of arrivals.
fn ours(
    seed: u64,
    limit: u32,
    length: Duration,
    mode: fn(SlidingWindowBuilder) -> SlidingWindowBuilder,
) -> Result<Vec<Run>, ConfigError> {
    let run = |arrivals| {
        // Taken before the window is built, so that the adversary's burst falls into the intended period.
        let origin = Instant::now();
        let window = mode(SlidingWindow::builder(limit.into(), WINDOW)).build()?;
        Ok(Run::new(limit, arrivals, |at| window.try_acquire_at(1, origin + at).is_ok()))
    };
    arrivals(seed, limit, length).into_iter().map(run).collect()
}

fn most(runs: &[Run]) -> [f64; 5] {
    array::from_fn(|kind| runs[kind].most as f64)
}

fn random_bursts_adversary([low, full, high, bursts, adversary]: [f64; 5]) -> [f64; 3] {
    [low.max(full).max(high), bursts, adversary]
}

/// The result of a limit for some arrivals.
struct Run {
    /// The most admitted in any window (t - W, t].
    most: usize,
    admitted: u64,
    /// The admissions of an exact log for the same arrivals.
    of_exact_log: u64,
}

impl Run {
    fn new(limit: u32, arrivals: Arrivals, mut admits: impl FnMut(Duration) -> bool) -> Self {
        let (mut log, mut exact_log) = (Log::default(), Log::default());
        let mut run = Self { most: 0, admitted: 0, of_exact_log: 0 };
        for at in arrivals {
            if admits(at) {
                log.add(at);
                run.most = run.most.max(log.in_window(at));
                run.admitted += 1;
            }
            if exact_log.in_window(at) < limit as usize {
                exact_log.add(at);
                run.of_exact_log += 1;
            }
        }
        run
    }

    /// Returns the refused share of the calls that an exact log admits.
    fn lost(&self) -> f64 {
        1.0 - self.admitted as f64 / self.of_exact_log as f64
    }
}

/// Every single admission in a window.
#[derive(Default)]
struct Log(VecDeque<Duration>);

impl Log {
    fn add(&mut self, at: Duration) {
        self.0.push_back(at);
    }

    fn in_window(&mut self, end: Duration) -> usize {
        while self.0.front().is_some_and(|at| *at + WINDOW <= end) {
            self.0.pop_front();
        }
        self.0.len()
    }
}

/// The count of the present minute, and the part of the last minute's count that the window still covers.
#[derive(Default)]
struct TwoBuckets {
    minute: f64,
    present: f64,
    last: f64,
}

impl TwoBuckets {
    fn admits(&mut self, at: f64) -> bool {
        const MINUTE: f64 = WINDOW.as_secs() as f64;
        let minute = (at / MINUTE).floor();
        if minute > self.minute {
            self.last = if minute == self.minute + 1.0 { self.present } else { 0.0 };
            (self.minute, self.present) = (minute, 0.0);
        }
        let covered = 1.0 - (at / MINUTE - minute);
        let room = self.last * covered + self.present + 1.0 <= f64::from(LIMIT);
        self.present += f64::from(u8::from(room));
        room
    }
}

type Arrivals = Box<dyn Iterator<Item = Duration>>;

/// Poisson arrivals at each load, bursts, and an adversary.
fn arrivals(seed: u64, limit: u32, length: Duration) -> [Arrivals; 5] {
    let rate = f64::from(limit) / WINDOW.as_secs_f64();
    let random = |kind: u64, rate| poisson(rate, length, Xoshiro256PlusPlus::seed_from_u64(5 * seed + kind));
    let [low, full, high] = LOADS.map(|load| load * rate);
    // A burst of the whole limit, once per window on average.
    let bursts = random(3, 1.0 / WINDOW.as_secs_f64()).flat_map(move |at| iter::repeat_n(at, limit as usize));
    [
        Box::new(random(0, low)),
        Box::new(random(1, full)),
        Box::new(random(2, high)),
        Box::new(bursts),
        Box::new(adversary(limit)),
    ]
}

fn poisson(rate: f64, length: Duration, mut random: impl Rng) -> impl Iterator<Item = Duration> {
    let gap = move || -(1.0 - random.random::<f64>()).ln() / rate;
    iter::repeat_with(gap)
        .scan(0.0, |at, gap| {
            *at += gap;
            Some(Duration::from_secs_f64(*at))
        })
        .take_while(move |at| *at < length)
}

/// Fills a minute at its very end, then takes every admission of the next minute, in each millisecond.
fn adversary(limit: u32) -> impl Iterator<Item = Duration> {
    let burst = iter::repeat_n(2 * WINDOW - Duration::from_micros(1), limit as usize);
    burst.chain((0..60_000).map(|tick| 2 * WINDOW + ms(tick)))
}
