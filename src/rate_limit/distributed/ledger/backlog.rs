use super::share::ProcessShare;
use crate::{
    clock::Nanos,
    rate_limit::{Quota, distributed::level::Level, tokens::Tokens},
};

/// The tokens that this process admitted in an outage, or that were unconfirmed when it began, less what has drained.
///
/// The store's level drains while the store is away. Once that level is empty, each process drains its own backlog at
/// its share of the rate. So all processes together count no token of the rate twice. The process reports only the
/// tokens that are left. Otherwise a burst that has long drained would count as new and lock all callers out.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Backlog {
    /// The backlog divided by the share: the backlog of the fleet, if all processes were like this one. It starts to
    /// drain when the store's level is empty, so the time of this level may be in the future.
    level: Level,
    share: ProcessShare,
}

impl Backlog {
    /// Returns the backlog of a process with this share, which has spent `tokens` that the store's level `known` does
    /// not include.
    pub(crate) fn new(quota: &Quota, share: ProcessShare, known: &Level, tokens: Tokens) -> Self {
        let mut level = Level::empty(quota, known.empty_at());
        level.add_parts(share.cost(tokens, &level));
        Self { level, share }
    }

    /// Adds spent tokens.
    pub(crate) fn spend(&mut self, tokens: Tokens, quota: &Quota, now: Nanos) {
        self.drain(quota, now);
        self.level.add_parts(self.share.cost(tokens, &self.level));
    }

    /// Removes tokens that a caller gave back.
    pub(crate) fn unspend(&mut self, tokens: Tokens) {
        self.level.take_back_parts(self.share.cost(tokens, &self.level));
    }

    /// Removes tokens that the store has counted. These now drain in the store's level, before the rest of the backlog
    /// does. So the backlog does not drain for the time in which they drain.
    pub(crate) fn reported(&mut self, tokens: Tokens, quota: &Quota, now: Nanos) {
        self.drain(quota, now);
        let cost = self.share.cost(tokens, &self.level).min(self.level.parts());
        self.level.take_back_parts(cost);
        self.level.rest(cost);
    }

    /// Returns the tokens that have not drained, rounded up.
    pub(crate) fn tokens(&mut self, quota: &Quota, now: Nanos) -> Tokens {
        self.drain(quota, now);
        self.share.tokens(&self.level)
    }

    pub(crate) fn share(&self) -> ProcessShare {
        self.share
    }

    fn drain(&mut self, quota: &Quota, now: Nanos) {
        self.level.drain(quota, now.max(self.level.at()));
    }
}
