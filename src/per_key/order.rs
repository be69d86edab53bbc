//! The order in which entries are removed: the least recently used first.

use super::{
    mechanism::{Mechanism, Memory},
    table::{Entry, Table},
};
use crate::clock::Nanos;
use std::{cmp::Reverse, collections::BinaryHeap, sync::Arc};
use tokio::time::Instant;

/// After a search that found no entry to remove, new keys do not search for a while: for this time, multiplied by the
/// number of entries that the search visited. Searches then take less than 1% of a processor, if a visit takes less
/// than 100 ns.
const PAUSE_PER_ENTRY: Nanos = Nanos(10_000);

/// The most old entries that each new key visits, even if the table has room.
const LOOKS_AT_OLD: usize = 2;

/// The entries in the order of their last use. A search moves the entries that it cannot remove to the end.
///
/// Entries come into the table and leave it only under the lock of the order, so each entry has one [`KnownUse`]. The
/// entry may have been used later. A search that visits it then updates the known use.
pub(super) struct Order {
    known: BinaryHeap<Reverse<KnownUse>>,
    /// Counts the known uses, to order those of equal time.
    number: u64,
    /// From `pause_until - pause` to `pause_until`, no search runs. A time before this pause comes from a clock that
    /// went back, and a search may run then.
    pause_until: Nanos,
    /// The length of the last pause.
    pause: Nanos,
}

/// The last use of an entry, as far as the order knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct KnownUse {
    /// The time of the last known use, or a later time with which a search moved the entry behind others.
    since: Nanos,
    /// Orders the known uses of equal time.
    number: u64,
    /// The hash of the entry's key.
    hash: u64,
}

/// The present, as an instant and as the time since the origin of the table.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    pub(super) now: Instant,
    pub(super) nanos: Nanos,
}

impl Order {
    pub(super) fn new() -> Self {
        Self { known: BinaryHeap::new(), number: 0, pause_until: Nanos::ZERO, pause: Nanos::ZERO }
    }

    /// Returns the number of entries.
    pub(super) fn len(&self) -> usize {
        self.known.len()
    }

    /// Returns whether a recent search found no entry to remove, so that new keys do not search now.
    pub(super) fn pauses(&self, nanos: Nanos) -> bool {
        nanos < self.pause_until && self.pause_until.saturating_sub(nanos) <= self.pause
    }

    pub(super) fn add(&mut self, hash: u64, since: Nanos) {
        self.number += 1;
        self.known.push(Reverse(KnownUse { since, number: self.number, hash }));
    }

    /// Finds the first entry that can be removed, and moves the entries before it to the end, so that its known use is
    /// the first. Returns whether there is such an entry. If there is none, starts a pause. Returns `false` during a
    /// pause.
    pub(super) fn find<T: Mechanism, K>(&mut self, table: &Table<T, K>, moment: Moment, idle_after: Nanos) -> bool {
        if self.pauses(moment.nanos) {
            return false;
        }
        let mut in_use = Vec::new();
        let found = loop {
            let Some(known) = self.first(table) else { break None };
            match table.look(known.hash, moment.now) {
                Some((used, memory)) if !may_go(used, memory, moment.nanos, idle_after) => {
                    self.known.pop();
                    in_use.push(known);
                }
                _ => break Some(known.since),
            }
        };
        if found.is_none() {
            self.pause = Nanos(PAUSE_PER_ENTRY.0.saturating_mul(in_use.len() as u64));
            self.pause_until = moment.nanos.saturating_add(self.pause);
        }
        // The entries that cannot be removed go behind the entry that was found. The known use of the found entry can
        // be later than `moment`. Either a call that began later has used the entry, or the clock went back after the
        // use.
        let behind = found.unwrap_or(Nanos::ZERO).max(moment.nanos);
        for known in in_use {
            self.add(known.hash, known.since.max(behind));
        }
        found.is_some()
    }

    /// Removes the first entry that can be removed.
    pub(super) fn remove<T: Mechanism, K>(
        &mut self,
        table: &Table<T, K>,
        moment: Moment,
        idle_after: Nanos,
    ) -> Option<Arc<Entry<T, K>>> {
        while self.find(table, moment, idle_after) {
            let known = self.first(table)?;
            let goes = |used, memory| used <= known.since && may_go(used, memory, moment.nanos, idle_after);
            if let Some(entry) = table.remove_if(known.hash, moment.now, goes) {
                self.known.pop();
                return Some(entry);
            }
            // Another thread used the entry, or took a reference to it, between `find` and `remove_if`.
            self.postpone(known.since.max(moment.nanos));
        }
        None
    }

    /// Removes up to [`LOOKS_AT_OLD`] entries that were idle for `idle_after` and are not in use, if `may_remove`
    /// agrees to each removal. `may_remove` takes the removed entry out of a count. It therefore runs last: if it
    /// returns `true`, the entry is removed.
    ///
    /// An entry that a search moved to the end is visited only once `idle_after` has passed since that search.
    pub(super) fn remove_old<T: Mechanism, K>(
        &mut self,
        table: &Table<T, K>,
        moment: Moment,
        idle_after: Nanos,
        may_remove: impl Fn() -> bool,
    ) -> Vec<Arc<Entry<T, K>>> {
        let mut removed = Vec::new();
        for _ in 0..LOOKS_AT_OLD {
            let is_old = |since| moment.nanos.saturating_sub(since) >= idle_after;
            let Some(known) = self.first(table).filter(|known| is_old(known.since)) else { break };
            let goes = |used, memory| is_old(used) && memory != Memory::InUse && may_remove();
            match table.remove_if(known.hash, moment.now, goes) {
                Some(entry) => {
                    self.known.pop();
                    removed.push(entry);
                }
                None => self.postpone(moment.nanos),
            }
        }
        removed
    }

    /// Returns the first known use that is up to date: its entry was not used later. Updates the outdated known uses
    /// before it.
    fn first<T, K>(&mut self, table: &Table<T, K>) -> Option<KnownUse> {
        loop {
            let Reverse(known) = self.known.peek().copied()?;
            match table.used(known.hash) {
                Some(used) if used > known.since => self.postpone(used),
                Some(_) => return Some(known),
                // Does not happen: an entry leaves the table together with its known use.
                None => drop(self.known.pop()),
            }
        }
    }

    /// Moves the first entry to a later known use.
    fn postpone(&mut self, since: Nanos) {
        if let Some(Reverse(known)) = self.known.pop() {
            self.add(known.hash, since);
        }
    }
}

/// Returns whether an entry can be removed to make room for a new key.
fn may_go(used: Nanos, memory: Memory, nanos: Nanos, idle_after: Nanos) -> bool {
    match memory {
        Memory::Nothing => true,
        Memory::Evidence => nanos.saturating_sub(used) >= idle_after,
        Memory::InUse => false,
    }
}
