//! Changes of the schedule: another quota, a later anchor, a cold bucket. All of them hold the lock.

use super::{BucketShared, GENERATION, GENERATION_SHIFT, LockedBucket, NEEDS_LOCK, SPENT, spent};
use crate::{
    clock::Nanos,
    rate_limit::{
        bucket::refill_schedule::RefillSchedule,
        quota::Quota,
        tokens::{Subtokens, Tokens},
    },
    sync::{Ordering, lock},
};

impl BucketShared {
    /// Makes a new schedule current, and `convert`s the spent subtokens.
    pub(super) fn replace(
        &self,
        schedule: &RefillSchedule,
        _locked: &mut LockedBucket,
        convert: impl Fn(Subtokens) -> Subtokens,
    ) {
        let mut word = self.word.0.load(Ordering::Acquire);
        let next = word.wrapping_add(1 << GENERATION_SHIFT) & GENERATION;
        self.schedule_of(next).store(schedule);
        loop {
            let newer = (word & NEEDS_LOCK) | next | convert(spent(word)).0.min(SPENT);
            // The release pairs with the acquire loads of the word: a thread that loads this word also sees the
            // schedule that the word names. The next change overwrites the old schedule. The acquire keeps its stores
            // after this exchange.
            match self.word.0.compare_exchange_weak(word, newer, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return,
                Err(newer) => word = newer,
            }
        }
    }

    /// Moves the anchor of the schedule later, if the schedule has been at its full rate for a horizon.
    pub(super) fn rebase(&self, now: Nanos, locked: &mut LockedBucket) {
        let schedule = self.schedule(locked);
        let (rebased, fewer) = schedule.rebased_to(now);
        if rebased.anchor != schedule.anchor {
            self.replace(&rebased, locked, |spent| spent.saturating_sub(fewer));
        }
    }

    /// Restarts the warm-up of a cold bucket, with one token.
    pub(super) fn warm_up(&self, now: Nanos, locked: &mut LockedBucket) {
        if locked.is_cold(now) {
            let cold = self.schedule(locked).warming_up(now, locked.warm_up_third);
            self.replace(&cold, locked, |_| cold.spent_when_cold());
            self.note_use(locked);
        }
    }

    /// Computes `cold_at` again, after a call spent subtokens or the rate changed.
    pub(super) fn note_use(&self, locked: &mut LockedBucket) {
        if locked.warm_up_third > Nanos::ZERO {
            locked.cold_at = self.schedule(locked).cold_after(self.spent(), locked.warm_up_third);
        }
    }

    pub(in crate::rate_limit::bucket) fn change_quota(&self, quota: Quota, now: Nanos) {
        self.change_quota_quietly(quota, now);
        self.wake_pending(now);
    }

    /// Wakes the waiters that [`change_quota_quietly`](Self::change_quota_quietly) served or refused, or whose turn it
    /// moved earlier.
    pub(in crate::rate_limit::bucket) fn wake_pending(&self, now: Nanos) {
        self.with_lock(now, |_| {});
    }

    /// Changes the quota, and wakes no waiter. The caller calls [`wake_pending`](Self::wake_pending) afterwards.
    pub(in crate::rate_limit::bucket) fn change_quota_quietly(&self, quota: Quota, now: Nanos) {
        self.while_locked(&mut lock(&self.locked), now, |locked| {
            if quota == locked.quota {
                return;
            }
            // A cold bucket stays cold. The next call that takes tokens or begins to wait starts its warm-up.
            let is_cold = locked.is_cold(now);
            locked.quota = quota;
            locked.queue.refuse_above(Tokens(quota.burst()));
            let old = self.schedule(locked);
            let minted = old.minted(now);
            let rate = RefillSchedule::new(quota, now);
            // During a warm-up, the new schedule keeps the start of the old one. Without a warm-up, `old.warm()` is the
            // old anchor. `now` is before it only if a thread with a later clock set it, for example in an earlier
            // change. The new schedule then keeps the old anchor, so that no time mints twice.
            let new = if now < old.warm() { rate.warming_up(old.start(), old.warm_up_third) } else { rate };
            let new_minted = new.minted(now);
            self.replace(&new, locked, |spent| {
                if spent <= minted {
                    let left = minted.saturating_sub(spent).min(old.rate.burst_subtokens);
                    new_minted.saturating_sub(old.convert(left, &new).min(new.rate.burst_subtokens))
                } else {
                    // More is spent than minted: a thread with a later clock took tokens, or the bucket owes some. The
                    // debt is rounded up, so that rounding forgives none of it. It is at most a new burst.
                    let owed = spent.saturating_sub(minted);
                    new_minted.saturating_add(old.convert_up(owed, &new).min(new.rate.burst_subtokens))
                }
            });
            if !is_cold {
                self.note_use(locked);
            }
        });
    }
}
