//! What the observers of several stacks share with the delivery.

use super::{counts::EventCounts, delivery::DeliveryState};
use crate::{
    panics::survives,
    shell::{End, Instrument, Number, Readings, StateChange, StateListener},
    sync::{Mutex, lock},
};
use std::{
    collections::VecDeque,
    mem,
    sync::{
        Arc, OnceLock, Weak,
        atomic::{AtomicBool, Ordering},
    },
};
use tokio::{sync::Notify, time::Instant};

/// The most changes of state that wait for the delivery.
const MOST_PENDING: usize = 1024;

/// The most bytes of evidence that wait with one change.
const LONGEST_EVIDENCE: usize = 1000;

pub(super) struct EventHub {
    /// Whether changes of state are told to a function.
    listens: bool,
    names: Mutex<Vec<StackName>>,
    pending: Mutex<PendingChanges>,
    /// A change of state waits, or the last observer is gone.
    pub(super) news: Notify,
    is_closed: AtomicBool,
    /// What only the delivery at work uses.
    pub(super) turn: tokio::sync::Mutex<DeliveryState>,
}

/// The stacks of one name.
#[derive(Clone)]
pub(super) struct StackName {
    pub(super) counts: Arc<EventCounts>,
    stacks: Vec<Weak<StackInstruments>>,
}

/// Exists while there is an observer: while a stack does, or a handle of the events.
pub(super) struct HubGuard(pub(super) Arc<EventHub>);

/// What an observer needs of its stack. All its clones share it.
pub(super) struct StackEvents {
    counts: Arc<EventCounts>,
    learned: OnceLock<Arc<StackInstruments>>,
}

/// What an observer has learned of the mechanisms of its stack.
pub(super) struct StackInstruments {
    stack: &'static str,
    instruments: Vec<Arc<dyn Instrument>>,
    /// Holds what lives, so that a change it tells of while the stack ends is delivered.
    listener: Option<Arc<StateListener>>,
}

#[derive(Default)]
struct PendingChanges {
    changes: VecDeque<OwnedChange>,
    missed: u64,
}

/// A [`StateChange`] on its way to the delivery.
pub(super) struct OwnedChange {
    pub(super) stack: &'static str,
    mechanism: &'static str,
    from: &'static str,
    to: &'static str,
    is_trouble: bool,
    evidence: String,
    missed: u64,
}

impl EventHub {
    pub(super) fn new(listens: bool, turn: DeliveryState) -> Self {
        Self {
            listens,
            names: Mutex::default(),
            pending: Mutex::default(),
            news: Notify::new(),
            is_closed: AtomicBool::new(false),
            turn: tokio::sync::Mutex::new(turn),
        }
    }

    /// The counts of the stacks of this name.
    pub(super) fn counts(&self, stack: &'static str) -> Arc<EventCounts> {
        let mut names = lock(&self.names);
        if let Some(name) = names.iter().find(|name| name.counts.stack == stack) {
            return name.counts.clone();
        }
        let counts = Arc::new(EventCounts::of(stack));
        names.push(StackName { counts: counts.clone(), stacks: Vec::new() });
        counts
    }

    /// Adds a stack to those of its name, and forgets those that are gone.
    pub(super) fn add(&self, learned: &Arc<StackInstruments>) {
        let mut names = lock(&self.names);
        if let Some(name) = names.iter_mut().find(|name| name.counts.stack == learned.stack) {
            name.stacks.retain(|stack| stack.strong_count() > 0);
            name.stacks.push(Arc::downgrade(learned));
        }
    }

    pub(super) fn names(&self) -> Vec<StackName> {
        lock(&self.names).clone()
    }

    fn add_change(&self, change: OwnedChange) {
        let mut pending = lock(&self.pending);
        let oldest = if pending.changes.len() == MOST_PENDING { pending.changes.pop_front() } else { None };
        if let Some(oldest) = &oldest {
            pending.missed = pending.missed.saturating_add(oldest.missed).saturating_add(1);
        }
        pending.changes.push_back(change);
        drop(pending);
        self.news.notify_one();
    }

    pub(super) fn next_change(&self) -> Option<OwnedChange> {
        let mut pending = lock(&self.pending);
        let change = pending.changes.pop_front()?;
        let missed = mem::take(&mut pending.missed).saturating_add(change.missed);
        Some(OwnedChange { missed, ..change })
    }

    pub(super) fn has_changes(&self) -> bool {
        !lock(&self.pending).changes.is_empty()
    }

    /// Whether no observer is left. All that they counted and told is then seen.
    pub(super) fn is_closed(&self) -> bool {
        // Pairs with the drop of `HubGuard`.
        self.is_closed.load(Ordering::Acquire)
    }
}

