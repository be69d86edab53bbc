//! E26: one limit for four processes, with a store call for each decision. The store has an outage.
//!
//! The limit is 200 per second, with a burst of 1, 10 or 60 s of the rate. The outage lasts 0.3, 2 and 4 times as long
//! as the burst: first for all processes, then only for the first and the fourth. Zipf's law distributes the demand
//! over the processes. The calls of each process are a Poisson process; at 1x they are evenly spaced. Each number is
//! the worst of these nine outages.

use crate::{
    absent::Absent,
    finding::{Bound, Figure, Finding},
    lab::{Lab, secs},
    textbook,
};
use rand::{Rng, RngExt};
use std::{array, time::Duration};
use steadfast::{
    ConfigError, Random,
    rate_limit::{
        Quota,
        distributed::{Embedded, Exact},
    },
};
use tokio::{
    runtime,
    task::{LocalSet, spawn_local},
    time::{Instant, sleep_until},
};

const PROCESSES: usize = 4;
const RATE: u64 = 200;
/// The bursts, in seconds of the rate.
const BURSTS: [u64; 3] = [1, 10, 60];
/// The lengths of the outages, in bursts.
const OUTAGES: [f64; 3] = [0.3, 2.0, 4.0];
const KEY: &[u8] = b"all";

pub fn run(lab: &Lab) -> Result<Vec<Finding>, ConfigError> {
    // The longest burst needs the longest runs, so a glance leaves it out.
    let bursts = if lab.is_glance() { &BURSTS[..2] } else { &BURSTS[..] };
    let cases = |load: f64, away: Away| {
        lab.worst(lab.count(3, 1, 1), |seed| {
            let mut worst = [f64::NEG_INFINITY; 6];
            for burst in bursts {
                for outage in OUTAGES {
                    let numbers = fleet(&Case { load, burst: *burst, outage: *burst as f64 * outage, away }, seed)?;
                    worst = array::from_fn(|index| worst[index].max(numbers[index]));
                }
            }
            Ok(worst)
        })
    };
    let findings = [
        (Away::FromAll, "exact limit, 4 processes, whose store is away for all: the worst of 9 outages", 0.2),
        (Away::FromTwo, "exact limit, 4 processes, two of them cut off: the worst of 9 outages", 0.41),
    ];
    let find = |(away, what, missing)| {
        let [half, whole, five] = [cases(0.5, away)?, cases(1.0, away)?, cases(5.0, away)?];
        let (light, all) = ([&half, &whole], [&half, &whole, &five]);
        Ok(Finding {
            id: "E26",
            what,
            anchors: Vec::new(),
            figures: vec![
                Figure::column("refused after recovery, at .5x, 1x", [Bound::AtMost(0.0); 2], &light, 0),
                Figure::column(
                    "missing of the rate over 2 s after recovery, at 5x",
                    [Bound::AtMost(missing)],
                    &[&five],
                    1,
                ),
                Figure::column(
                    "missing of the rate when the debt is repaid, at 5x",
                    [Bound::AtMost(0.02)],
                    &[&five],
                    2,
                ),
                Figure::column(
                    "admitted beyond B + r t, of what is allowed, at .5x, 1x, 5x",
                    [Bound::AtMost(1.0); 3],
                    &all,
                    3,
                ),
                Figure::column(
                    "missing of the demand or the rate while the store is away, at .5x, 1x, 5x",
                    [Bound::Free; 3],
                    &all,
                    4,
                ),
                Figure::column(
                    // In the shortest outage this is some 35 tokens.
                    "not repaid of what two admitted beyond the rate, up to a burst, at 5x",
                    [Bound::AtMost(0.2)],
                    &[&five],
                    5,
                ),
            ],
            to_come: None,
        })
    };
    findings.into_iter().map(find).collect()
}

/// The processes that cannot reach the store.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Away {
    FromAll,
    FromTwo,
}

impl Away {
    fn is_from(self, process: usize) -> bool {
        self == Self::FromAll || process == 0 || process == 3
    }
}

struct Case {
    /// As a multiple of the limit's rate.
    load: f64,
    /// In seconds.
    burst: u64,
    outage: f64,
    away: Away,
}

/// The start and the end of the outage, and the end of the run, in seconds.
struct Times {
    gone: f64,
    back: f64,
    end: f64,
}

impl Case {
    fn times(&self) -> Times {
        let burst = self.burst as f64;
        // At 5x the burst is spent after a quarter of its length in seconds. A debt of a burst is repaid after 2.5 of
        // these lengths.
        let gone = 3.3 + 0.5 * burst;
        let back = gone + self.outage;
        Times { gone, back, end: back + if self.load > 1.0 { 3.0 * burst + 5.0 } else { burst + 5.0 } }
    }

