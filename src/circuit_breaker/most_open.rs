//! What many breakers have in common: a bound on how many of them are open at once, the counts of their transitions,
//! and those who listen to all of them.

use super::BreakerState;
use crate::{
    shell::StateListener,
    sync::{AtomicU64, Mutex, Ordering, lock},
};
use std::sync::{Arc, Weak};

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
    /// How often a breaker entered each state, in the order of [`BreakerState::ALL`]. Relaxed: they guard no other
    /// memory.
    entered: [AtomicU64; BreakerState::ALL.len()],
    /// Those who listen to all breakers, present and future. Locked last of all.
    listeners: Mutex<Listeners>,
}

/// Those who listen at one moment.
pub(super) type Listeners = Arc<[Weak<StateListener>]>;

/// The place of an open breaker, until it is dropped.
pub(super) struct OpenPlace(Arc<MostOpen>);

impl MostOpen {
    pub(crate) fn new() -> Self {
        Self {
            word: AtomicU64::new(0),
            share: AtomicU64::new(OFF),
            entered: BreakerState::ALL.map(|_| AtomicU64::new(0)),
            listeners: Mutex::new(Arc::new([])),
        }
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

    /// A breaker enters this state.
    pub(super) fn count(&self, entered: BreakerState) {
        self.entered[entered.place()].fetch_add(1, Ordering::Relaxed);
    }

    /// How often a breaker entered each state, in the order of [`BreakerState::ALL`].
    pub(crate) fn entered(&self) -> [u64; BreakerState::ALL.len()] {
        self.entered.each_ref().map(|entered| entered.load(Ordering::Relaxed))
    }

    /// Tells each transition of each breaker from now on to this listener, until it is dropped.
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
