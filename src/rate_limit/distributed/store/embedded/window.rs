use crate::{
    clock::Nanos,
    rate_limit::distributed::store::demand::{Demand, Settled},
};
use std::collections::{BTreeMap, VecDeque};

/// The number of cells of a window. What was spent in a cell is counted until a window after its end.
const CELLS: u64 = 40;

/// What the store knows of one key: spends in the last window, and what processes hold.
///
/// What is granted is always counted, at first as held, then, once its holder says that it was spent and when, in the
/// cell of that time. So in no window is more spent than the limit, as long as every holder is heard of.
#[derive(Clone, Debug, Default)]
pub(super) struct Window {
    /// When each cell that is still counted ended, and its tokens: the oldest first. So a window of another length
    /// moves none of them.
    cells: VecDeque<(Nanos, u64)>,
    holders: BTreeMap<u64, Holder>,
    total: u64,
    /// As the last demand had it.
    window: Nanos,
    /// Nothing is granted before this time: data were lost, and there may be spends that no process will report.
    closed_until: Nanos,
    /// The latest time at which it was asked. One that goes back counts as this one.
    now: Nanos,
}

#[derive(Clone, Copy, Debug, Default)]
struct Holder {
    sequence: u64,
    /// All that it ever said to have spent.
    spent: u64,
    held: u64,
    /// When it was last heard of.
    heard: Nanos,
}

impl Window {
    /// Settles one demand at `now`, by the store's clock.
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
        // What the others hold and all that was spent; what this one holds is what it says.
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

    /// Whether nothing is left that a new window would not know.
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

    /// Counts new tokens as spent at the latest of the times that the demand names.
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

    /// Forgets what was spent more than a window ago, and processes that were not heard of for two. They may have spent
    /// what they held until now.
    fn forget(&mut self) {
        let window = self.window;
        // A window that is longer than time is counted is never over.
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