    /// Returns when calls arrive, and at which process.
    fn arrivals(&self, random: &mut impl Rng) -> Vec<(f64, usize)> {
        let shares: [f64; PROCESSES] = array::from_fn(|rank| 1.0 / (rank + 1) as f64);
        let sum: f64 = shares.iter().sum();
        let (end, mut arrivals) = (self.times().end, Vec::new());
        for (process, share) in shares.iter().enumerate() {
            let mean = sum / (share * self.load * RATE as f64);
            let mut at = mean * random.random::<f64>();
            while at < end {
                arrivals.push((at, process));
                at += mean * if self.load == 1.0 { 1.0 } else { -(1.0 - random.random::<f64>()).ln() };
            }
        }
        arrivals.sort_by(|(one, _), (other, _)| one.total_cmp(other));
        arrivals
    }
}

/// Runs the real engine on the embedded store. Returns the refusals after recovery; the shortfall from the rate after
/// recovery and at the end; the excess over what is allowed; the shortfall during the outage; and the unpaid part of
/// what two processes admitted beyond the rate.
fn fleet(case: &Case, seed: u64) -> Result<[f64; 6], ConfigError> {
    let clock = runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    let Ok(clock) = clock else { return Ok([f64::NAN; 6]) };
    LocalSet::new().block_on(&clock, async move {
        let start = Instant::now();
        let Times { gone, back, end } = case.times();
        let [from, until] = [gone, back].map(|at| start + Duration::from_secs_f64(at));
        let (rate, burst) = (RATE as f64, RATE * case.burst);
        let quota = Quota::new(RATE, secs(1)).with_burst(burst);
        let (inner, random) = (Embedded::new(), Random::seeded(seed));
        let mut processes = Vec::new();
        for process in 0..PROCESSES {
            let is_cut_off = case.away.is_from(process);
            let is_away = move || is_cut_off && (from..until).contains(&Instant::now());
            let store = Absent::new(inner.clone(), is_away);
            let builder = Exact::builder(store, quota).processes(PROCESSES as u64).random(random.clone());
            let (limit, flusher) = builder.build()?;
            spawn_local(flusher.run());
            processes.push(limit);
        }
        let (mut admitted, mut refused, mut asked, mut shares) = (Vec::new(), Vec::new(), Vec::new(), None);
        for (at, process) in case.arrivals(&mut textbook::random(seed)) {
            // Timers use whole milliseconds, and so do the arrivals.
            sleep_until(start + Duration::from_secs_f64(at)).await;
            let now = Instant::now().saturating_duration_since(start).as_secs_f64();
            if now >= gone && shares.is_none() {
                let cut_off = processes.iter().enumerate().filter(|(process, _)| case.away.is_from(*process));
                shares = Some(cut_off.map(|(_, limit)| limit.share(KEY)).sum::<f64>());
            }
            asked.push(now);
            let Some(limit) = processes.get(process) else { continue };
            if limit.acquire(KEY, 1).await.is_ok() { admitted.push(now) } else { refused.push(now) }
        }
        let cut_off = match case.away {
            Away::FromAll => 0.0,
            Away::FromTwo => shares.unwrap_or(0.0) * rate * case.outage,
        };
        let allowed = 0.15 * rate + 0.01 * rate * case.outage + cut_off;
        let while_away = |times: &[f64]| count(times, gone, back);
        let possible = while_away(&asked).min(rate * case.outage);
        let owed = cut_off.min(shares.unwrap_or(0.0) * burst as f64);
        let withheld = rate * (end - back) - count(&admitted, back, end);
        let at_the_end = (0.3 * case.burst as f64).max(2.0);
        Ok([
            count(&refused, back, end),
            1.0 - least_in_two_seconds(&admitted, back, end) / (2.0 * rate),
            1.0 - count(&admitted, end - at_the_end, end) / (at_the_end * rate),
            excess(&admitted, burst as f64) / allowed,
            1.0 - while_away(&admitted) / possible,
            if owed > 0.0 { 1.0 - withheld / owed } else { 0.0 },
        ])
    })
}

fn count(times: &[f64], from: f64, until: f64) -> f64 {
    times.iter().filter(|at| (from..until).contains(*at)).count() as f64
}

fn least_in_two_seconds(admitted: &[f64], from: f64, until: f64) -> f64 {
    let before = |time: f64| admitted.partition_point(|at| *at < time);
    let begins = (0..).map(|step| from + 0.05 * f64::from(step)).take_while(|begin| begin + 2.0 <= until);
    begins.map(|begin| (before(begin + 2.0) - before(begin)) as f64).fold(f64::INFINITY, f64::min)
}

/// Returns the most that was admitted in any interval beyond a burst and the rate: the highest level of a bucket that
/// admits everything, less the burst.
fn excess(admitted: &[f64], burst: f64) -> f64 {
    let (mut level, mut last, mut most) = (0.0f64, 0.0, f64::NEG_INFINITY);
    for at in admitted {
        level = (level - (at - last) * RATE as f64).max(0.0) + 1.0;
        (last, most) = (*at, most.max(level));
    }
    most - burst
}
