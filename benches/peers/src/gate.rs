//! Synchronizes threads before they measure.

use std::{
    hint::spin_loop,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::{Duration, Instant},
};

/// The point where the threads of a turn wait, until each of them runs on a core at the same time.
pub struct Gate {
    parties: usize,
    present: AtomicUsize,
}

/// How long a thread or task spins for the others before it yields.
const GLANCE: Duration = Duration::from_micros(300);

impl Gate {
    pub fn new(parties: usize) -> Self {
        Self { parties, present: AtomicUsize::new(0) }
    }

    /// Spins for the others for a moment, without yielding. Returns false if one of them did not arrive.
    fn try_pass(&self) -> bool {
        let present = self.present.fetch_add(1, Ordering::AcqRel) + 1;
        let begin = Instant::now();
        while self.present.load(Ordering::Acquire) < self.parties {
            spin_loop();
            if begin.elapsed() > GLANCE {
                let left = self.present.compare_exchange(present, present - 1, Ordering::AcqRel, Ordering::Acquire);
                if left.is_ok() {
                    return false;
                }
            }
        }
        true
    }

    pub fn pass(&self) {
        while !self.try_pass() {
            thread::yield_now();
        }
    }

    /// Like [`pass`](Self::pass), for a task: if two tasks share a core, another core can take over the one that
    /// yields.
    pub async fn pass_in_task(&self) {
        while !self.try_pass() {
            tokio::task::yield_now().await;
        }
    }
}
