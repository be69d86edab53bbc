//! The turn of a waiter.

use super::{state::BucketRefusal, token_bucket::TokenBucket};
use crate::{clock::Nanos, deadline::Deadline, error::RateLimited, rate_limit::tokens::Tokens, waiters::WaiterId};
use std::task::Waker;
use tokio::time::Instant;

/// The state of a place in the wait queue.
pub(super) enum Turn {
    /// The turn has come, and the call has its tokens.
    Come,
    /// The turn has not come. The task polls again at this instant, unless it is woken before.
    NotBefore(Instant),
    Refused(RateLimited),
}

impl TokenBucket {
    /// Returns whether a call for `tokens` at `due` would be refused both the tokens and a place in the wait queue.
    /// Changes nothing.
    pub(super) fn would_refuse_a_place_at(&self, tokens: u64, due: Instant, deadline: Deadline) -> bool {
        let longest = self.patience(due, deadline);
        tokens > 0 && self.shared.would_refuse(Tokens(tokens), self.shared.origin.to(due), longest)
    }

    /// Returns the longest wait of a call that comes at `now`: at most `max_wait`, and short enough to end before the
    /// deadline.
    fn patience(&self, now: Instant, deadline: Deadline) -> Nanos {
        let longest = Nanos::of(self.shared.max_wait);
        // At its own instant a deadline has passed, so the wait must end at least 1 ns before.
        deadline.remaining(now).map_or(longest, |left| longest.min(Nanos::of(left).saturating_sub(Nanos(1))))
    }

    /// Takes the tokens at once, and returns `None`, or else takes a place in the wait queue. Refuses if the wait would
    /// not end before the deadline, or would take more than the longest wait. Also refuses a cost above the burst, and
    /// every cost if the bucket is closed. A cost of zero passes in any case.
    pub(super) fn join_at(
        &self,
        tokens: u64,
        now: Instant,
        deadline: Deadline,
    ) -> Result<Option<WaiterId>, RateLimited> {
        if tokens == 0 {
            return Ok(None);
        }
        let shared = &*self.shared;
        let nanos = shared.origin.to(now);
        let joined = match shared.try_take(Tokens(tokens), nanos) {
            Ok(_) => Ok(None),
            Err(refusal @ (BucketRefusal::ForEver | BucketRefusal::Closed)) => Err(refusal),
            Err(BucketRefusal::Until(_)) => shared.join(Tokens(tokens), nanos, self.patience(now, deadline)),
        };
        joined.map_err(|refusal| refusal.to_error(nanos))
    }

    /// Polls a place. Once its turn has come or it was refused, the place is gone. Otherwise the caller polls again
    /// when `waker` is woken, or at the instant of [`Turn::NotBefore`], whichever comes first.
    pub(super) fn poll_place_at(&self, id: WaiterId, waker: &Waker, now: Instant) -> Turn {
        let nanos = self.shared.origin.to(now);
        match self.shared.poll_place(id, waker, nanos) {
            Ok(None) => Turn::Come,
            Ok(Some(due)) => match now.checked_add(due.saturating_sub(nanos).duration()) {
                Some(instant) => Turn::NotBefore(instant),
                // An `Instant` cannot represent that time.
                None => {
                    self.shared.leave(id, nanos);
                    Turn::Refused(BucketRefusal::Until(due).to_error(nanos))
                }
            },
            Err(refusal) => Turn::Refused(refusal.to_error(nanos)),
        }
    }

    /// Returns when the wait of a place ends, as known at `now`: `now` itself if its turn has come or it was refused.
    /// `None` if an `Instant` cannot represent that time.
    pub(super) fn due_at(&self, id: WaiterId, now: Instant) -> Option<Instant> {
        let nanos = self.shared.origin.to(now);
        let due = self.shared.due_of(id, nanos);
        now.checked_add(due.saturating_sub(nanos).duration())
    }

    /// Gives up a place. Tokens that were granted to it go back to the bucket.
    pub(super) fn leave_at(&self, id: WaiterId, now: Instant) {
        self.shared.leave(id, self.shared.origin.to(now));
    }
}
