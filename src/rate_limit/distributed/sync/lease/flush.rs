use super::{
    entry::{LeaseEntry, release},
    synchronizer::LeaseSync,
};
use crate::{
    rate_limit::{
        distributed::{
            store::{Demand, LARGEST_BATCH},
            sync::{ask::ask, flights::Flights},
        },
        tokens::Tokens,
    },
    sync::{Ordering, lock},
};
use std::{future::poll_fn, mem, slice::Chunks, sync::Arc};
use tokio::time::Instant;

/// The keys of a flush.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FlushKeys {
    /// The keys for which the store was never asked.
    Newcomers,
    All,
    /// All keys, for the last time: everything is returned.
    AllLeaving,
}

/// The batches of a flush, one after the other. Before `until`, newcomers may join the flush.
struct LeaseBatches<'a> {
    sync: &'a LeaseSync,
    which: FlushKeys,
    /// The keys that were in use when the flush began. Empty in a flush of newcomers.
    known: Chunks<'a, Arc<LeaseEntry>>,
    last: Last,
    until: Instant,
}

/// The kind of the previous batch of a flush.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Last {
    Newcomers,
    Known,
}

impl LeaseBatches<'_> {
    /// Returns the next keys, without those in flight.
    fn next(&mut self) -> Option<Vec<Arc<LeaseEntry>>> {
        // Callers wait for the first answers about newcomers, so newcomers go first. But every second batch has known
        // keys, so that the flush ends.
        let takes_newcomers = self.which == FlushKeys::Newcomers || self.last == Last::Known;
        let mut batch = match takes_newcomers && Instant::now() < self.until {
            true => self.sync.next_newcomers(),
            false => Vec::new(),
        };
        self.last = Last::Newcomers;
        if batch.is_empty() {
            self.last = Last::Known;
            batch = self.known.next()?.to_vec();
        }
        batch.retain(|entry| lock(&entry.state).take_off());
        Some(batch)
    }
}

impl LeaseSync {
    /// Sends the demands of these keys to the store: at most two batches at a time, and one while the store is down.
    pub(super) async fn flush(self: &Arc<Self>, which: FlushKeys, until: Instant) {
        let now = Instant::now();
        let known = match which {
            FlushKeys::Newcomers => Vec::new(),
            FlushKeys::All | FlushKeys::AllLeaving => {
                self.note(now);
                let mut entries = self.entries.all();
                entries.retain(|entry| !self.forget_if_idle(entry));
                entries
            }
        };
        let known = known.chunks(LARGEST_BATCH);
        let mut batches = LeaseBatches { sync: self, which, known, last: Last::Known, until };
        // While the store is down, each flush of all keys asks it once, and a flush of newcomers does not ask it.
        let mut may_probe = which != FlushKeys::Newcomers;
        let mut flights = Flights::new();
        loop {
            while flights.has_room() && (self.health().decides() || flights.are_done()) {
                let Some(batch) = batches.next() else { break };
                if batch.is_empty() {
                    continue;
                }
                if mem::take(&mut may_probe) || self.health().decides() {
                    flights.start(self.clone().ask(batch, now, which));
                } else {
                    batch.iter().for_each(|entry| self.cut_off(entry));
                }
            }
            if flights.are_done() {
                return;
            }
            poll_fn(|cx| flights.poll_next(cx)).await;
        }
    }

    /// Returns a batch of keys for which the store was never asked.
    fn next_newcomers(&self) -> Vec<Arc<LeaseEntry>> {
        let mut newcomers = lock(&self.newcomers);
        let rest = newcomers.len().saturating_sub(LARGEST_BATCH);
        let mut batch = newcomers.split_off(rest);
        drop(newcomers);
        // A flush of all keys may have included some of them.
        batch.retain(|entry| !lock(&entry.state).ledger.was_asked());
        batch
    }

    /// Sends the demands of one batch, and applies the answers.
    async fn ask(self: Arc<Self>, batch: Vec<Arc<LeaseEntry>>, now: Instant, which: FlushKeys) {
        let demands: Vec<Demand> = batch.iter().map(|entry| entry.demand(now, which)).collect();
        let mut batch = LeaseBatch { sync: &self, entries: batch };
        let sent = Instant::now();
        let answer = ask(|| self.store.settle(&demands), batch.entries.len(), self.deadline).await;
        let now = Instant::now();
        self.health().note(&answer, sent, self.deadline, now);
        self.health().look(now);
        let Ok(settled) = answer else { return };
        for (entry, settled) in mem::take(&mut batch.entries).iter().zip(&settled) {
            let mut state = lock(&entry.state);
            // A store must not grant more than the limit.
            let granted = Tokens(settled.granted).min(self.limit);
            let more = state.ledger.answered(granted, settled, now, self.report_for);
            entry.credit.fetch_add(more.0, Ordering::Relaxed);
            // InFlight => Landed
            let waiting = state.land();
            drop(state);
            release(waiting);
        }
    }

    /// Notes that the store does not answer for this key, or is not asked because it is down. If the store has neither
    /// answered nor failed for the key before, the key gets one process's part of the limit. Without a number of
    /// processes, it gets nothing.
    pub(super) fn cut_off(&self, entry: &LeaseEntry) {
        let mut state = lock(&entry.state);
        let first = match self.processes {
            Some(processes) if !state.ledger.was_settled() => Tokens(self.limit.0 / processes),
            _ => Tokens::ZERO,
        };
        state.ledger.cut_off(first);
        entry.credit.fetch_add(first.0, Ordering::Relaxed);
        // (Landed | InFlight) => Landed
        let waiting = state.land();
        drop(state);
        release(waiting);
    }
}

/// Keys in flight. If the batch is dropped, or is not answered, they are cut off.
struct LeaseBatch<'a> {
    sync: &'a LeaseSync,
    entries: Vec<Arc<LeaseEntry>>,
}

impl Drop for LeaseBatch<'_> {
    fn drop(&mut self) {
        self.entries.iter().for_each(|entry| self.sync.cut_off(entry));
    }
}
