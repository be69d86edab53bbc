//! One process of the fleet.

use crate::clock::now;
use rand::{RngExt, SeedableRng, rngs::Xoshiro256PlusPlus};
use serde::{Deserialize, Serialize};
use std::{
    env,
    process::{self, ExitCode},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use steadfast::rate_limit::{
    Quota,
    distributed::{Exact, Leased, Redis, WriteBehind},
};
use tokio::{
    runtime,
    time::{Instant, sleep, sleep_until},
};

/// In the environment: the part of a process, and the URL of its store.
pub const PART: &str = "STEADFAST_FLEET_PART";
pub const STORE: &str = "STEADFAST_FLEET_STORE";

pub const PROCESSES: usize = 4;
pub const RATE: u64 = 100;
/// Two seconds of the rate, and less than a fault lasts: spends at its beginning have drained at its end.
pub const BURST: u64 = 200;
pub const WINDOW: Duration = Duration::from_secs(1);
/// Twice the default, since four processes and their store share a machine that may be busy.
pub const DEADLINE: Duration = Duration::from_millis(10);
/// The calls per second to each process and limit, for each pattern of keys.
const PER_SECOND: u64 = 150;

/// The orders for a process.
#[derive(Clone, Copy, Serialize, Deserialize)]
pub struct Part {
    pub index: usize,
    pub is_cluster: bool,
    /// By the monotonic clock that all processes of the machine share.
    pub begin: u64,
    pub end: u64,
    /// Whether it ends like a killed process, without a shutdown.
    pub dies: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Way {
    Exact,
    Leased,
    WriteBehind,
}

/// The report of a process at its end. Times are nanoseconds by the shared clock.
#[derive(Default, Serialize, Deserialize)]
pub struct Log {
    pub admitted: Vec<(Way, Key, u64)>,
    /// The time of each exact decision, and how long it took.
    pub waits: Vec<(u64, u64)>,
    /// How late timers of the length of a deadline fired.
    pub late: Vec<u64>,
    pub samples: Vec<Sample>,
    pub overshoot_bound: [u64; 2],
    pub died: bool,
}

/// The pattern of a key, and its number.
pub type Key = (u8, u32);
pub const HOT: u8 = 0;

/// A sample of the readings.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Sample {
    pub at: u64,
    pub is_up: [bool; 3],
    pub keys: [usize; 3],
    /// Of the exact limit.
    pub unflushed: u64,
}

pub fn be(part: &str) -> ExitCode {
    let runtime = runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let (Ok(part), Ok(url), Ok(runtime)) = (serde_json::from_str::<Part>(part), env::var(STORE), runtime) else {
        return ExitCode::FAILURE;
    };
    let dies = part.dies;
    let print = |log: Log| serde_json::to_string(&log).map(|log| println!("{log}")).is_ok();
    let is_printed = runtime.block_on(run(part, url, |log| {
        let is_printed = print(log);
        if dies {
            process::abort();
        }
        is_printed
    }));
    if !is_printed {
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

/// Draws the number of a key.
fn draw(pattern: u8, random: &mut Xoshiro256PlusPlus) -> u32 {
    match pattern {
        HOT => 0,
        // Zipf's law over a hundred keys: its distribution is close to the logarithm.
        1 => (101f64.powf(random.random::<f64>()) - 1.0) as u32,
        _ => random.random_range(0..10_000),
    }
}

async fn run(part: Part, url: String, end: impl FnOnce(Log) -> bool) -> bool {
    let store = Redis::builder(url).cluster(part.is_cluster).connect_lazily().expect("a URL that is right");
    let quota = Quota::new(RATE, Duration::from_secs(1)).with_burst(BURST);
    let processes = PROCESSES as u64;
    let exact = Exact::builder(store.clone(), quota).namespace("exact").processes(processes).deadline(DEADLINE);
    let leased = Leased::builder(store.clone(), RATE, WINDOW);
    let behind = WriteBehind::builder(store, quota, processes).namespace("behind");
    let ((exact, first), (leased, second), (behind, third)) = (
        exact.build().expect("it can work"),
        leased.build().expect("it can work"),
        behind.build().expect("it can work"),
    );
    let _flushers = [first, second, third].map(|flusher| tokio::spawn(flusher.run()));

    let log: Arc<Mutex<Log>> = Arc::default();
    lock(&log).overshoot_bound = [exact.overshoot_bound(), behind.overshoot_bound()];
    let is_over = Arc::new(AtomicBool::new(false));
    sleep(Duration::from_nanos(part.begin.saturating_sub(now()))).await;
    tokio::spawn(measure_the_timers(log.clone()));
    let mut random = Xoshiro256PlusPlus::seed_from_u64(part.index as u64);
    let (mut came, mut sampled) = (0, 0);
    while now() < part.end {
        let due = (now() - part.begin) * PER_SECOND / 1_000_000_000;
        for _ in came..due {
            for pattern in 0..3 {
                let mut key = || {
                    let key = (pattern, draw(pattern, &mut random));
                    (key, format!("{pattern}/{}", key.1).into_bytes())
                };
                let ((number, bytes), exact) = (key(), exact.clone());
                let (log_of_exact, is_over) = (log.clone(), is_over.clone());
                tokio::spawn(async move {
                    let asked = now();
                    let verdict = exact.acquire(&bytes, 1).await;
                    let answered = now();
                    if is_over.load(Ordering::Relaxed) {
                        return;
                    }
                    let mut log = lock(&log_of_exact);
                    log.waits.push((asked, answered - asked));
                    if verdict.is_ok() {
                        log.admitted.push((Way::Exact, number, answered));
                    }
                });
                let (number, bytes) = key();
                if leased.try_acquire(&bytes, 1).is_ok() {
                    lock(&log).admitted.push((Way::Leased, number, now()));
                }
                let (number, bytes) = key();
                if behind.try_acquire(&bytes, 1).is_ok() {
                    lock(&log).admitted.push((Way::WriteBehind, number, now()));
                }
            }
        }
        came = due;
        if now() - part.begin >= sampled * 50_000_000 {
            sampled += 1;
            let readings = [exact.readings(), leased.readings(), behind.readings()];
            let sample = Sample {
                at: now(),
                is_up: readings.each_ref().map(|reading| reading.store.is_up),
                keys: readings.each_ref().map(|reading| reading.keys),
                unflushed: readings[0].unflushed,
            };
            lock(&log).samples.push(sample);
        }
        sleep(Duration::from_millis(1)).await;
    }
    is_over.store(true, Ordering::Relaxed);
    let mut log = std::mem::take(&mut *lock(&log));
    log.died = part.dies;
    // The limits are still alive, so their flushers run.
    end(log)
}

async fn measure_the_timers(log: Arc<Mutex<Log>>) {
    loop {
        let due = Instant::now() + DEADLINE;
        sleep_until(due).await;
        lock(&log).late.push((Instant::now() - due).as_nanos() as u64);
    }
}

fn lock(log: &Mutex<Log>) -> std::sync::MutexGuard<'_, Log> {
    log.lock().expect("no task panics while it holds the log")
}
