use crate::{
    clock::Nanos,
    rate_limit::{
        Quota,
        distributed::{
            level::Level,
            store::charge::{Charge, Charged},
        },
        tokens::Tokens,
    },
};
use std::{collections::VecDeque, time::Duration};

/// The bucket of one key, as the store knows it.
#[derive(Clone, Debug)]
pub(super) struct Bucket {
    level: Level,
    total: u64,
    /// The numbers of the last `PROCESSES_KNOWN` processes that reported spends, each with its latest sequence. The
    /// process not heard for the longest time is first.
    heard: VecDeque<(u64, u64)>,
}

/// The number of processes for which the store recognizes repeated charges. A repeated charge of another process may
/// count twice, which errs on the safe side.
const PROCESSES_KNOWN: usize = 64;

/// The time for which an empty bucket is kept, to recognize repeated charges.
const KEPT_EMPTY: Nanos = Nanos(1_000_000_000);

impl Bucket {
    /// Returns the bucket of a key of which nothing was spent.
    pub(super) fn new(quota: &Quota, now: Nanos) -> Self {
        Self { level: Level::empty(quota, now), total: 0, heard: VecDeque::new() }
    }

    /// Applies one charge at `now`, by the store's clock.
    pub(super) fn charge(&mut self, charge: &Charge, now: Nanos) -> Charged {
        let Charge { quota, want, least, hint, .. } = charge;
        let most = Tokens(quota.burst().saturating_add(charge.max_debt));
        self.level.drain(quota, now);
        if self.total < hint.total {
            // The store has lost its data, or has forgotten an empty bucket. In the second case the level of the hint
            // has drained, too.
            self.total = hint.total;
            self.level.raise_to(Tokens(hint.level).min(most), now.saturating_sub(Nanos::of(hint.at)));
        }
        let age = now.saturating_sub(Nanos::of(charge.refund_of));
        self.level.take_back(Tokens(charge.refund), age);
        if charge.spent > 0 && self.is_new(charge) {
            let late = charge.late.min(charge.spent);
            self.level.add(Tokens(charge.spent - late), most);
            self.level.add_or_owe(Tokens(late), quota, most);
            self.total = self.total.saturating_add(charge.spent);
        }
        let granted = (*want).min(self.level.room(quota).0);
        let granted = if granted < *least { 0 } else { granted };
        self.level.add(Tokens(granted), most);
        self.total = self.total.saturating_add(granted);
        Charged {
            granted,
            level: self.level.tokens().0,
            debt: self.level.debt().0,
            total: self.total,
            retry_after: match granted {
                0 => self.level.until_room(Tokens(*least), quota).duration(),
                _ => Duration::ZERO,
            },
            at: now.duration(),
        }
    }

    /// Returns whether level and debt have been zero for a second at `now`, so that the bucket can be dropped.
    pub(super) fn is_fresh(&self, now: Nanos) -> bool {
        self.level.is_empty_at(now.saturating_sub(KEPT_EMPTY))
    }

    /// Returns whether the sequence of this charge is above the last one of its process, and remembers the higher of
    /// the two.
    fn is_new(&mut self, charge: &Charge) -> bool {
        let known = self.heard.iter().position(|(client, _)| *client == charge.client);
        let last = known.and_then(|place| self.heard.remove(place)).map_or(0, |(_, sequence)| sequence);
        if self.heard.len() == PROCESSES_KNOWN {
            self.heard.pop_front();
        }
        self.heard.push_back((charge.client, charge.sequence.max(last)));
        charge.sequence > last
    }
}
