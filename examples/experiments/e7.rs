//! E7: how much more than its limit a sliding window of two buckets lets through.

use crate::{
    finding::{Anchor, Finding, ToCome},
    lab::Lab,
};
use rand::{Rng, RngExt, SeedableRng, rngs::Xoshiro256PlusPlus};
use std::{collections::VecDeque, iter};
use steadfast::ConfigError;

const LIMIT: f64 = 100.0;
/// In seconds.
const WINDOW: f64 = 60.0;
/// Ten hours.
const LENGTH: f64 = 36_000.0;
/// Around the limit, since far beyond it the buckets are always full and the estimate is right.
const LOADS: [f64; 3] = [0.8, 1.0, 5.0];

pub fn run(lab: &Lab) -> Result<Vec<Finding>, ConfigError> {
    let [random, bursts] = lab.mean(0..lab.count(10, 5), |seed| {
        let mut generator = Xoshiro256PlusPlus::seed_from_u64(seed);
        let random = LOADS.map(|load| worst_window(poisson(load * LIMIT / WINDOW, &mut generator)));
        // A whole limit at once, once per window on average.
        let bursts =
            worst_window(poisson(1.0 / WINDOW, &mut generator).flat_map(|at| iter::repeat_n(at, LIMIT as usize)));
        Ok([random.into_iter().fold(0.0, f64::max), bursts])
    })?;
    Ok(vec![Finding {
        id: "E7",
        what: "sliding window of 100 per 60 s by the two-bucket estimate: most admitted in any true window",
        anchors: vec![Anchor {
            name: "Poisson, bursts, adversary",
            published: vec![118.0, 186.0, 199.0],
            reproduced: vec![random, bursts, worst_window(adversary())],
        }],
        figures: Vec::new(),
        to_come: Some(ToCome {
            anchor: "",
            reach: "strict mode: 100 for every arrival order, at ≤ 0.005 lost; none lost for limits ≤ 128",
        }),
    }])
}

/// The most that the estimate admits in any window (t - W, t].
fn worst_window(arrivals: impl Iterator<Item = f64>) -> f64 {
    let mut estimate = TwoBuckets::default();
    let mut admitted = VecDeque::new();
    let mut worst = 0;
    for at in arrivals {
        if estimate.admits(at) {
            admitted.push_back(at);
            while admitted.front().is_some_and(|oldest| *oldest <= at - WINDOW) {
                admitted.pop_front();
            }
            worst = worst.max(admitted.len());
        }
    }
    worst as f64
}

/// The count of the present minute, and that of the last one by the share of it that the window still covers.
#[derive(Default)]
struct TwoBuckets {
    minute: f64,
    present: f64,
    last: f64,
}

impl TwoBuckets {
    fn admits(&mut self, at: f64) -> bool {
        let minute = (at / WINDOW).floor();
        if minute > self.minute {
            self.last = if minute == self.minute + 1.0 { self.present } else { 0.0 };
            (self.minute, self.present) = (minute, 0.0);
        }
        let covered = 1.0 - (at / WINDOW - minute);
        let room = self.last * covered + self.present + 1.0 <= LIMIT;
        self.present += f64::from(u8::from(room));
        room
    }
}

fn poisson(rate: f64, random: &mut impl Rng) -> impl Iterator<Item = f64> {
    let gap = move || -(1.0 - random.random::<f64>()).ln() / rate;
    iter::repeat_with(gap)
        .scan(0.0, |at, gap| {
            *at += gap;
            Some(*at)
        })
        .take_while(|at| *at < LENGTH)
}

/// Fills a minute at its very end, then takes whatever the next one gives, every millisecond.
fn adversary() -> impl Iterator<Item = f64> {
    let burst = iter::repeat_n(2.0 * WINDOW - 1e-6, LIMIT as usize);
    burst.chain((0..60_000).map(|tick| 2.0 * WINDOW + f64::from(tick) * 1e-3))
}
