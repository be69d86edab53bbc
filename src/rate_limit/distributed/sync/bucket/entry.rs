use crate::{
    answer::make_room,
    clock::Nanos,
    rate_limit::{
        Quota,
        distributed::{ledger::bucket::BucketLedger, outage::OnOutage},
        tokens::Tokens,
    },
    sync::Mutex,
};
use std::{mem, sync::Arc, time::Duration};
use tokio::sync::oneshot;

/// One key in use.
pub(crate) struct BucketEntry {
    /// The key in the table of entries.
    pub(crate) key: Arc<[u8]>,
    /// The name of the key in the store.
    pub(super) name: Arc<[u8]>,
    pub(crate) state: Mutex<BucketEntryState>,
}

pub(crate) struct BucketEntryState {
    pub(crate) ledger: BucketLedger,
    request: RequestState,
}

/// Whether a key is in the flusher's queue.
enum RequestState {
    /// Not in the queue. No caller waits, except for the answer to a charge in flight.
    Idle,
    /// In the queue, once. These callers wait for tokens of the store, in order of arrival.
    Queued { waiting: Vec<Waiter> },
}

/// A caller that waits for the store.
pub(super) struct Waiter {
    pub(super) tokens: Tokens,
    pub(super) verdict: oneshot::Sender<Verdict>,
}

/// The answer of the store to a caller.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Verdict {
    /// Granted, at this time by the store's clock.
    Granted {
        at: Duration,
    },
    Refused {
        retry_after: Duration,
    },
    /// The store did not answer.
    Unanswered,
}

/// Whether an event changed a key to `Queued` (`Now`), or the key was queued `Before`. After `Now`, the caller of
/// `enqueue` or `wait` puts the key into the flusher's queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Enqueued {
    Now,
    Before,
}

impl BucketEntry {
    pub(super) fn new(name: Arc<[u8]>, key: Arc<[u8]>, quota: &Quota, now: Nanos) -> Self {
        let state = BucketEntryState { ledger: BucketLedger::new(quota, now), request: RequestState::Idle };
        Self { key, name, state: Mutex::new(state) }
    }
}

impl BucketEntryState {
    /// Queues the key: there is something to report.
    pub(super) fn enqueue(&mut self) -> Enqueued {
        match self.request {
            // Idle => Queued
            RequestState::Idle => {
                self.request = RequestState::Queued { waiting: Vec::new() };
                Enqueued::Now
            }
            // Queued => Queued
            RequestState::Queued { .. } => Enqueued::Before,
        }
    }

    /// Adds a caller that waits. If the list of waiting callers would have to grow, also removes and returns those that
    /// have gone. Drop them without a lock, since the drop may run the code of a waker.
    pub(super) fn wait(&mut self, waiter: Waiter) -> (Enqueued, Vec<Waiter>) {
        match &mut self.request {
            // Idle => Queued
            RequestState::Idle => {
                let mut waiting = Vec::with_capacity(8);
                waiting.push(waiter);
                self.request = RequestState::Queued { waiting };
                (Enqueued::Now, Vec::new())
            }
            // Queued => Queued
            RequestState::Queued { waiting } => {
                let gone = make_room(waiting, |waiter| waiter.verdict.is_closed());
                waiting.push(waiter);
                (Enqueued::Before, gone)
            }
        }
    }

    /// Takes the key out of the queue, for the flusher. Returns the callers that wait.
    pub(super) fn dequeue(&mut self) -> Vec<Waiter> {
        match mem::replace(&mut self.request, RequestState::Idle) {
            // Queued => Idle
            RequestState::Queued { waiting } => waiting,
            RequestState::Idle => Vec::new(),
        }
    }

    /// Takes the callers that wait. The key stays in the queue.
    pub(super) fn take_waiting(&mut self) -> Vec<Waiter> {
        match &mut self.request {
            RequestState::Queued { waiting } => mem::take(waiting),
            RequestState::Idle => Vec::new(),
        }
    }

    /// Returns whether the entry can be forgotten: the key is not queued, and its [ledger is
    /// idle](BucketLedger::is_idle).
    pub(super) fn is_idle(&mut self, policy: &OnOutage, quota: &Quota, now: Nanos) -> bool {
        matches!(self.request, RequestState::Idle) && self.ledger.is_idle(policy, quota, now)
    }
}
