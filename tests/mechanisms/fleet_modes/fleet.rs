//! Many processes, their load, and the calls that they admit.

use super::store::Fickle;
use crate::support::ms;
use rand::{RngExt, SeedableRng, rngs::SmallRng};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};
use steadfast::{
    Random,
    rate_limit::{
        Quota,
        distributed::{Exact, ExactBuilder, WriteBehind, WriteBehindBuilder},
    },
};
use tokio::{
    spawn,
    time::{Instant, sleep_until},
};

/// The times at which tokens were wanted or admitted, each with the number of tokens.
pub type Events = Vec<(Instant, u64)>;

/// Returns a process of an exact limit with a running flusher.
pub fn exact(store: &Fickle, quota: Quota, seed: u64) -> Exact {
    exact_by(store, quota, seed, |builder| builder)
}

pub fn exact_by(
    store: &Fickle,
    quota: Quota,
    seed: u64,
    configure: impl FnOnce(ExactBuilder) -> ExactBuilder,
) -> Exact {
    let builder = Exact::builder(store.clone(), quota).random(Random::seeded(seed));
    let (limit, flusher) = configure(builder).build().unwrap();
    spawn(flusher.run());
    limit
}

/// Returns one process of a write-behind limit that `processes` processes share, with a running flusher.
pub fn write_behind_by(
    store: &Fickle,
    quota: Quota,
    processes: u64,
    seed: u64,
    configure: impl FnOnce(WriteBehindBuilder) -> WriteBehindBuilder,
) -> WriteBehind {
    let builder = WriteBehind::builder(store.clone(), quota, processes).random(Random::seeded(seed));
    let (limit, flusher) = configure(builder).build().unwrap();
    spawn(flusher.run());
    limit
}

/// Returns the most by which the admitted tokens exceed `burst + rate * t` in any interval of length t. A token bucket
/// would have been overdrawn by this number of tokens at the worst time.
pub fn excess(mut admitted: Events, quota: Quota) -> f64 {
    admitted.sort_by_key(|(at, _)| *at);
    let rate = quota.count() as f64 / quota.period().as_secs_f64();
    let (mut level, mut worst, mut last) = (0.0f64, f64::MIN, None);
    for (at, tokens) in admitted {
        let passed = last.map_or(0.0, |last| at.saturating_duration_since(last).as_secs_f64());
        level = (level - rate * passed).max(0.0) + tokens as f64;
        worst = worst.max(level - quota.burst() as f64);
        last = Some(at);
    }
    worst
}

/// Returns how many of the wanted tokens one token bucket admits.
pub fn ideal(mut wanted: Events, quota: Quota) -> u64 {
    wanted.sort_by_key(|(at, _)| *at);
    let rate = quota.count() as f64 / quota.period().as_secs_f64();
    let (mut level, mut admitted, mut last) = (0.0f64, 0, None);
    for (at, tokens) in wanted {
        let passed = last.map_or(0.0, |last| at.saturating_duration_since(last).as_secs_f64());
        level = (level - rate * passed).max(0.0);
        if level + tokens as f64 <= quota.burst() as f64 + 1e-6 {
            level += tokens as f64;
            admitted += tokens;
        }
        last = Some(at);
    }
    admitted
}

pub fn sum(events: &Events) -> u64 {
    events.iter().map(|(_, tokens)| tokens).sum()
}

/// Returns the tokens of the events from `start` to `end`.
pub fn between(events: &Events, start: Instant, end: Instant) -> u64 {
    events.iter().filter(|(at, _)| *at >= start && *at < end).map(|(_, tokens)| tokens).sum()
}

/// The result of a run, for each key.
#[derive(Clone, Default)]
pub struct Report {
    pub wanted: BTreeMap<u64, Events>,
    pub admitted: BTreeMap<u64, Events>,
    /// The admitted tokens of each process.
    pub by_process: BTreeMap<usize, Events>,
    /// The longest time that a call took.
    pub slowest: Duration,
}

/// The load on a process.
#[derive(Clone, Copy)]
pub struct Load {
    /// Calls per second, of one token each.
    pub rate: f64,
    /// The number of keys. The second key gets half as many calls as the first, the third a third, and so on.
    pub keys: u64,
}

/// A process that can be called for tokens of a key. Returns whether the call was admitted.
pub trait Process: Clone + Send + 'static {
    fn call(&self, key: &[u8]) -> impl Future<Output = bool> + Send;
}

impl Process for Exact {
    async fn call(&self, key: &[u8]) -> bool {
        self.acquire(key, 1).await.is_ok()
    }
}

impl Process for WriteBehind {
    async fn call(&self, key: &[u8]) -> bool {
        self.try_acquire(key, 1).is_ok()
    }
}

/// Puts each process under its load for `length`. Calls `each_milli` in each millisecond, with the time that has
/// passed.
pub async fn run<P: Process>(
    fleet: &[(P, Load)],
    length: Duration,
    seed: u64,
    mut each_milli: impl FnMut(Duration),
) -> Report {
    let report = Arc::new(Mutex::new(Report::default()));
    let mut random = SmallRng::seed_from_u64(seed);
    let (start, mut calls, mut due) = (Instant::now(), Vec::new(), vec![0.0; fleet.len()]);
    for milli in 0..length.as_millis() as u64 {
        sleep_until(start + ms(milli)).await;
        each_milli(ms(milli));
        for (number, (process, load)) in fleet.iter().enumerate() {
            due[number] += load.rate / 1000.0 * random.random_range(0.0..2.0);
            while due[number] >= 1.0 {
                due[number] -= 1.0;
                let (key, arrived) = (zipf(load.keys, &mut random), Instant::now());
                report.lock().unwrap().wanted.entry(key).or_default().push((arrived, 1));
                let (process, report) = (process.clone(), report.clone());
                calls.push(spawn(async move {
                    let is_admitted = process.call(&key.to_be_bytes()).await;
                    let (now, mut report) = (Instant::now(), report.lock().unwrap());
                    report.slowest = report.slowest.max(now - arrived);
                    if is_admitted {
                        report.admitted.entry(key).or_default().push((now, 1));
                        report.by_process.entry(number).or_default().push((now, 1));
                    }
                }));
            }
        }
    }
    for call in calls {
        call.await.unwrap();
    }
    let report = report.lock().unwrap();
    report.clone()
}

/// Draws a key. The nth key is 1/n times as likely as the first.
fn zipf(keys: u64, random: &mut SmallRng) -> u64 {
    let all: f64 = (1..=keys).map(|rank| 1.0 / rank as f64).sum();
    let mut drawn = random.random_range(0.0..all);
    for rank in 1..keys {
        drawn -= 1.0 / rank as f64;
        if drawn < 0.0 {
            return rank;
        }
    }
    keys
}
