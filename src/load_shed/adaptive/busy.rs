//! The busy time: the time in which calls are in flight. It excludes a call that stays alone from start to end, unless
//! the limit is small (below 4).
//!
//! An excluded call is no evidence of the rate that the service can reach, and its end needs no reading of the clock.
//! Busy time starts at the admission of a call that another call joins, or under a small limit at the admission of any
//! call. It ends when no call is in flight.
//!
//! | from | to | when |
//! |---|---|---|
//! | idle | counted | a call joins another call, or is admitted while the limit is small (below 4) |
//! | counted | idle | the last call in flight ends |

use crate::{
    clock::Nanos,
    sync::{AtomicU64, Ordering},
};

/// The sum of the busy time. If several threads change between idle and counted at the same time, some time may count
/// as either. Each value is one relaxed word, which guards no other memory. The sum never exceeds the time on the
/// clock.
#[derive(Debug)]
pub(super) struct Busy {
    /// When the idle time began, plus one; zero while time is counted.
    idle_since: AtomicU64,
    /// The sum of all earlier idle time.
    idle: AtomicU64,
    /// The time of admission of the last call that found no other call in flight.
    alone_since: AtomicU64,
}

impl Default for Busy {
    fn default() -> Self {
        Self { idle_since: AtomicU64::new(1), idle: AtomicU64::new(0), alone_since: AtomicU64::new(0) }
    }
}

impl Busy {
    /// Returns whether the present time is counted as busy. Only then do answered calls count as completed.
    #[inline]
    pub(super) fn is_counted(&self) -> bool {
        self.idle_since.load(Ordering::Relaxed) == 0
    }

    /// Records that a call was admitted. `level` calls are in flight, including this one. If `counts_alone`, a call
    /// that is alone in flight counts, too.
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

    /// Records that no call is in flight any more.
    // Counted => Idle
    #[inline]
    pub(super) fn ends(&self, now: Nanos) {
        self.idle_since.store(now.0.saturating_add(1), Ordering::Relaxed);
    }

    /// Returns the busy time until now.
    pub(super) fn until(&self, now: Nanos) -> Nanos {
        let idle_since = self.idle_since.load(Ordering::Relaxed);
        let until = if idle_since == 0 { now.0 } else { now.0.min(idle_since - 1) };
        Nanos(until.saturating_sub(self.idle.load(Ordering::Relaxed)))
    }
}
