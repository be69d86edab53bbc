//! What became of configurations, on its way to listeners.

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

/// The most changes that wait for a listener.
const MOST_PENDING: usize = 1024;

/// Counts the configurations that were applied and refused, and tells listeners.
#[derive(Default)]
pub(super) struct News {
    /// Relaxed, as that below: they guard no other memory.
    applied: Count,
    refused: Count,
    /// Locked last of all, for a few steps.
    telling: Mutex<Telling>,
}

#[derive(Default)]
struct Telling {
    listeners: Listeners,
    pending: VecDeque<Item>,
    /// One thread delivers what is pending. No other thread does, so the order stays.
    is_told: bool,
    missed: u64,
}

/// Those who listen at one moment.
type Listeners = Arc<Vec<Weak<StateListener>>>;

/// What became of a configuration.
pub(super) enum Outcome {
    /// It took the place of another.
    Applied {
        before: Box<StackConfig>,
        after: Box<StackConfig>,
    },
    Refused(ConfigError),
}

/// What became of a configuration, and who listened then.
struct Item {
    outcome: Outcome,
    listeners: Listeners,
    missed: u64,
}

struct Count(AtomicU64);

impl Default for Count {
    fn default() -> Self {
        Self(AtomicU64::new(0))
    }
}

impl News {
    /// The configurations that were applied and changed something, and those that were refused.
    pub(super) fn counts(&self) -> (u64, u64) {
        (self.applied.0.load(Ordering::Relaxed), self.refused.0.load(Ordering::Relaxed))
    }

    /// Counts this, and keeps it for those who listen now. [`tell`](Self::tell) delivers it.
    pub(super) fn add(&self, outcome: Outcome) {
        let count = match outcome {
            Outcome::Applied { .. } => &self.applied,
            Outcome::Refused(_) => &self.refused,
        };
        count.0.fetch_add(1, Ordering::Relaxed);
        let mut telling = lock(&self.telling);
        if telling.listeners.is_empty() {
            return;
        }
        if telling.pending.len() == MOST_PENDING {
            telling.pending.pop_front();
            telling.missed += 1;
        }
        let listeners = telling.listeners.clone();
        telling.pending.push_back(Item { outcome, listeners, missed: 0 });
    }

    /// Tells all that comes from now on to this listener, until it is dropped.
    pub(super) fn listen(&self, listener: &Weak<StateListener>) {
        let mut telling = lock(&self.telling);
        let others = telling.listeners.iter().filter(|other| other.strong_count() > 0);
        telling.listeners = Arc::new(others.chain([listener]).cloned().collect());
    }

    /// Delivers what is pending, unless another thread does. No lock may be held.
    pub(super) fn tell(&self) {
        if !self.begins_to_tell() {
            return;
        }
        while let Some(item) = self.next() {
            item.tell();
        }
    }

    fn begins_to_tell(&self) -> bool {
        let mut telling = lock(&self.telling);
        let begins = !telling.is_told && !telling.pending.is_empty();
        telling.is_told |= begins;
        begins
    }

    /// The next one. `None` ends the delivery.
    fn next(&self) -> Option<Item> {
        let mut telling = lock(&self.telling);
        let missed = std::mem::take(&mut telling.missed);
        let next = telling.pending.pop_front().map(|item| Item { missed, ..item });
        telling.is_told = next.is_some();
        next
    }
}

impl Item {
    /// Calls the listeners, under no lock. A panic of one ends there.
    fn tell(self) {
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
