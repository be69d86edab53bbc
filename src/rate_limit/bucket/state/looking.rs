//! Questions to a bucket. Nothing changes by asking, whatever the instant.

use super::{Assessment, BucketRefusal, BucketShared, SLOW, Slow, due_at};
use crate::{
    clock::Nanos,
    rate_limit::tokens::Tokens,
    sync::{Ordering, lock},
    waiters::Place,
};

impl BucketShared {
    /// Whether `tokens` would be refused at `now` to a call that may wait for `longest` more, if no caller
    /// takes or returns tokens before. Changes nothing. Waiters have their tokens by then, or the call is behind them.
    pub(in crate::rate_limit::bucket) fn would_refuse(&self, tokens: Tokens, now: Nanos, longest: Nanos) -> bool {
        let word = self.word.0.load(Ordering::Acquire);
        match self.assess(word, tokens, now) {
            Assessment::Enough { .. } if self.is_current(word) => return false,
            Assessment::Never if self.is_current(word) => return true,
            Assessment::TooFew { after, anchor, scale } if self.is_current(word) => {
                return due_at(after, anchor, &scale).saturating_sub(now) > longest;
            }
            _ => {}
        }
        match self.judge(tokens, now, &lock(&self.slow)) {
            Ok(()) => false,
            Err(BucketRefusal::Until(due)) => due.saturating_sub(now) > longest,
            Err(BucketRefusal::ForEver | BucketRefusal::Closed) => true,
        }
    }

    /// Whether `tokens` would be taken at `now`, behind all waiters. Changes nothing.
    pub(super) fn judge(&self, tokens: Tokens, now: Nanos, slow: &Slow) -> Result<(), BucketRefusal> {
        if slow.is_closed {
            return Err(BucketRefusal::Closed);
        }
        if tokens.0 > slow.quota.burst() {
            return Err(BucketRefusal::ForEver);
        }
        // The waiters take their tokens first.
        self.expect(slow.line.tokens().saturating_add(tokens), now, slow).map_err(BucketRefusal::Until)
    }

    /// Whether there are `tokens` at `now`. If not, when there will be.
    fn expect(&self, tokens: Tokens, now: Nanos, slow: &Slow) -> Result<(), Nanos> {
        let spent = self.spent();
        let (plan, spent) = if slow.is_cold(now) {
            let cold = self.plan(slow).warming_up(now, slow.third);
            (cold, cold.spent_when_cold())
        } else {
            let (plan, fewer) = self.plan(slow).moved_on_to(now);
            (plan, spent.saturating_sub(fewer))
        };
        let minted = plan.minted(now);
        let forfeited = minted.saturating_sub(plan.scale.full);
        let after = spent.max(forfeited).saturating_add(plan.scale.parts(tokens));
        if after > minted { Err(plan.due(after)) } else { Ok(()) }
    }

    /// When the wait for a place ends, as known at `now`.
    pub(in crate::rate_limit::bucket) fn due_of(&self, place: Place, now: Nanos) -> Nanos {
        let slow = lock(&self.slow);
        match slow.line.tokens_up_to(place) {
            Some(tokens) => self.expect(tokens, now, &slow).err().unwrap_or(now),
            // It was answered, and its task need only poll.
            None => now,
        }
    }

    pub(in crate::rate_limit::bucket) fn is_closed(&self) -> bool {
        self.word.0.load(Ordering::Acquire) & SLOW != 0 && lock(&self.slow).is_closed
    }

    /// The tokens at `now`. Changes neither the anchor nor the line, whatever instant is asked about.
    pub(in crate::rate_limit::bucket) fn available(&self, now: Nanos) -> Tokens {
        let slow = lock(&self.slow);
        if slow.is_cold(now) {
            return Tokens(1);
        }
        let (plan, fewer) = self.plan(&slow).moved_on_to(now);
        let unspent = plan.minted(now).saturating_sub(self.spent().saturating_sub(fewer));
        plan.scale.whole_tokens(unspent).min(plan.burst)
    }
}
