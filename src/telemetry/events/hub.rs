//! The state that the observers of several stacks share with the delivery.

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

/// The most state changes that wait for the delivery. One more drops the oldest.
const MOST_PENDING: usize = 1024;

/// The most bytes kept of the text that gives the reason for one change, without the `..` at its end.
const LONGEST_EVIDENCE: usize = 1000;

pub(super) struct EventHub {
    /// Whether a function receives state changes.
    listens: bool,
    names: Mutex<Vec<StackName>>,
    pending: Mutex<PendingChanges>,
    /// Notified when a state change is pending, and when the last observer is dropped.
    pub(super) notify: Notify,
    /// Whether the last stack and the last handle of the events were dropped.
    is_closed: AtomicBool,
    /// Locked by the active delivery for as long as it runs. The other deliveries wait for the lock.
    pub(super) state: tokio::sync::Mutex<DeliveryState>,
}

/// The stacks of one name, and their counts.
#[derive(Clone)]
pub(super) struct StackName {
    pub(super) counts: Arc<EventCounts>,
    stacks: Vec<Weak<StackInstruments>>,
}

/// Closes the hub when dropped. Each stack and each handle of the events shares it, so the last of them closes the hub.
pub(super) struct HubGuard(pub(super) Arc<EventHub>);

/// The counts of a stack's name, and the mechanisms of the stack. All clones of the observer in one stack share it.
pub(super) struct StackEvents {
    counts: Arc<EventCounts>,
    instruments: OnceLock<Arc<StackInstruments>>,
}

/// The mechanisms of a stack.
pub(super) struct StackInstruments {
    stack: &'static str,
    instruments: Vec<Arc<dyn Instrument>>,
    /// The listener holds a guard of the hub, so that a change during the drop of the stack is still delivered. It is
    /// dropped after `instruments`, which hold it weakly.
    listener: Option<Arc<StateListener>>,
}

#[derive(Default)]
struct PendingChanges {
    changes: VecDeque<OwnedChange>,
    /// The number of changes that were dropped since the delivery last took one.
    missed: u64,
}

/// An owned [`StateChange`] that waits for the delivery.
pub(super) struct OwnedChange {
    pub(super) stack: &'static str,
    mechanism: &'static str,
    from: &'static str,
    to: &'static str,
    is_trouble: bool,
    evidence: String,
    /// The number of changes that were dropped just before this one: by the mechanism and, once
    /// [`EventHub::next_change`] has taken this change, also by the hub.
    missed: u64,
}

impl EventHub {
    pub(super) fn new(listens: bool, state: DeliveryState) -> Self {
        Self {
            listens,
            names: Mutex::default(),
            pending: Mutex::default(),
            notify: Notify::new(),
            is_closed: AtomicBool::new(false),
            state: tokio::sync::Mutex::new(state),
        }
    }

    /// Returns the counts of the stacks of this name. Creates them at the first use of the name.
    pub(super) fn counts(&self, stack: &'static str) -> Arc<EventCounts> {
        let mut names = lock(&self.names);
        if let Some(name) = names.iter().find(|name| name.counts.stack == stack) {
            return name.counts.clone();
        }
        let counts = Arc::new(EventCounts::of(stack));
        names.push(StackName { counts: counts.clone(), stacks: Vec::new() });
        counts
    }

    /// Adds a stack to the stacks of its name, and removes those that were dropped.
    pub(super) fn add(&self, stack: &Arc<StackInstruments>) {
        let mut names = lock(&self.names);
        if let Some(name) = names.iter_mut().find(|name| name.counts.stack == stack.stack) {
            name.stacks.retain(|stack| stack.strong_count() > 0);
            name.stacks.push(Arc::downgrade(stack));
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
        self.notify.notify_one();
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

    /// Returns whether all observers were dropped. If so, the caller sees all their counts and changes.
    pub(super) fn is_closed(&self) -> bool {
        // Acquire: pairs with the release in the drop of `HubGuard`.
        self.is_closed.load(Ordering::Acquire)
    }
}

impl Drop for HubGuard {
    fn drop(&mut self) {
        self.0.is_closed.store(true, Ordering::Release);
        self.0.notify.notify_one();
    }
}

impl StackEvents {
    pub(super) fn of(counts: Arc<EventCounts>) -> Self {
        Self { counts, instruments: OnceLock::new() }
    }

    pub(super) fn name(&self) -> &'static str {
        self.counts.stack
    }

    /// Sets the instruments. Returns `false` if they were set before.
    pub(super) fn set_instruments(&self, instruments: Arc<StackInstruments>) -> bool {
        self.instruments.set(instruments).is_ok()
    }

    #[inline]
    pub(super) fn count(&self, end: &End<'_>) {
        self.counts.count(end);
    }
}

impl StackInstruments {
    pub(super) fn new(guard: &Arc<HubGuard>, stack: &'static str, instruments: &[Arc<dyn Instrument>]) -> Self {
        let listener = guard.0.listens.then(|| {
            let guard = guard.clone();
            let listener = move |change: &StateChange<'_>| guard.0.add_change(OwnedChange::of(stack, change));
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
    /// Whether calls wait in the queues of these stacks. Reads all instruments even if one panics.
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

    /// Calls a function with the change.
    pub(super) fn pass_to(&self, function: impl FnOnce(&StateChange<'_>)) {
        let change = StateChange::new(self.mechanism, self.from, self.to, &self.evidence).after_missing(self.missed);
        function(&if self.is_trouble { change.trouble() } else { change });
    }
}

#[cfg(all(test, not(steadfast_loom)))]
mod tests {
    use super::*;
    use crate::telemetry::Events;
    use std::time::Duration;

    #[test]
    fn a_name_keeps_only_its_last_dropped_stack() {
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
