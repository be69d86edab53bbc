//! Reports applied and refused configurations to listeners.

use super::{StackConfig, changes::Changes};
use crate::{
    error::ConfigError,
    panics::survives,
    shell::{StateChange, StateListener},
    sync::{AtomicU64, Mutex, Ordering, lock},
};
use std::{
    collections::VecDeque,
    fmt,
    sync::{Arc, Weak},
};

/// The largest number of outcomes that wait for the listeners. One more drops the oldest.
const MOST_PENDING: usize = 1024;

/// Counts the configurations that were applied and refused, and reports them to listeners.
#[derive(Default)]
pub(super) struct News {
    /// The configurations that changed something. Relaxed: the count guards no other memory.
    applied: Count,
    /// The configurations that were refused. Relaxed, too.
    refused: Count,
    /// Held for a few steps. No other lock is taken while this one is held.
    reports: Mutex<Reports>,
}

#[derive(Default)]
struct Reports {
    listeners: Listeners,
    pending: VecDeque<Item>,
    /// Whether a thread is delivering. Only one does at a time, which keeps the order.
    in_delivery: bool,
    /// The number of outcomes that were dropped since the last delivered one.
    missed: u64,
}

/// The listeners at one moment.
type Listeners = Arc<Vec<Weak<StateListener>>>;

/// Whether a configuration was applied or refused.
pub(super) enum Outcome {
    /// The configuration `after` replaced the configuration `before`.
    Applied {
        before: Box<StackConfig>,
        after: Box<StackConfig>,
    },
    Refused(ConfigError),
}

/// An outcome, and the listeners at the time of the outcome.
struct Item {
    outcome: Outcome,
    listeners: Listeners,
    /// The number of outcomes that were dropped just before this one. It is zero until [`News::next`] takes the outcome
    /// for delivery.
    missed: u64,
}

struct Count(AtomicU64);

impl Default for Count {
    fn default() -> Self {
        Self(AtomicU64::new(0))
    }
}

impl News {
    /// Returns how many configurations changed something, and how many were refused.
    pub(super) fn counts(&self) -> (u64, u64) {
        (self.applied.0.load(Ordering::Relaxed), self.refused.0.load(Ordering::Relaxed))
    }

    /// Counts an outcome, and keeps it for the current listeners. [`deliver`](Self::deliver) delivers it.
    pub(super) fn add(&self, outcome: Outcome) {
        let count = match outcome {
            Outcome::Applied { .. } => &self.applied,
            Outcome::Refused(_) => &self.refused,
        };
        count.0.fetch_add(1, Ordering::Relaxed);
        let mut reports = lock(&self.reports);
        if reports.listeners.is_empty() {
            return;
        }
        if reports.pending.len() == MOST_PENDING {
            reports.pending.pop_front();
            reports.missed += 1;
        }
        let listeners = reports.listeners.clone();
        reports.pending.push_back(Item { outcome, listeners, missed: 0 });
    }

    /// Adds a listener, which receives the later outcomes until it is dropped.
    pub(super) fn listen(&self, listener: &Weak<StateListener>) {
        let mut reports = lock(&self.reports);
        let others = reports.listeners.iter().filter(|other| other.strong_count() > 0);
        reports.listeners = Arc::new(others.chain([listener]).cloned().collect());
    }

    /// Delivers pending outcomes. If a delivery is already running, on this or another thread, it also delivers these
    /// outcomes, and this function returns at once. The caller must hold no lock.
    pub(super) fn deliver(&self) {
        if !self.begins_delivery() {
            return;
        }
        while let Some(item) = self.next() {
            item.deliver();
        }
    }

    fn begins_delivery(&self) -> bool {
        let mut reports = lock(&self.reports);
        let begins = !reports.in_delivery && !reports.pending.is_empty();
        reports.in_delivery |= begins;
        begins
    }

    /// Takes the next outcome. `None` ends the delivery.
    fn next(&self) -> Option<Item> {
        let mut reports = lock(&self.reports);
        let missed = std::mem::take(&mut reports.missed);
        let next = reports.pending.pop_front().map(|item| Item { missed, ..item });
        reports.in_delivery = next.is_some();
        next
    }
}

impl Item {
    /// Calls the listeners without a lock, and catches a panic of each.
    fn deliver(self) {
        let Self { outcome, listeners, missed } = self;
        for listener in &*listeners {
            survives(|| {
                if let Some(listener) = listener.upgrade() {
                    listener(&outcome.change().after_missing(missed));
                }
            });
        }
    }
}

impl Outcome {
    fn change(&self) -> StateChange<'_> {
        match self {
            Self::Applied { .. } => StateChange::new("configuration", "offered", "applied", self),
            Self::Refused(error) => StateChange::new("configuration", "offered", "refused", error).trouble(),
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Applied { before, after } => write!(f, "{}", Changes { before, after }),
            Self::Refused(error) => write!(f, "{error}"),
        }
    }
}
