//! The state that many breakers share: a bound on how many are open at once, the counts of their transitions, and their
//! listeners.

use super::BreakerState;
use crate::{
    shell::StateListener,
    sync::{AtomicU64, Mutex, Ordering, lock},
};
use std::sync::{Arc, Weak};

/// The unit of shares: parts per million.
const PARTS: u64 = 1_000_000;
/// No bound.
const OFF: u64 = u64::MAX;

/// The word counts breakers in its upper half and open ones in its lower half.
const ONE_BREAKER: u64 = 1 << 32;
const OPEN_MASK: u64 = ONE_BREAKER - 1;

/// How many breakers there are, how many of them are open or half-open, and which share of them may be.
///
/// A breaker takes a place before it shows that it is open, and returns the place after it shows that it is not. There
/// are therefore never more open breakers than taken places. A breaker that is opened by hand takes no place.
pub struct MostOpen {
    /// The breakers in the upper half, the places taken in the lower half. They share one word, so that one atomic step
    /// compares both and changes one of them.
    ///
    /// Each change of the word keeps `places taken <= max(1, breakers * share)`. Lowering the share can break this
    /// bound. A thread that returns a place releases, and a thread that takes a place acquires. The taker therefore
    /// sees that the breaker which held the place before is no longer open.
    word: AtomicU64,
    /// The share of breakers that may be open, in [`PARTS`]; [`OFF`] without a bound. Relaxed: it guards no other
    /// memory.
    share: AtomicU64,
    /// How often a breaker entered each state, in the order of [`BreakerState::ALL`]. Relaxed: they guard no other
    /// memory.
    times_entered: [AtomicU64; BreakerState::ALL.len()],
    /// The listeners of all breakers, present and future. Its lock is always the last to be taken.
    listeners: Mutex<Listeners>,
}

/// The listeners at one moment.
pub(super) type Listeners = Arc<[Weak<StateListener>]>;

/// The place that an open breaker has taken. Dropping this value returns the place.
pub(super) struct OpenPlace(Arc<MostOpen>);

impl MostOpen {
    pub(crate) fn new() -> Self {
        Self {
            word: AtomicU64::new(0),
            share: AtomicU64::new(OFF),
            times_entered: BreakerState::ALL.map(|_| AtomicU64::new(0)),
            listeners: Mutex::new(Arc::new([])),
        }
    }

    /// Bounds the share of open breakers. `share` must be above 0 and at most 1.
    pub(crate) fn set_share(&self, share: f64) {
        let parts = (share * PARTS as f64).round() as u64;
        self.share.store(parts.clamp(1, PARTS), Ordering::Relaxed);
    }

    /// Returns the share, if there is a bound.
    pub(crate) fn share(&self) -> Option<f64> {
        let share = self.share.load(Ordering::Relaxed);
        (share != OFF).then_some(share as f64 / PARTS as f64)
    }

    /// Returns the number of places taken: the breakers that are open or half-open, without those that were opened by
    /// hand.
    pub(crate) fn open(&self) -> usize {
        (self.word.load(Ordering::Acquire) & OPEN_MASK) as usize
    }

    /// Adds a breaker.
    pub(crate) fn add_breaker(&self) {
        self.word.fetch_add(ONE_BREAKER, Ordering::AcqRel);
    }

    /// Removes a breaker. Returns `false`, and removes none, if the open breakers would then exceed the share.
    pub(crate) fn remove_breaker(&self) -> bool {
        self.change(|word| word.checked_sub(ONE_BREAKER).filter(|fewer| self.allows(*fewer)))
    }

    /// Takes a place for one more open breaker, if there is one.
    pub(super) fn take(self: &Arc<Self>) -> Option<OpenPlace> {
        self.change(|word| Some(word + 1).filter(|more| self.allows(*more))).then(|| OpenPlace(self.clone()))
    }

    /// Counts that a breaker entered this state.
    pub(super) fn count(&self, entered: BreakerState) {
        self.times_entered[entered.place()].fetch_add(1, Ordering::Relaxed);
    }

    /// Returns how often a breaker entered each state, in the order of [`BreakerState::ALL`].
    pub(crate) fn times_entered(&self) -> [u64; BreakerState::ALL.len()] {
        self.times_entered.each_ref().map(|times| times.load(Ordering::Relaxed))
    }

    /// Reports each later transition of each breaker to this listener, until the listener is dropped.
    pub(crate) fn listen(&self, listener: &Weak<StateListener>) {
        let mut listeners = lock(&self.listeners);
        let others = listeners.iter().filter(|other| other.strong_count() > 0);
        *listeners = others.chain([listener]).cloned().collect();
    }

    pub(super) fn listeners(&self) -> Listeners {
        lock(&self.listeners).clone()
    }

    fn change(&self, change: impl Fn(u64) -> Option<u64>) -> bool {
        self.word.fetch_update(Ordering::AcqRel, Ordering::Acquire, change).is_ok()
    }

    /// Returns whether the open breakers of this word are within the share. The bound is rounded down, and at least
    /// one.
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
