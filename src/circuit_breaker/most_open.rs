//! A bound on how many of many breakers are open at once.

use crate::sync::{AtomicU64, Ordering};
use std::sync::Arc;

/// Shares are kept in parts per million.
const PARTS: u64 = 1_000_000;
/// No bound.
const OFF: u64 = u64::MAX;

/// One breaker, and one that is open, in the word.
const ONE_BREAKER: u64 = 1 << 32;
const OPEN_MASK: u64 = ONE_BREAKER - 1;

/// How many breakers there are, how many of them are open or half-open, and which share may be.
///
/// A breaker takes a place before it shows that it is open, and gives it back after it shows that it is not. So there
/// are never more open breakers than places that are taken.
pub struct MostOpen {
    /// The breakers in the upper half, the places taken in the lower one. One word, so that no change of the one can
    /// come between a look at the other and its change.
    ///
    /// Each change keeps `places taken <= most(breakers)`, unless the share is lowered. A release for the thread that
    /// takes the place next: it has seen the former holder closed.
    word: AtomicU64,
    /// Relaxed: it guards no other memory.
    share: AtomicU64,
}

/// The place of an open breaker, until it is dropped.
pub(super) struct OpenPlace(Arc<MostOpen>);

impl MostOpen {
    pub(crate) fn new() -> Self {
        Self { word: AtomicU64::new(0), share: AtomicU64::new(OFF) }
    }

    /// Bounds the share of the breakers that are open. It must be a number above 0 and at most 1.
    pub(crate) fn set_share(&self, share: f64) {
        let parts = (share * PARTS as f64).round() as u64;
        self.share.store(parts.clamp(1, PARTS), Ordering::Relaxed);
    }

    /// The share, if there is a bound.
    pub(crate) fn share(&self) -> Option<f64> {
        let share = self.share.load(Ordering::Relaxed);
        (share != OFF).then_some(share as f64 / PARTS as f64)
    }

    /// The breakers that are open or half-open.
    pub(crate) fn open(&self) -> usize {
        (self.word.load(Ordering::Acquire) & OPEN_MASK) as usize
    }

    /// One more breaker.
    pub(crate) fn add_breaker(&self) {
        self.word.fetch_add(ONE_BREAKER, Ordering::AcqRel);
    }

    /// One breaker fewer, unless that leaves more of them open than may be.
    pub(crate) fn remove_breaker(&self) -> bool {
        self.change(|word| word.checked_sub(ONE_BREAKER).filter(|fewer| self.allows(*fewer)))
    }

    /// A place for one more open breaker, if there is one.
    pub(super) fn take(self: &Arc<Self>) -> Option<OpenPlace> {
        self.change(|word| Some(word + 1).filter(|more| self.allows(*more))).then(|| OpenPlace(self.clone()))
    }

    fn change(&self, change: impl Fn(u64) -> Option<u64>) -> bool {
        self.word.fetch_update(Ordering::AcqRel, Ordering::Acquire, change).is_ok()
    }

    /// Whether the open breakers of this word are within the share: rounded down, and at least one.
    fn allows(&self, word: u64) -> bool {
        let (breakers, open) = (word >> 32, word & OPEN_MASK);
        match self.share.load(Ordering::Relaxed) {
            OFF => true,
            share => open <= (breakers * share / PARTS).max(1),
        }
    }
}

impl Drop for OpenPlace {
    fn drop(&mut self) {
        self.0.word.fetch_sub(1, Ordering::AcqRel);
    }
}
