//! A token bucket against its definition.
//!
//! The definition: a bucket of `B` tokens is full at first and gains `r` tokens per second, up to `B`. A call takes a
//! token if there is one. Any window of length `t` therefore admits at most `B + r t`. A refunded token returns to the
//! bucket. The model counts in nanoseconds of refill without rounding, because the refill of a token takes a whole
//! number of them.

use super::{Arrivals, LENGTH, LIMIT, WINDOW, arrivals};
use crate::{
    finding::{Bound, Figure},
    lab::Lab,
};
use std::{array, time::Duration};
use steadfast::{ConfigError, rate_limit::TokenBucket};
use tokio::time::Instant;

/// The refill time of a token.
const TOKEN: u128 = WINDOW.as_nanos() / LIMIT as u128;
const FULL: u128 = LIMIT as u128 * TOKEN;

pub fn figures(lab: &Lab, seeds: u64) -> Result<Vec<Figure>, ConfigError> {
    let length = lab.length(LENGTH, LENGTH / 16);
    let mut figures = Vec::new();
    for (name, every) in [
        (
            "token bucket, Poisson at 0.8, 1, 5, bursts, adversary: admitted by it alone, or by its definition alone",
            None,
        ),
        ("the same, every third call given back", Some(3)),
    ] {
        let runs = lab.worst(seeds, |seed| differences(seed, length, every))?;
        figures.push(Figure::new(name, [Bound::AtMost(0.0); 5], runs));
    }
    Ok(figures)
}

/// Returns the calls that only one of the bucket and the model admits, for each kind of arrivals.
fn differences(seed: u64, length: Duration, given_back: Option<usize>) -> Result<[f64; 5], ConfigError> {
    let run = |arrivals: Arrivals| {
        let bucket = TokenBucket::builder(LIMIT.into(), WINDOW).build()?;
        let (origin, mut model) = (Instant::now(), Model::default());
        let mut different = 0_u64;
        for (number, at) in arrivals.enumerate() {
            let admitted = bucket.try_acquire_at(1, origin + at).is_ok();
            different += u64::from(admitted != model.admits(at));
            if admitted && given_back.is_some_and(|every| number % every == 0) {
                bucket.refund(1);
                model.give_back();
            }
        }
        Ok(different as f64)
    };
    let mut runs = arrivals(seed, LIMIT, length).into_iter().map(run);
    let all: [Result<f64, ConfigError>; 5] = array::from_fn(|_| runs.next().unwrap_or(Ok(f64::NAN)));
    let [low, full, high, bursts, adversary] = all;
    Ok([low?, full?, high?, bursts?, adversary?])
}

/// The definition: the tokens missing from a full bucket, in nanoseconds of refill.
#[derive(Default)]
struct Model {
    missing: u128,
    last: Duration,
}

impl Model {
    fn admits(&mut self, at: Duration) -> bool {
        self.missing = self.missing.saturating_sub((at - self.last).as_nanos());
        self.last = at;
        let has_one = self.missing + TOKEN <= FULL;
        self.missing += if has_one { TOKEN } else { 0 };
        has_one
    }

    fn give_back(&mut self) {
        self.missing = self.missing.saturating_sub(TOKEN);
    }
}
