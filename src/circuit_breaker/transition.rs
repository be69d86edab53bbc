//! Delivers the transitions of a breaker to listeners.

use super::{BreakerState, most_open::Listeners, window::Counts};
use crate::{panics::survives, shell::StateListener};
use std::{
    collections::VecDeque,
    fmt,
    sync::{Arc, Weak},
};
use tokio::time::Instant;

/// The most transitions that can be pending.
const MOST_PENDING: usize = 1024;

/// A change of the state of a [`Breaker`](super::Breaker), for the listeners of
/// [`on_transition`](super::Breaker::on_transition).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transition {
    pub(super) from: BreakerState,
    pub(super) to: BreakerState,
    pub(super) failures: Counts,
    pub(super) slow: Counts,
    pub(super) failures_in_a_row: u32,
    pub(super) half_open_at: Option<Instant>,
    pub(super) missed: u64,
}

impl Transition {
    /// Returns the state before.
    pub fn from(&self) -> BreakerState {
        self.from
    }

    /// Returns the state after.
    pub fn to(&self) -> BreakerState {
        self.to
    }

    /// Returns the calls that the failure rate counted just before, and the failures among them. Zero unless the
    /// circuit was closed and has a failure rate.
    pub fn counts(&self) -> (u64, u64) {
        (self.failures.calls, self.failures.bad)
    }

    /// Returns the calls that the rate of slow calls counted just before, and the slow ones among them. Zero unless the
    /// circuit was closed and has such a rate.
    pub fn slow_counts(&self) -> (u64, u64) {
        (self.slow.calls, self.slow.bad)
    }

    /// Returns the failures in a row just before. Zero unless the circuit was closed. If a new configuration has
    /// stopped counting them in this era, returns the last count.
    pub fn failures_in_a_row(&self) -> u32 {
        self.failures_in_a_row
    }

    /// Returns when a circuit that opened lets probes through. `None` if the state after is not open.
    pub fn half_open_at(&self) -> Option<Instant> {
        self.half_open_at
    }

    /// Returns the number of transitions that were dropped before this one because a listener was too slow. At most
    /// 1,024 transitions wait for delivery.
    pub fn missed(&self) -> u64 {
        self.missed
    }
}

/// A listener, owned by the breaker or by another owner.
#[derive(Clone)]
pub(super) enum Listener {
    /// A closure that the breaker keeps.
    Kept(Arc<dyn Fn(&Transition) + Send + Sync>),
    /// A listener of an [`Instrument`](crate::shell::Instrument). It hears nothing more once its owner has dropped it.
    OfInstrument(Weak<StateListener>),
}

impl Listener {
    fn is_gone(&self) -> bool {
        matches!(self, Self::OfInstrument(listener) if listener.strong_count() == 0)
    }

    fn hear(&self, transition: &Transition) {
        match self {
            Self::Kept(listener) => listener(transition),
            Self::OfInstrument(listener) => {
                if let Some(listener) = listener.upgrade() {
                    transition.report_to(&*listener);
                }
            }
        }
    }
}

/// A listener, and `since`: the number of the first transition that it hears.
#[derive(Clone)]
pub(super) struct Listening {
    since: u64,
    listener: Listener,
}

/// The pending transitions, under the lock of the machine.
///
/// | state | event | next state |
/// |---|---|---|
/// | idle | a transition is pending, and a thread calls [`begin_delivery`](Self::begin_delivery) | delivering: this thread delivers until nothing is pending |
/// | delivering | another thread or a listener adds a transition | delivering: the first thread finds the new transition |
/// | delivering | nothing is pending | idle |
#[derive(Default)]
pub(super) struct TransitionQueue {
    listeners: Vec<Listening>,
    /// The transitions. If the breaker belongs to a `PerKey`, each has the listeners that the `PerKey` had when the
    /// transition happened.
    pending: VecDeque<(Transition, Option<Listeners>)>,
    /// The number of transitions added so far. A listener gets none that are older than itself.
    added: u64,
    /// Whether a thread is delivering. Only one thread delivers at a time, so the order is kept.
    is_delivering: bool,
    /// The transitions that were dropped since the last one was delivered.
    missed: u64,
}

impl TransitionQueue {
    pub(super) fn add_listener(&mut self, listener: Listener) {
        self.listeners.retain(|each| !each.listener.is_gone());
        self.listeners.push(Listening { since: self.added, listener });
    }

    pub(super) fn has_listeners(&self) -> bool {
        !self.listeners.is_empty()
    }

    pub(super) fn added(&self) -> u64 {
        self.added
    }

    pub(super) fn add(&mut self, transition: Transition, group_listeners: Option<Listeners>) {
        if self.pending.len() == MOST_PENDING {
            self.pending.pop_front();
            self.missed += 1;
        }
        self.pending.push_back((transition, group_listeners));
        self.added += 1;
    }

    /// Returns whether the calling thread must deliver the pending transitions.
    pub(super) fn begin_delivery(&mut self) -> bool {
        let begins = !self.is_delivering && !self.pending.is_empty();
        self.is_delivering |= begins;
        begins
    }

    /// Returns the next transition. `None` ends the delivery.
    pub(super) fn next(&mut self) -> Option<Item> {
        let number = self.added - self.pending.len() as u64;
        let Some((transition, group_listeners)) = self.pending.pop_front() else {
            self.is_delivering = false;
            return None;
        };
        let missed = std::mem::take(&mut self.missed);
        let group_listeners = group_listeners.iter().flat_map(|listeners| listeners.iter());
        let group_listeners =
            group_listeners.map(|listener| Listening { since: 0, listener: Listener::OfInstrument(listener.clone()) });
        let own = self.listeners.iter().filter(|each| each.since <= number).cloned();
        let listeners = own.chain(group_listeners).collect();
        Some(Item { number, transition: Transition { missed, ..transition }, listeners })
    }
}

impl fmt::Debug for TransitionQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TransitionQueue").field("pending", &self.pending).finish_non_exhaustive()
    }
}

/// A transition, its number, and its listeners.
pub(super) struct Item {
    number: u64,
    transition: Transition,
    listeners: Vec<Listening>,
}

impl Item {
    /// Calls the listeners without a lock. Catches a panic of a listener.
    pub(super) fn deliver(self) {
        let Self { number, transition, listeners } = self;
        for Listening { since, listener } in listeners {
            // A listener of this breaker does not miss transitions that are older than itself: they are numbered below
            // `since`. For the listeners of a `PerKey`, `since` is 0.
            let missed = transition.missed.min(number - since);
            survives(|| listener.hear(&Transition { missed, ..transition }));
        }
    }
}