impl Drop for HubGuard {
    fn drop(&mut self) {
        self.0.is_closed.store(true, Ordering::Release);
        self.0.news.notify_one();
    }
}

impl StackEvents {
    pub(super) fn of(counts: Arc<EventCounts>) -> Self {
        Self { counts, learned: OnceLock::new() }
    }

    pub(super) fn name(&self) -> &'static str {
        self.counts.stack
    }

    /// Whether these are the first instruments that it learns of.
    pub(super) fn learn(&self, learned: Arc<StackInstruments>) -> bool {
        self.learned.set(learned).is_ok()
    }

    #[inline]
    pub(super) fn count(&self, end: &End<'_>) {
        self.counts.count(end);
    }
}

impl StackInstruments {
    pub(super) fn new(live: &Arc<HubGuard>, stack: &'static str, instruments: &[Arc<dyn Instrument>]) -> Self {
        let listener = live.0.listens.then(|| {
            let live = live.clone();
            let listener = move |change: &StateChange<'_>| live.0.add_change(OwnedChange::of(stack, change));
            Arc::new(listener) as Arc<StateListener>
        });
        Self { stack, instruments: instruments.to_vec(), listener }
    }

    pub(super) fn listen(&self) {
        if let Some(listener) = &self.listener {
            for instrument in &self.instruments {
                instrument.listen(&Arc::downgrade(listener));
            }
        }
    }
}

impl StackName {
    /// Whether calls wait in the queues of its stacks. An instrument that panics hides no other.
    pub(super) fn has_waiters(&self, now: Instant) -> bool {
        let mut has_waiters = false;
        let mut take = |reading: crate::shell::Reading| match reading.number() {
            Number::Sum(calls) if reading.name() == "queue_waiting" => has_waiters |= *calls > 0.0,
            _ => {}
        };
        for stack in self.stacks.iter().filter_map(Weak::upgrade) {
            for instrument in &stack.instruments {
                survives(|| instrument.read(now, &mut Readings::to(&mut take)));
            }
        }
        has_waiters
    }
}

impl OwnedChange {
    fn of(stack: &'static str, change: &StateChange<'_>) -> Self {
        let mut evidence = change.evidence().to_string();
        // Truncate: values can be arbitrarily long.
        if evidence.len() > LONGEST_EVIDENCE {
            let end = (0..=LONGEST_EVIDENCE).rev().find(|end| evidence.is_char_boundary(*end)).unwrap_or_default();
            evidence.truncate(end);
            evidence.push_str("..");
            evidence.shrink_to_fit();
        }
        Self {
            stack,
            mechanism: change.mechanism(),
            from: change.from(),
            to: change.to(),
            is_trouble: change.is_trouble(),
            evidence,
            missed: change.missed(),
        }
    }

    /// Passes the change to a function.
    pub(super) fn tell(&self, tell: impl FnOnce(&StateChange<'_>)) {
        let change = StateChange::new(self.mechanism, self.from, self.to, &self.evidence).after_missing(self.missed);
        tell(&if self.is_trouble { change.trouble() } else { change });
    }
}

#[cfg(all(test, not(steadfast_loom)))]
mod tests {
    use super::*;
    use crate::telemetry::Events;
    use std::time::Duration;

    #[test]
    fn stacks_that_are_gone_leave_one_entry_for_each_name() {
        let (events, delivery) = Events::builder().build(Duration::from_secs(1)).unwrap();
        for _ in 0..100 {
            for stack in ["payments", "orders"] {
                let service = tower::service_fn(async |()| Ok::<_, ()>(()));
                crate::stack::client().observe(stack, events.clone()).service(service).unwrap();
            }
        }
        let names = delivery.hub().names();
        let stacks: Vec<_> = names.iter().map(|name| (name.counts.stack, name.stacks.len())).collect();
        assert_eq!(stacks, [("", 0), ("payments", 1), ("orders", 1)]);
    }

    #[test]
    fn evidence_is_cut_off_between_characters() {
        let long = "é".repeat(LONGEST_EVIDENCE);
        let change = OwnedChange::of("payments", &StateChange::new("breaker", "closed", "open", &long));
        assert_eq!(change.evidence, format!("{}..", "é".repeat(LONGEST_EVIDENCE / 2)));
        let short = "é".repeat(LONGEST_EVIDENCE / 2);
        let change = OwnedChange::of("payments", &StateChange::new("breaker", "closed", "open", &short));
        assert_eq!(change.evidence, short);
    }
}
