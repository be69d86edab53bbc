//! How waiters get their tokens. `join`, `poll_place`, `leave` and `close` take the lock; the others get what it
//! guards.

use super::{BucketRefusal, BucketShared, SLOW, Slow};
use crate::{
    clock::Nanos,
    rate_limit::{bucket::line::Standing, tokens::Tokens},
    sync::{Ordering, lock},
    waiters::{Place, drop_waker},
};
use std::task::Waker;

impl BucketShared {
    /// When `tokens` more than those spent will have been minted.
    fn due_after(&self, tokens: Tokens, now: Nanos, slow: &Slow) -> Nanos {
        let plan = self.plan(slow);
        let forfeited = plan.minted(now).saturating_sub(plan.scale.full);
        plan.due(self.spent().max(forfeited).saturating_add(plan.scale.parts(tokens)))
    }

    /// When `tokens` will have been minted for a call behind all waiters.
    fn due_behind(&self, tokens: Tokens, now: Nanos, slow: &Slow) -> Nanos {
        self.due_after(slow.line.tokens().saturating_add(tokens), now, slow)
    }

    pub(super) fn refuse_behind(&self, tokens: Tokens, now: Nanos, slow: &Slow) -> Result<(), BucketRefusal> {
        if tokens.0 > slow.quota.burst() {
            return Err(BucketRefusal::ForEver);
        }
        Err(BucketRefusal::Until(self.due_behind(tokens, now, slow)))
    }

    pub(in crate::rate_limit::bucket) fn join(
        &self,
        tokens: Tokens,
        now: Nanos,
        longest: Nanos,
    ) -> Result<Option<Place>, BucketRefusal> {
        let slow = lock(&self.slow);
        // A refusal changes nothing, whatever instant it is asked for.
        match self.judge(tokens, now, &slow) {
            Err(BucketRefusal::Until(due)) if due.saturating_sub(now) <= longest => {}
            judged => judged?,
        }
        // From here on no call overtakes: all take their tokens under the lock.
        self.slowly_locked(slow, now, |slow| {
            self.word.0.fetch_or(SLOW, Ordering::AcqRel);
            if slow.line.is_empty() {
                match self.take(tokens, now, slow) {
                    Ok(()) => return Ok(None),
                    Err(BucketRefusal::Until(_)) => {}
                    Err(refusal) => return Err(refusal),
                }
            }
            if tokens.0 > slow.quota.burst() {
                return Err(BucketRefusal::ForEver);
            }
            let due = self.due_behind(tokens, now, slow);
            if due.saturating_sub(now) > longest {
                return Err(BucketRefusal::Until(due));
            }
            // Where no place is left, the refusal says when its turn would come.
            slow.line.join(tokens, due).map(Some).ok_or(BucketRefusal::Until(due))
        })
    }

    /// Grants tokens to the waiters whose turn it is. Opens the fast way when no waiter is left, unless the bucket
    /// needs the lock for another reason.
    pub(super) fn serve(&self, now: Nanos, slow: &mut Slow) {
        while let Some(tokens) = slow.line.first() {
            match self.take(tokens, now, slow) {
                Ok(()) => slow.line.grant(),
                Err(BucketRefusal::ForEver | BucketRefusal::Closed) => slow.line.refuse(),
                Err(BucketRefusal::Until(due)) => {
                    slow.line.expect(due);
                    return;
                }
            }
        }
        if slow.third == Nanos::ZERO && !slow.is_closed {
            self.word.0.fetch_and(!SLOW, Ordering::AcqRel);
        }
    }

    /// `None` where the tokens have been granted, or else when to ask again.
    pub(in crate::rate_limit::bucket) fn poll_place(
        &self,
        place: Place,
        waker: &Waker,
        now: Nanos,
    ) -> Result<Option<Nanos>, BucketRefusal> {
        // A waker is user code, and none runs with the lock held.
        let mut waker = Some(waker.clone());
        let mut slow = lock(&self.slow);
        slow.line.announce(place);
        let standing = self.slowly_locked(slow, now, |slow| {
            let due = match slow.line.ask(place, now) {
                Standing::Granted => return Ok(None),
                Standing::Refused => return Err(BucketRefusal::ForEver),
                Standing::Closed => return Err(BucketRefusal::Closed),
                Standing::Expected(due) => due,
                Standing::Behind { tokens } => self.due_after(tokens, now, slow),
            };
            slow.line.wait_on(place, due, &mut waker);
            Ok(Some(due))
        });
        drop_waker(waker);
        standing
    }

    pub(in crate::rate_limit::bucket) fn leave(&self, place: Place, now: Nanos) {
        self.slowly(now, |slow| {
            if let Some(tokens) = slow.line.leave(place) {
                self.give_back(tokens);
            }
        });
    }

    /// Refuses all waiters and all later calls. `slowly` has served the waiters whose turn has come.
    pub(in crate::rate_limit::bucket) fn close(&self, now: Nanos) {
        self.slowly(now, |slow| {
            slow.is_closed = true;
            slow.line.close();
            // From here on no call is admitted without the lock: the word has the bit, and an older compare-and-swap
            // fails.
            self.word.0.fetch_or(SLOW, Ordering::AcqRel);
        });
    }
}
