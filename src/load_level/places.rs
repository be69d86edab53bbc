//! The places in the service, in one atomic word. Calls enter and leave without the lock while no call waits, the queue
//! is open and there is no pace.
//!
//! | mode | how a call enters or leaves | what changes the word |
//! |---|---|---|
//! | fast | one compare-and-swap | any thread |
//! | slow | under the queue's lock | the thread that holds the lock |
//!
//! | from | to | when | in |
//! |---|---|---|---|
//! | fast, slow | slow | a thread takes the lock to change the queue | [`Word::take_over`] |
//! | slow | fast | its change is done; no call waits, there is no pace, and the queue is open | [`Word::hand_back`] |
//! | slow | slow | its change is done; a call waits, there is a pace, or the queue is closed | [`Word::hand_back`] |

use super::state::QueueState;
use crate::sync::{AtomicU64, MutexGuard, Ordering};

/// The number of calls in the service, and its limit.
#[derive(Clone, Copy, Debug)]
pub(super) struct ServicePlaces {
    pub(super) taken: u32,
    pub(super) limit: u32,
}

/// Whether calls need the lock to enter and to leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    Fast,
    Slow,
}

/// [`ServicePlaces`] and the [`Mode`]. Relaxed throughout: the word guards no other memory. In the fast mode a call
/// enters or leaves by one compare-and-swap. In the slow mode only the holder of the lock writes.
///
/// Aligned to its own cache lines, against false sharing.
#[repr(align(128))]
pub(super) struct Word(AtomicU64);

/// The lowest bit of the limit in the word. The 31 bits below it count the places that are taken.
const LIMIT_SHIFT: u32 = 31;
/// The bits of the places that are taken.
const TAKEN: u64 = (1 << LIMIT_SHIFT) - 1;
/// Set in the slow mode.
const SLOW: u64 = 1 << 63;
/// The highest concurrency.
pub(super) const MOST_CONCURRENCY: usize = (1 << LIMIT_SHIFT) - 1;

impl ServicePlaces {
    pub(super) fn are_free(&self) -> bool {
        self.taken < self.limit
    }

    fn of(word: u64) -> Self {
        Self { taken: (word & TAKEN) as u32, limit: ((word & !SLOW) >> LIMIT_SHIFT) as u32 }
    }

    fn word(self, mode: Mode) -> u64 {
        let slow = match mode {
            Mode::Fast => 0,
            Mode::Slow => SLOW,
        };
        slow | (u64::from(self.limit) << LIMIT_SHIFT) | u64::from(self.taken)
    }
}

impl Word {
    /// Returns the word of a service without calls.
    pub(super) fn new(limit: u32, mode: Mode) -> Self {
        Self(AtomicU64::new(ServicePlaces { taken: 0, limit }.word(mode)))
    }

    #[inline]
    pub(super) fn places(&self) -> ServicePlaces {
        ServicePlaces::of(self.0.load(Ordering::Relaxed))
    }

    pub(super) fn mode(&self) -> Mode {
        if self.0.load(Ordering::Relaxed) & SLOW == 0 { Mode::Fast } else { Mode::Slow }
    }

    /// Takes a place. Returns `false` in the slow mode, and if no place is free.
    #[inline]
    pub(super) fn enter(&self) -> bool {
        let mut seen = self.0.load(Ordering::Relaxed);
        loop {
            if seen & SLOW != 0 || !ServicePlaces::of(seen).are_free() {
                return false;
            }
            match self.0.compare_exchange_weak(seen, seen + 1, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return true,
                Err(newer) => seen = newer,
            }
        }
    }

    /// Gives a place back. In the slow mode it does nothing, and returns `false`.
    #[inline]
    pub(super) fn end(&self) -> bool {
        let mut seen = self.0.load(Ordering::Relaxed);
        while seen & SLOW == 0 {
            match self.0.compare_exchange_weak(seen, seen - 1, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return true,
                Err(newer) => seen = newer,
            }
        }
        false
    }

    /// Reserves the word for the holder of the lock, until it hands the word back.
    // Fast | Slow => Slow
    pub(super) fn take_over(&self, _lock: &MutexGuard<'_, QueueState>) -> ServicePlaces {
        ServicePlaces::of(self.0.fetch_or(SLOW, Ordering::Relaxed))
    }

    /// Writes the places back. From then on the word is in the mode that the queue's state requires.
    // Slow => Fast | Slow
    pub(super) fn hand_back(&self, places: ServicePlaces, lock: &MutexGuard<'_, QueueState>) {
        self.0.store(places.word(lock.mode()), Ordering::Relaxed);
    }
}
