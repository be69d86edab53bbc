//! Where threads meet before they measure.

use std::{
    hint::spin_loop,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::{Duration, Instant},
};

/// Where the threads of a turn wait for each other, until all of them are on a core at once.
pub struct Gate {
    parties: usize,
    present: AtomicUsize,
}

/// How long a thread or task waits on its core for the others before it gives way.
const GLANCE: Duration = Duration::from_micros(300);

impl Gate {
    pub fn new(parties: usize) -> Self {
        Self { parties, present: AtomicUsize::new(0) }
    }

    /// Waits for the others for a moment, without giving up the core. False if one of them did not come.
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

    /// As [`pass`](Self::pass) in a task: where two are on one core, another core can take the one that gives way.
    pub async fn pass_in_task(&self) {
        while !self.try_pass() {
            tokio::task::yield_now().await;
        }
    }
}
