use super::{level::Level, outage::Share};
use crate::rate_limit::Quota;

/// What this process admitted without the store and what has not drained of it.
///
/// The store drains its level while it is away as ever. So does this process, for its share of the rate, once what the store
/// knew of has drained: each token that drains is taken off once in the whole fleet. What is left is all that the store is
/// told. Were all of it told, a burst that had drained long ago would be charged as new, and lock all callers out.
#[derive(Clone, Copy, Debug)]
pub(super) struct Backlog {
    /// What the fleet would have spent, if each process spent as this one does by its share. Its time is that from which it
    /// drains, which may be still to come.
    level: Level,
    share: Share,
}

impl Backlog {
    /// So many tokens were spent by a process with this share, beside what the store knows of.
    pub(super) fn new(quota: &Quota, share: Share, known: &Level, tokens: u64) -> Self {
        let mut level = Level::empty(quota, known.empty_at());
        level.add_parts(share.cost(tokens, &level));
        Self { level, share }
    }

    /// So many tokens are spent.
    pub(super) fn spend(&mut self, tokens: u64, quota: &Quota, now: u64) {
        self.drain(quota, now);
        self.level.add_parts(self.share.cost(tokens, &self.level));
    }

    /// So many tokens were not spent after all.
    pub(super) fn unspend(&mut self, tokens: u64) {
        self.level.take_back_parts(self.share.cost(tokens, &self.level));
    }

    /// The store knows of so many tokens now: from here on they drain there.
    pub(super) fn told(&mut self, tokens: u64, quota: &Quota, now: u64) {
        self.drain(quota, now);
        let cost = self.share.cost(tokens, &self.level).min(self.level.parts());
        self.level.take_back_parts(cost);
        self.level.rest(cost);
    }

    /// The tokens that have not drained, rounded up.
    pub(super) fn tokens(&mut self, quota: &Quota, now: u64) -> u64 {
        self.drain(quota, now);
        self.share.tokens(&self.level)
    }

    pub(super) fn share(&self) -> Share {
        self.share
    }

    fn drain(&mut self, quota: &Quota, now: u64) {
        self.level.drain(quota, now.max(self.level.at()));
    }
}
