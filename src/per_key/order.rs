//! Who goes first.

use super::{
    mechanism::{Mechanism, Memory},
    table::{Entry, Table},
};
use crate::clock::Nanos;
use std::{cmp::Reverse, collections::BinaryHeap, sync::Arc};
use tokio::time::Instant;

/// How long no newcomer looks again after one has found that no entry may go, for each entry that it looked at: less
/// than one part in a hundred of a processor looks.
const PAUSE_PER_ENTRY: Nanos = Nanos(10_000);

/// How many entries that were not used for long a newcomer looks at, whether it needs a place or not.
const LOOKS_AT_OLD: usize = 2;

/// The entries in the order of their last use, or of the last look that found one in use if that was later.
///
/// An entry is in it once. Its turn may be older than its last use; it gets a new one when it is looked at.
pub(super) struct Order {
    turns: BinaryHeap<Reverse<Turn>>,
    /// Counts the turns that were given.
    number: u64,
    /// No entry is looked at before.
    pause_until: Nanos,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Turn {
    since: Nanos,
    number: u64,
    hash: u64,
}

/// A moment, as an instant and as the time since the origin of the table.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    pub(super) now: Instant,
    pub(super) nanos: Nanos,
}

impl Order {
    pub(super) fn new() -> Self {
        Self { turns: BinaryHeap::new(), number: 0, pause_until: Nanos::ZERO }
    }

    /// The number of entries.
    pub(super) fn len(&self) -> usize {
        self.turns.len()
    }

    /// Whether the last newcomer found none that may go, a short while ago.
    pub(super) fn pauses(&self, nanos: Nanos) -> bool {
        nanos < self.pause_until
    }

    pub(super) fn add(&mut self, hash: u64, since: Nanos) {
        self.number += 1;
        self.turns.push(Reverse(Turn { since, number: self.number, hash }));
    }

    /// Finds the entry that goes first, if any may. Its turn stays the first.
    pub(super) fn find<T: Mechanism, K>(&mut self, table: &Table<T, K>, moment: Moment, idle_after: Nanos) -> bool {
        if self.pauses(moment.nanos) {
            return false;
        }
        let mut in_use = Vec::new();
        let found = loop {
            let Some(turn) = self.first(table) else { break false };
            match table.look(turn.hash, moment.now) {
                Some((used, memory)) if !may_go(used, memory, moment.nanos, idle_after) => {
                    self.turns.pop();
                    in_use.push(turn);
                }
                _ => break true,
            }
        };
        if !found {
            let pause = PAUSE_PER_ENTRY.0.saturating_mul(in_use.len() as u64);
            self.pause_until = moment.nanos.saturating_add(Nanos(pause));
        }
        for turn in in_use {
            self.add(turn.hash, turn.since.max(moment.nanos));
        }
        found
    }

    /// Removes the entry that goes first, if any may.
    pub(super) fn remove<T: Mechanism, K>(
        &mut self,
        table: &Table<T, K>,
        moment: Moment,
        idle_after: Nanos,
    ) -> Option<Arc<Entry<T, K>>> {
        while self.find(table, moment, idle_after) {
            let turn = self.first(table)?;
            let goes = |used, memory| used <= turn.since && may_go(used, memory, moment.nanos, idle_after);
            if let Some(entry) = table.remove_if(turn.hash, moment.now, goes) {
                self.turns.pop();
                return Some(entry);
            }
            // It came into use between the two looks.
            self.postpone(turn.since.max(moment.nanos));
        }
        None
    }

    /// Removes some of the entries that were not used for `idle_after` and may go, as far as `may_be_fewer` agrees.
    /// It is asked for each of them last of all.
    pub(super) fn remove_old<T: Mechanism, K>(
        &mut self,
        table: &Table<T, K>,
        moment: Moment,
        idle_after: Nanos,
        may_be_fewer: impl Fn() -> bool,
    ) -> Vec<Arc<Entry<T, K>>> {
        let mut removed = Vec::new();
        for _ in 0..LOOKS_AT_OLD {
            let is_old = |since| moment.nanos.saturating_sub(since) >= idle_after;
            let Some(turn) = self.first(table).filter(|turn| is_old(turn.since)) else { break };
            let goes = |used, memory| is_old(used) && memory != Memory::InUse && may_be_fewer();
            match table.remove_if(turn.hash, moment.now, goes) {
                Some(entry) => {
                    self.turns.pop();
                    removed.push(entry);
                }
                None => self.postpone(moment.nanos),
            }
        }
        removed
    }

    /// The first turn that is as late as its entry's last use.
    fn first<T, K>(&mut self, table: &Table<T, K>) -> Option<Turn> {
        loop {
            let Reverse(turn) = self.turns.peek().copied()?;
            match table.used(turn.hash) {
                Some(used) if used > turn.since => self.postpone(used),
                Some(_) => return Some(turn),
                None => drop(self.turns.pop()),
            }
        }
    }

    /// Gives the first entry a later turn.
    fn postpone(&mut self, since: Nanos) {
        if let Some(Reverse(turn)) = self.turns.pop() {
            self.add(turn.hash, since);
        }
    }
}

/// Whether an entry may make room for another key.
fn may_go(used: Nanos, memory: Memory, nanos: Nanos, idle_after: Nanos) -> bool {
    match memory {
        Memory::Nothing => true,
        Memory::Evidence => nanos.saturating_sub(used) >= idle_after,
        Memory::InUse => false,
    }
}
