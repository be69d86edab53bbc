use crate::{
    clock::Nanos,
    rate_limit::distributed::store::demand::{Demand, Settled},
};
use std::collections::{BTreeMap, VecDeque};

/// The number of cells of a window. Tokens that were spent in a cell count until the end of the cell plus the length of
/// the window.
const CELLS: u64 = 40;

/// The state of one key: the spends of the last window, and the tokens that processes hold.
///
/// A granted token counts until it is returned, or until a window after it was spent. It first counts as held. Once its
/// holder reports that it was spent and when, it counts in the cell of that time. So while every holder reports within
/// two windows, the processes never spend more than the limit in any window.
#[derive(Clone, Debug, Default)]
pub(super) struct Window {
    /// The end and the tokens of each cell that still counts, the oldest first. With its end stored, a cell does not
    /// move when the length of the window changes.
    cells: VecDeque<(Nanos, u64)>,
    /// The processes that have sent a demand within two windows, by their number.
    holders: BTreeMap<u64, Holder>,
    /// All tokens that were ever counted as spent.
    total: u64,
    /// The length of the window in the last demand.
    window: Nanos,
    /// After a loss of data, nothing is granted before this time, because there may be spends that no process will
    /// report.
    closed_until: Nanos,
    /// The latest time of any demand. An earlier time counts as this one.
    now: Nanos,
}

#[derive(Clone, Copy, Debug, Default)]
struct Holder {
    sequence: u64,
    /// All tokens that the process ever reported as spent.
    spent: u64,
    held: u64,
    /// The time of its last demand.
    heard: Nanos,
}

impl Window {
    /// Applies one demand at `now`, by the store's clock.
    pub(super) fn settle(&mut self, demand: &Demand, now: Nanos) -> Settled {
        self.now = self.now.max(now);
        self.window = Nanos::of(demand.window).max(Nanos(1));
        self.forget();
        let lost = self.total < demand.total;
        if lost {
            self.total = demand.total;
            if self.closed_until <= self.now {
                self.closed_until = self.now.saturating_add(self.window);
            }
        }
        let known = self.holders.get(&demand.client).copied().unwrap_or_default();
        if demand.sequence <= known.sequence {
            return Settled { granted: 0, free: 0, total: self.total, lost };
        }
        self.count_new(demand, demand.spent.saturating_sub(known.spent));
        // For this process, the demand states what it holds.
        self.holders.remove(&demand.client);
        let is_closed = self.now < self.closed_until;
        let limit = if is_closed { 0 } else { demand.limit };
        let free = limit.saturating_sub(self.counted()).saturating_sub(demand.held);
        let granted = demand.want.min(free);
        let held = demand.held.saturating_add(granted);
        let holder = Holder { sequence: demand.sequence, spent: demand.spent, held, heard: self.now };
        self.holders.insert(demand.client, holder);
        Settled { granted, free: free - granted, total: self.total, lost }
    }

    /// Returns whether no spends count and no process was heard within two windows, so that the window can be dropped.
    pub(super) fn is_fresh(&mut self, now: Nanos) -> bool {
        self.now = self.now.max(now);
        self.forget();
        self.cells.is_empty() && self.holders.is_empty()
    }

    fn counted(&self) -> u64 {
        let spent = self.cells.iter().map(|(_, tokens)| *tokens);
        let held = self.holders.values().map(|holder| holder.held);
        spent.chain(held).fold(0, u64::saturating_add)
    }

    /// Counts the `new` tokens as spent at the times in the demand, which come latest first. If `new` is more than all
    /// tokens in the demand, the rest was spent more than a window ago and does not count.
    fn count_new(&mut self, demand: &Demand, mut new: u64) {
        for (age, tokens) in &demand.spends {
            let tokens = new.min(*tokens);
            new -= tokens;
            self.count(self.now.saturating_sub(Nanos::of(*age)), tokens);
        }
    }

    fn count(&mut self, at: Nanos, tokens: u64) {
        if tokens == 0 {
            return;
        }
        self.total = self.total.saturating_add(tokens);
        let length = self.window.0.div_ceil(CELLS).max(1);
        let end = Nanos((at.0 / length).saturating_add(1).saturating_mul(length));
        let place = self.cells.partition_point(|(other, _)| *other < end);
        match self.cells.get_mut(place) {
            Some((other, counted)) if *other == end => *counted = counted.saturating_add(tokens),
            _ => self.cells.insert(place, (end, tokens)),
        }
    }

    /// Forgets spends of more than a window ago, and processes without a demand for two windows. Such a process may
    /// have spent what it held as late as now, so the held tokens count as spent now.
    fn forget(&mut self) {
        let window = self.window;
        // The sum saturates: a window longer than `Nanos` can express never ends.
        while self.cells.front().is_some_and(|(end, _)| end.saturating_add(window) <= self.now) {
            self.cells.pop_front();
        }
        let two_windows = window.saturating_add(window);
        let silent = |holder: &Holder| self.now.saturating_sub(holder.heard) > two_windows;
        let gone: Vec<(u64, u64)> = self
            .holders
            .iter()
            .filter(|(_, holder)| silent(holder))
            .map(|(client, holder)| (*client, holder.held))
            .collect();
        for (client, held) in gone {
            self.holders.remove(&client);
            self.count(self.now, held);
        }
    }
}
