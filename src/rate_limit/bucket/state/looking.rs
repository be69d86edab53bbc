//! What is only asked of a bucket: nothing changes, whatever instant it is asked about.

use super::{BucketRefusal, BucketShared, Reckoned, SLOW, SPENT, Slow, due_at};
use crate::{
    rate_limit::bucket::line::Place,
    sync::{Ordering, lock},
};

impl BucketShared {
    /// Whether `tokens` would be refused at `nanos` after the origin to a call that may wait for `longest` more, if no caller
    /// takes or returns tokens before. Changes nothing. Waiters have their tokens by then, or the call is behind them.
    pub(in crate::rate_limit::bucket) fn would_refuse(&self, tokens: u64, nanos: u64, longest: u64) -> bool {
        let word = self.word.0.load(Ordering::Acquire);
        match self.reckon(word, tokens, nanos) {
            Reckoned::Enough { .. } if self.is_current(word) => return false,
            Reckoned::Never if self.is_current(word) => return true,
            Reckoned::TooFew { after, anchor, scale } if self.is_current(word) => {
                return due_at(after, anchor, &scale).saturating_sub(nanos) > longest;
            }
            _ => {}
        }
        match self.judge(tokens, nanos, &lock(&self.slow)) {
            Ok(()) => false,
            Err(BucketRefusal::Until(due)) => due.saturating_sub(nanos) > longest,
            Err(BucketRefusal::ForEver | BucketRefusal::Closed) => true,
        }
    }

    /// Whether `tokens` would be taken at `nanos` after the origin, behind all who wait. Changes nothing.
    pub(super) fn judge(&self, tokens: u64, nanos: u64, slow: &Slow) -> Result<(), BucketRefusal> {
        if slow.is_closed {
            return Err(BucketRefusal::Closed);
        }
        if tokens > slow.quota.burst() {
            return Err(BucketRefusal::ForEver);
        }
        // Those who wait take what is there first.
        self.expect(slow.line.tokens().saturating_add(tokens), nanos, slow).map_err(BucketRefusal::Until)
    }

    /// Whether there are `tokens` at `nanos` after the origin. If not, when there will be.
    fn expect(&self, tokens: u64, nanos: u64, slow: &Slow) -> Result<(), u64> {
        let spent = self.word.0.load(Ordering::Acquire) & SPENT;
        let is_cold = slow.third > 0 && nanos >= slow.cold_at;
        let (plan, spent) = if is_cold {
            let cold = self.plan().warming_up(nanos, slow.third);
            (cold, cold.scale.full - cold.scale.parts_per_token)
        } else {
            let (plan, fewer) = self.plan().moved_on_to(nanos);
            (plan, spent.saturating_sub(fewer))
        };
        let wanted = tokens.saturating_mul(plan.scale.parts_per_token);
        let minted = plan.minted(nanos);
        let after = spent.max(minted.saturating_sub(plan.scale.full)).saturating_add(wanted);
        if after > minted { Err(plan.due(after)) } else { Ok(()) }
    }

    /// When the wait for a place ends, as known at `nanos` after the origin.
    pub(in crate::rate_limit::bucket) fn due_of(&self, place: &Place, nanos: u64) -> u64 {
        let slow = lock(&self.slow);
        match slow.line.tokens_up_to(place) {
            Some(tokens) => self.expect(tokens, nanos, &slow).err().unwrap_or(nanos),
            // It was answered, and its task need only poll.
            None => nanos,
        }
    }

    pub(in crate::rate_limit::bucket) fn is_closed(&self) -> bool {
        self.word.0.load(Ordering::Acquire) & SLOW != 0 && lock(&self.slow).is_closed
    }

    /// The tokens at `nanos` after the origin. Changes neither the anchor nor the line, whatever instant is asked about.
    pub(in crate::rate_limit::bucket) fn available(&self, nanos: u64) -> u64 {
        let slow = lock(&self.slow);
        if slow.third > 0 && nanos >= slow.cold_at {
            return 1;
        }
        let spent = self.word.0.load(Ordering::Acquire) & SPENT;
        let (plan, fewer) = self.plan().moved_on_to(nanos);
        let unspent = plan.minted(nanos).saturating_sub(spent.saturating_sub(fewer));
        (unspent / plan.scale.parts_per_token.max(1)).min(plan.burst)
    }
}
