//! The time in which calls are in flight.
//!
//! A call that is alone from its beginning to its end says nothing of the rate that the service is able to do, and its
//! end reads no clock. Time counts from the beginning of a call that another one joins, until none is in flight.
//!
//! | from | to | when |
//! |---|---|---|
//! | idle | counted | a call joins another one, or the limit is small |
//! | counted | idle | the last call in flight ends |

use crate::{
    clock::Nanos,
    sync::{AtomicU64, Ordering},
};

/// An account of busy time, up to lost updates: threads that cross the border between idle and counted at once may
/// count some time as either. Each value is one relaxed word, and the time stays below that of the clock.
#[derive(Debug)]
pub(super) struct Busy {
    /// When the idle time began, plus one; zero while time counts.
    idle_since: AtomicU64,
    /// All earlier idle time.
    idle: AtomicU64,
    /// When the call began that is, or was, alone in flight.
    alone_since: AtomicU64,
}

impl Default for Busy {
    fn default() -> Self {
        Self { idle_since: AtomicU64::new(1), idle: AtomicU64::new(0), alone_since: AtomicU64::new(0) }
    }
}

impl Busy {
    /// Whether time counts, and what ends in it.
    #[inline]
    pub(super) fn is_counted(&self) -> bool {
        self.idle_since.load(Ordering::Relaxed) == 0
    }

    /// A call was admitted as one of `level` in flight.
    #[inline]
    pub(super) fn admitted(&self, level: u64, counts_alone: bool, now: Nanos) {
        if self.is_counted() {
            return;
        }
        if level == 1 {
            self.alone_since.store(now.0, Ordering::Relaxed);
        }
        if level > 1 || counts_alone {
            // Idle => Counted
            let idle_since = self.idle_since.swap(0, Ordering::Relaxed);
            let begin = self.alone_since.load(Ordering::Relaxed).min(now.0);
            if idle_since > 0 {
                self.idle.fetch_add(begin.saturating_sub(idle_since - 1), Ordering::Relaxed);
            }
        }
    }

    /// No call is in flight any more.
    // Counted => Idle
    #[inline]
    pub(super) fn ends(&self, now: Nanos) {
        self.idle_since.store(now.0.saturating_add(1), Ordering::Relaxed);
    }

    /// The busy time until now.
    pub(super) fn until(&self, now: Nanos) -> Nanos {
        let idle_since = self.idle_since.load(Ordering::Relaxed);
        let until = if idle_since == 0 { now.0 } else { now.0.min(idle_since - 1) };
        Nanos(until.saturating_sub(self.idle.load(Ordering::Relaxed)))
    }
}
