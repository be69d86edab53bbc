//! One process of the fleet: three limits on one store, and the calls that the process receives.

use std::{
    error::Error,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use steadfast::{
    Random,
    rate_limit::{
        Quota,
        distributed::{Exact, Leased, Store, WriteBehind},
    },
};
use tokio::time::{Instant, sleep};

pub const PROCESSES: usize = 4;
/// Tokens per second, of all processes together.
pub const RATE: u64 = 1000;
pub const BURST: u64 = 200;
/// Calls per second at all processes together. Zipf's law assigns them: one process receives almost half.
const DEMAND: f64 = 3000.0;
pub const WINDOW: Duration = Duration::from_secs(1);
/// Admissions are counted in slots of this length.
pub const SLOT: Duration = Duration::from_millis(50);
const KEY: &[u8] = b"all";

/// How the limit is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    Exact,
    Leased,
    WriteBehind,
}

impl Way {
    pub const ALL: [Self; 3] = [Self::Exact, Self::Leased, Self::WriteBehind];

    pub fn name(self) -> &'static str {
        match self {
            Self::Exact => "exact",
            Self::Leased => "leased",
            Self::WriteBehind => "write-behind",
        }
    }

    /// The most admissions in any window while the store answers, as the documentation of each limit states it.
    pub fn bound(self) -> u64 {
        let in_a_window = BURST + RATE;
        match self {
            Self::Exact => in_a_window + RATE / 200,
            Self::Leased => RATE,
            Self::WriteBehind => in_a_window + (PROCESSES as u64 - 1) * RATE / 10,
        }
    }

    /// The bound of a window in which the store does not answer. For a leased limit it is [`bound`](Self::bound). The
    /// other limits can admit another burst, and one call for each process.
    pub fn bound_in_outage(self) -> u64 {
        match self {
            Self::Leased => self.bound(),
            Self::Exact | Self::WriteBehind => self.bound() + BURST + PROCESSES as u64,
        }
    }
}

/// The admissions in each slot, for each kind of limit.
pub type Slots = [Vec<u64>; 3];

/// The summary of a run.
pub struct Seen {
    pub worst: u64,
    pub worst_in_outage: u64,
    /// Admissions as a share of the configured rate.
    pub part: f64,
}

impl Seen {
    pub fn of(slots: &[u64], way: Way, third: Duration) -> Self {
        let windows = in_the_last_window(slots);
        let third = slots_in(third);
        // The debts of the outage are repaid within a few seconds of its end.
        let out = third..(2 * third + 3 * slots_in(WINDOW));
        let worst = |of_outage: bool| {
            let chosen = windows.iter().enumerate().filter(|(slot, _)| out.contains(slot) == of_outage);
            chosen.map(|(_, tokens)| *tokens).max().unwrap_or(0)
        };
        let burst = if way == Way::Leased { 0 } else { BURST };
        let all = slots.iter().sum::<u64>().saturating_sub(burst) as f64;
        let given = RATE as f64 * slots.len() as f64 * SLOT.as_secs_f64();
        Self { worst: worst(false), worst_in_outage: worst(true), part: all / given }
    }
}

/// Returns, for each slot, the admissions in the window that ends with it.
pub fn in_the_last_window(slots: &[u64]) -> Vec<u64> {
    let length = slots_in(WINDOW);
    (0..slots.len()).map(|end| slots[(end + 1).saturating_sub(length)..=end].iter().sum()).collect()
}

pub fn slots_in(length: Duration) -> usize {
    (length.as_millis() / SLOT.as_millis()) as usize
}

/// Makes calls for three times `third`, and counts the admitted ones.
pub async fn run<S: Store + Clone>(index: usize, store: S, third: Duration) -> Result<Slots, Box<dyn Error>> {
    let random = Random::seeded(index as u64);
    let quota = Quota::new(RATE, Duration::from_secs(1)).with_burst(BURST);
    let exact =
        Exact::builder(store.clone(), quota).namespace("exact").processes(PROCESSES as u64).random(random.clone());
    let leased = Leased::builder(store.clone(), RATE, WINDOW).random(random.clone());
    let write_behind = WriteBehind::builder(store, quota, PROCESSES as u64).namespace("write-behind").random(random);
    let ((exact, first), (leased, second), (write_behind, third_flusher)) =
        (exact.build()?, leased.build()?, write_behind.build()?);
    let flushers = [first, second, third_flusher].map(|flusher| tokio::spawn(flusher.run()));

    let length = 3 * third;
    let slots: Arc<Mutex<Slots>> = Arc::new(Mutex::new(std::array::from_fn(|_| vec![0; slots_in(length)])));
    let is_over = Arc::new(AtomicBool::new(false));
    let start = Instant::now();
    let count = {
        let (slots, is_over) = (slots.clone(), is_over.clone());
        move |way: usize| {
            let slot = slots_in(Instant::now() - start);
            let mut slots = slots.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            if let (false, Some(slot)) = (is_over.load(Ordering::Relaxed), slots[way].get_mut(slot)) {
                *slot += 1;
            }
        }
    };
    let all: f64 = (1..=PROCESSES).map(|rank| 1.0 / rank as f64).sum();
    let rate = DEMAND / all / (index + 1) as f64;
    let mut came = 0;
    while Instant::now() - start < length {
        let due = ((Instant::now() - start).as_secs_f64() * rate) as u64;
        for _ in came..due {
            let (exact, count_exact) = (exact.clone(), count.clone());
            tokio::spawn(async move {
                if exact.acquire(KEY, 1).await.is_ok() {
                    count_exact(0);
                }
            });
            if leased.try_acquire(KEY, 1).is_ok() {
                count(1);
            }
            if write_behind.try_acquire(KEY, 1).is_ok() {
                count(2);
            }
        }
        came = due;
        sleep(Duration::from_millis(1)).await;
    }
    is_over.store(true, Ordering::Relaxed);
    drop((exact, leased, write_behind));
    for flusher in flushers {
        // Returns the held credit to the store.
        flusher.await?;
    }
    let slots = slots.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    Ok(slots.clone())
}
