//! Reads a bucket. Reading changes nothing, even for an instant in the future.

use super::{Assessment, BucketRefusal, BucketShared, LockedBucket, NEEDS_LOCK, due_at};
use crate::{
    clock::Nanos,
    rate_limit::tokens::Tokens,
    sync::{Ordering, lock},
    waiters::WaiterId,
};

impl BucketShared {
    /// Returns whether `tokens` would be refused at `now` to a call that may wait for `longest`, if no caller takes or
    /// returns tokens before. Changes nothing. The call comes after all waiters.
    pub(in crate::rate_limit::bucket) fn would_refuse(&self, tokens: Tokens, now: Nanos, longest: Nanos) -> bool {
        let word = self.word.0.load(Ordering::Acquire);
        match self.assess(word, tokens, now) {
            Assessment::Enough { .. } if self.is_current(word) => return false,
            Assessment::Never if self.is_current(word) => return true,
            Assessment::TooFew { needed, anchor, rate } if self.is_current(word) => {
                return due_at(needed, anchor, &rate).saturating_sub(now) > longest;
            }
            _ => {}
        }
        match self.check_behind_waiters(tokens, now, &lock(&self.locked)) {
            Ok(()) => false,
            Err(BucketRefusal::Until(due)) => due.saturating_sub(now) > longest,
            Err(BucketRefusal::ForEver | BucketRefusal::Closed) => true,
        }
    }

    /// Returns `Ok` if a call behind all waiters would get `tokens` at `now`, or else its refusal. Changes nothing.
    pub(super) fn check_behind_waiters(
        &self,
        tokens: Tokens,
        now: Nanos,
        locked: &LockedBucket,
    ) -> Result<(), BucketRefusal> {
        if locked.is_closed {
            return Err(BucketRefusal::Closed);
        }
        if tokens.0 > locked.quota.burst() {
            return Err(BucketRefusal::ForEver);
        }
        // The waiters take their tokens first.
        self.expect(locked.queue.tokens().saturating_add(tokens), now, locked).map_err(BucketRefusal::Until)
    }

    /// Returns `Ok` if there are `tokens` at `now`, or else the time at which there will be.
    fn expect(&self, tokens: Tokens, now: Nanos, locked: &LockedBucket) -> Result<(), Nanos> {
        let spent = self.spent();
        let (schedule, spent) = if locked.is_cold(now) {
            let cold = self.schedule(locked).warming_up(now, locked.warm_up_third);
            (cold, cold.spent_when_cold())
        } else {
            let (schedule, fewer) = self.schedule(locked).rebased_to(now);
            (schedule, spent.saturating_sub(fewer))
        };
        let minted = schedule.minted(now);
        let forfeited = minted.saturating_sub(schedule.rate.burst_subtokens);
        let after = spent.max(forfeited).saturating_add(schedule.rate.subtokens(tokens));
        if after > minted { Err(schedule.due(after)) } else { Ok(()) }
    }

    /// Returns when the wait of a call ends, as known at `now`.
    pub(in crate::rate_limit::bucket) fn due_of(&self, id: WaiterId, now: Nanos) -> Nanos {
        let locked = lock(&self.locked);
        match locked.queue.tokens_up_to(id) {
            Some(tokens) => self.expect(tokens, now, &locked).err().unwrap_or(now),
            // The waiter was answered, and its task has yet to poll.
            None => now,
        }
    }

    pub(in crate::rate_limit::bucket) fn is_closed(&self) -> bool {
        self.word.0.load(Ordering::Acquire) & NEEDS_LOCK != 0 && lock(&self.locked).is_closed
    }

    /// Returns the tokens at `now`. Changes neither the anchor nor the wait queue.
    pub(in crate::rate_limit::bucket) fn available(&self, now: Nanos) -> Tokens {
        let locked = lock(&self.locked);
        if locked.is_cold(now) {
            return Tokens(1);
        }
        let (schedule, fewer) = self.schedule(&locked).rebased_to(now);
        let unspent = schedule.minted(now).saturating_sub(self.spent().saturating_sub(fewer));
        schedule.rate.whole_tokens(unspent).min(schedule.burst)
    }
}
