use super::flush::FlushKeys;
use crate::{
    answer::{answer, make_room},
    rate_limit::{
        distributed::{
            ledger::{
                lease::{LeaseLedger, LeaseTerms},
                local::Local,
            },
            store::Demand,
        },
        tokens::Tokens,
    },
    sync::{AtomicU64, Mutex, Ordering, lock},
};
use std::{mem, sync::Arc};
use tokio::{sync::oneshot, time::Instant};

/// One key in use.
pub(crate) struct LeaseEntry {
    /// The key in the table of entries. The name of the key in the store is in `terms`.
    pub(super) key: Arc<[u8]>,
    /// The tokens that may be spent without asking. Relaxed throughout: it guards no other memory.
    pub(crate) credit: AtomicU64,
    /// The tokens that callers were refused, or for which they began to wait, since the store was last asked.
    pub(super) refused: AtomicU64,
    /// The tokens that were admitted in an outage without taking them from the credit, since the last update of the
    /// ledger.
    pub(super) beyond: AtomicU64,
    terms: LeaseTerms,
    pub(crate) state: Mutex<LeaseEntryState>,
}

pub(crate) struct LeaseEntryState {
    pub(crate) ledger: LeaseLedger,
    pub(super) batch: BatchState,
    /// Decides in an outage if the policy is a local quota.
    pub(super) local: Local,
    /// The callers that wait until the store first answers for this key.
    waiting: Vec<oneshot::Sender<()>>,
}

/// Whether the key is in a batch on its way to the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BatchState {
    /// The key is in no batch.
    Landed,
    /// The key is in one batch.
    InFlight,
}

impl LeaseEntry {
    pub(super) fn new(key: Arc<[u8]>, terms: LeaseTerms) -> Self {
        let ledger = LeaseLedger::new(terms.window);
        let state = LeaseEntryState { ledger, batch: BatchState::Landed, local: Local::default(), waiting: Vec::new() };
        Self {
            key,
            credit: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            beyond: AtomicU64::new(0),
            terms,
            state: Mutex::new(state),
        }
    }

    /// Returns a receiver for the first answer of the store for this key. The next demand then covers these `tokens`,
    /// too. Returns `None` if the store has already answered or failed.
    pub(super) fn wait_for_first_answer(&self, tokens: Tokens) -> Option<oneshot::Receiver<()>> {
        let mut state = lock(&self.state);
        if state.ledger.was_settled() {
            return None;
        }
        self.refused.fetch_add(tokens.0, Ordering::Relaxed);
        let (sender, settled) = oneshot::channel();
        let gone = make_room(&mut state.waiting, oneshot::Sender::is_closed);
        state.waiting.push(sender);
        drop(state);
        drop(gone);
        Some(settled)
    }

    /// Takes the excess from the credit, to give it back to the store, and makes the demand: what was spent, and what
    /// is wanted.
    pub(super) fn demand(&self, now: Instant, which: FlushKeys) -> Demand {
        let mut state = lock(&self.state);
        let ledger = &mut state.ledger;
        let refused = Tokens(self.refused.swap(0, Ordering::Relaxed));
        let is_leaving = which == FlushKeys::AllLeaving;
        // A process that is cut off keeps its share. But a process that leaves spends nothing more, so it returns
        // everything.
        if is_leaving || !ledger.is_cut_off() {
            let excess = if is_leaving { u64::MAX } else { ledger.excess(refused, self.terms.limit).0 };
            let taken = self
                .credit
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |credit| Some(credit - credit.min(excess)));
            if let Ok(credit) = taken {
                // Callers may have spent tokens since the last update of the ledger. The next demand reports these
                // spends.
                ledger.returned(Tokens(credit.min(excess)));
            }
        }
        ledger.demand(&self.terms, if is_leaving { Tokens::ZERO } else { refused }, now)
    }
}

impl LeaseEntryState {
    /// Takes the key into a batch, unless it is already in one. Returns whether it was in none.
    pub(super) fn take_off(&mut self) -> bool {
        // (Landed | InFlight) => InFlight
        mem::replace(&mut self.batch, BatchState::InFlight) == BatchState::Landed
    }

    /// Notes that the key is in no batch any more. Returns the callers that wait for its first answer.
    pub(super) fn land(&mut self) -> Vec<oneshot::Sender<()>> {
        // (Landed | InFlight) => Landed
        self.batch = BatchState::Landed;
        self.take_waiting()
    }

    pub(super) fn take_waiting(&mut self) -> Vec<oneshot::Sender<()>> {
        mem::take(&mut self.waiting)
    }
}

/// Notifies callers that they should look at their key again. Their wakers run, so no lock may be held.
pub(super) fn release(waiting: Vec<oneshot::Sender<()>>) {
    for waiter in waiting {
        // A caller that has gone needs no answer.
        answer(waiter, ());
    }
}
