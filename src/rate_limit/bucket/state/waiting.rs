//! How waiters get their tokens. `join`, `poll_place`, `leave` and `close` take the lock. The other functions take a
//! reference to the `LockedBucket`, so their caller holds the lock.

use super::{BucketRefusal, BucketShared, LockedBucket, NEEDS_LOCK};
use crate::{
    clock::Nanos,
    rate_limit::{bucket::wait_queue::BucketWaiterState, tokens::Tokens},
    sync::{Ordering, lock},
    waiters::{WaiterId, drop_waker},
};
use std::task::Waker;

impl BucketShared {
    /// Returns when there will be `tokens` for a call, regardless of waiters.
    fn due_after(&self, tokens: Tokens, now: Nanos, locked: &LockedBucket) -> Nanos {
        let schedule = self.schedule(locked);
        let forfeited = schedule.minted(now).saturating_sub(schedule.rate.burst_subtokens);
        schedule.due(self.spent().max(forfeited).saturating_add(schedule.rate.subtokens(tokens)))
    }

    /// Returns when there will be `tokens` for a call behind all waiters.
    fn due_behind(&self, tokens: Tokens, now: Nanos, locked: &LockedBucket) -> Nanos {
        self.due_after(locked.queue.tokens().saturating_add(tokens), now, locked)
    }

    /// Refuses a call behind all waiters, with the time at which there would be tokens for it. If the cost is above the
    /// burst, the refusal has no time.
    pub(super) fn refuse_behind(&self, tokens: Tokens, now: Nanos, locked: &LockedBucket) -> Result<(), BucketRefusal> {
        if tokens.0 > locked.quota.burst() {
            return Err(BucketRefusal::ForEver);
        }
        Err(BucketRefusal::Until(self.due_behind(tokens, now, locked)))
    }

    /// Takes a place at the end of the wait queue. Returns `None` if there are enough tokens after all, and the call
    /// has taken them. Refuses if the call would have to wait for more than `longest`.
    pub(in crate::rate_limit::bucket) fn join(
        &self,
        tokens: Tokens,
        now: Nanos,
        longest: Nanos,
    ) -> Result<Option<WaiterId>, BucketRefusal> {
        let locked = lock(&self.locked);
        // Checks before it rebases the schedule or serves a waiter: a refused call changes nothing, even if the caller
        // passes a `now` in the future.
        match self.check_behind_waiters(tokens, now, &locked) {
            Err(BucketRefusal::Until(due)) if due.saturating_sub(now) <= longest => {}
            checked => checked?,
        }
        // Once `NEEDS_LOCK` is set, no call overtakes a waiter: all calls take their tokens with the lock.
        self.with_guard(locked, now, |locked| {
            self.word.0.fetch_or(NEEDS_LOCK, Ordering::AcqRel);
            if locked.queue.is_empty() {
                match self.take_locked(tokens, now, locked) {
                    Ok(()) => return Ok(None),
                    Err(BucketRefusal::Until(_)) => {}
                    Err(refusal) => return Err(refusal),
                }
            }
            if tokens.0 > locked.quota.burst() {
                return Err(BucketRefusal::ForEver);
            }
            let due = self.due_behind(tokens, now, locked);
            if due.saturating_sub(now) > longest {
                return Err(BucketRefusal::Until(due));
            }
            // If the queue has no place left, the refusal says when the turn would have come.
            locked.queue.join(tokens, due).map(Some).ok_or(BucketRefusal::Until(due))
        })
    }

    /// Grants tokens to the waiters whose turn it is. Clears [`NEEDS_LOCK`] if no waiter is left, unless the bucket has
    /// a warm-up or is closed.
    pub(super) fn serve(&self, now: Nanos, locked: &mut LockedBucket) {
        while let Some(tokens) = locked.queue.first() {
            match self.take_locked(tokens, now, locked) {
                Ok(()) => locked.queue.grant(),
                Err(BucketRefusal::ForEver | BucketRefusal::Closed) => locked.queue.refuse(),
                Err(BucketRefusal::Until(due)) => {
                    locked.queue.expect(due);
                    return;
                }
            }
        }
        if locked.warm_up_third == Nanos::ZERO && !locked.is_closed {
            self.word.0.fetch_and(!NEEDS_LOCK, Ordering::AcqRel);
        }
    }

    /// Returns `None` if the tokens have been granted, or else when to poll again.
    pub(in crate::rate_limit::bucket) fn poll_place(
        &self,
        id: WaiterId,
        waker: &Waker,
        now: Nanos,
    ) -> Result<Option<Nanos>, BucketRefusal> {
        // The clone and the drop of a waker are user code, which must not run while the lock is held.
        let mut waker = Some(waker.clone());
        let mut locked = lock(&self.locked);
        locked.queue.announce(id);
        let state = self.with_guard(locked, now, |locked| {
            let due = match locked.queue.ask(id, now) {
                BucketWaiterState::Granted => return Ok(None),
                BucketWaiterState::Refused => return Err(BucketRefusal::ForEver),
                BucketWaiterState::Closed => return Err(BucketRefusal::Closed),
                BucketWaiterState::Expected(due) => due,
                BucketWaiterState::Behind { tokens } => self.due_after(tokens, now, locked),
            };
            locked.queue.wait_on(id, due, &mut waker);
            Ok(Some(due))
        });
        drop_waker(waker);
        state
    }

    /// Gives up a place. Tokens that were granted to it go back to the bucket.
    pub(in crate::rate_limit::bucket) fn leave(&self, id: WaiterId, now: Nanos) {
        self.with_lock(now, |locked| {
            if let Some(tokens) = locked.queue.leave(id) {
                self.give_back(tokens);
            }
        });
    }

    /// Refuses all waiters and all later calls. Before this, `with_lock` serves the waiters whose turn has come by
    /// `now`.
    pub(in crate::rate_limit::bucket) fn close(&self, now: Nanos) {
        self.with_lock(now, |locked| {
            locked.is_closed = true;
            locked.queue.close();
            // After this, no call is admitted without the lock: the bit is set in the word, so a compare-and-swap with
            // an older word fails.
            self.word.0.fetch_or(NEEDS_LOCK, Ordering::AcqRel);
        });
    }
}
