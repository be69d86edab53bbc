//! One turn of one contender: callers that each ask in sequence, for a while.

use crate::{
    limits::{KEYS, Limit, Opened, Terms},
    server::Server,
};
use hdrhistogram::Histogram;
use std::{
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};
use tokio::runtime::{Builder, Runtime};

/// The workload, and its number of callers.
#[derive(Clone, Copy)]
pub struct Workload {
    pub name: &'static str,
    pub keys: usize,
    pub callers: usize,
    pub terms: Terms,
}

#[derive(Clone, Copy)]
pub struct Effort {
    pub rounds: usize,
    pub warm_up: Duration,
    pub measured: Duration,
}

/// The result of a turn.
#[derive(Clone, Copy)]
pub struct Turn {
    pub per_second: f64,
    /// The admitted share.
    pub admitted: f64,
    pub p50_micros: f64,
    pub p99_micros: f64,
    pub calls_per_decision: f64,
    pub script_micros: f64,
    pub server_micros: f64,
}

const WARM_UP: u8 = 0;
const MEASURED: u8 = 1;
const OVER: u8 = 2;

struct Counted {
    decisions: u64,
    admitted: u64,
    nanos: Histogram<u64>,
}

fn runtime() -> Runtime {
    Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("two threads can be started")
}

/// Makes a new limit in a runtime of its own, and lets callers ask it. Returns `None` if a caller gets no answer. No
/// wait here uses the runtime's own timers, which stop when both of its threads are blocked.
pub fn turn<L: Limit>(server: &mut Server, url: &str, workload: Workload, effort: Effort) -> Opened<Option<Turn>> {
    server.clear();
    let runtime = runtime();
    let limit = Arc::new(runtime.block_on(L::open(url, workload.terms))?);
    let phase = Arc::new(AtomicU8::new(WARM_UP));
    let (sender, counts) = mpsc::channel();
    for number in 1..=workload.callers {
        let (sender, caller) = (sender.clone(), caller(limit.clone(), phase.clone(), workload.keys, number as u64));
        runtime.spawn(async move { sender.send(caller.await) });
    }
    drop(sender);
    thread::sleep(effort.warm_up);
    let (before, began) = (server.work(), Instant::now());
    phase.store(MEASURED, Ordering::Relaxed);
    thread::sleep(effort.measured);
    phase.store(OVER, Ordering::Relaxed);
    let (took, after) = (began.elapsed(), server.work());
    let mut all = Counted { decisions: 0, admitted: 0, nanos: histogram() };
    for _ in 0..workload.callers {
        let Ok(counted) = counts.recv_timeout(PATIENCE) else {
            runtime.shutdown_background();
            return Ok(None);
        };
        all.decisions += counted.decisions;
        all.admitted += counted.admitted;
        all.nanos.add(counted.nanos)?;
    }
    drop(limit);
    runtime.shutdown_timeout(PATIENCE);
    let each = |what: u64| what as f64 / all.decisions.max(1) as f64;
    let micros = |quantile: f64| all.nanos.value_at_quantile(quantile) as f64 / 1e3;
    Ok(Some(Turn {
        per_second: all.decisions as f64 / took.as_secs_f64(),
        admitted: each(all.admitted),
        p50_micros: micros(0.5),
        p99_micros: micros(0.99),
        calls_per_decision: each(after.calls - before.calls),
        script_micros: each(after.script_micros - before.script_micros),
        server_micros: each(after.server_micros - before.server_micros),
    }))
}

fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 60_000_000_000, 2).expect("bounds that are in order")
}

async fn caller<L: Limit>(limit: Arc<L>, phase: Arc<AtomicU8>, keys: usize, number: u64) -> Counted {
    let mut counted = Counted { decisions: 0, admitted: 0, nanos: histogram() };
    let mut state = number.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    loop {
        // Marsaglia's xorshift64, scaled to the number of keys.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let key = ((u128::from(state) * keys as u128) >> 64) as usize;
        let began = Instant::now();
        let admitted = limit.decide(key).await;
        let took = began.elapsed();
        match phase.load(Ordering::Relaxed) {
            WARM_UP => {}
            MEASURED => {
                counted.decisions += 1;
                counted.admitted += u64::from(admitted);
                counted.nanos.saturating_record(took.as_nanos() as u64);
            }
            _ => return counted,
        }
        // Callers that never wait yield, so that others run too.
        tokio::task::coop::consume_budget().await;
    }
}

/// The longest time in which a limit must answer, or flush all keys to the server.
const PATIENCE: Duration = Duration::from_millis(1500);

/// Returns the bytes that the server needs per key, for many keys of which a token was spent. `None` if it does not
/// know all keys.
pub fn memory<L: Limit>(server: &mut Server, url: &str) -> Opened<Option<f64>> {
    server.clear();
    let runtime = runtime();
    let limit = Arc::new(runtime.block_on(L::open(url, Terms { tokens: 1000, seconds: 60 }))?);
    // One more key first, so that anything that a limit stores only once exists.
    runtime.block_on(limit.decide(0));
    let before = server.used_memory();
    for first in 0..64 {
        let limit = limit.clone();
        runtime.spawn(async move {
            for key in (first..KEYS).step_by(64) {
                limit.decide(key).await;
                tokio::task::coop::consume_budget().await;
            }
        });
    }
    let began = Instant::now();
    while server.keys() < KEYS as u64 && began.elapsed() < PATIENCE {
        thread::sleep(Duration::from_millis(10));
    }
    let are_all = server.keys() >= KEYS as u64;
    let used = server.used_memory().saturating_sub(before);
    runtime.shutdown_background();
    Ok(are_all.then_some(used as f64 / KEYS as f64))
}
