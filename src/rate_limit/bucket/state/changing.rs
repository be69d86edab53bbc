//! Changes of the plan: another quota, a later anchor, a bucket that is cold. All with the lock held.

use super::{BucketShared, GENERATION, GENERATION_SHIFT, SLOW, SPENT, Slow, spent};
use crate::{
    clock::Nanos,
    rate_limit::{
        bucket::plan::Plan,
        quota::Quota,
        tokens::{Subtokens, Tokens},
    },
    sync::{Ordering, lock},
};

impl BucketShared {
    /// Makes a new plan count, and `convert`s what was spent by the old one.
    pub(super) fn replace(&self, plan: &Plan, _slow: &mut Slow, convert: impl Fn(Subtokens) -> Subtokens) {
        let mut word = self.word.0.load(Ordering::Acquire);
        let next = word.wrapping_add(1 << GENERATION_SHIFT) & GENERATION;
        self.plan_of(next).store(plan);
        loop {
            let newer = (word & SLOW) | next | convert(spent(word)).0.min(SPENT);
            // A release, for threads that read the plan which it names; an acquire, so that no part of the next plan
            // but one is stored before.
            match self.word.0.compare_exchange_weak(word, newer, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return,
                Err(newer) => word = newer,
            }
        }
    }

    /// Moves the anchor of a plan that was reached long ago.
    pub(super) fn move_on(&self, now: Nanos, slow: &mut Slow) {
        let plan = self.plan(slow);
        let (moved, fewer) = plan.moved_on_to(now);
        if moved.anchor != plan.anchor {
            self.replace(&moved, slow, |spent| spent.saturating_sub(fewer));
        }
    }

    /// Lets a bucket that was full for as long as it takes to warm up begin again, cold: with one token.
    pub(super) fn warm_up(&self, now: Nanos, slow: &mut Slow) {
        if slow.is_cold(now) {
            let cold = self.plan(slow).warming_up(now, slow.third);
            self.replace(&cold, slow, |_| cold.spent_when_cold());
            self.note_use(slow);
        }
    }

    /// Computes again when the bucket gets cold: the parts spent, or the rate, have changed.
    pub(super) fn note_use(&self, slow: &mut Slow) {
        if slow.third > Nanos::ZERO {
            slow.cold_at = self.plan(slow).cold_after(self.spent(), slow.third);
        }
    }

    pub(in crate::rate_limit::bucket) fn change_quota(&self, quota: Quota, now: Nanos) {
        self.change_quota_quietly(quota, now);
        self.wake_pending(now);
    }

    /// Wakes the waiters whose turn a quiet change has brought.
    pub(in crate::rate_limit::bucket) fn wake_pending(&self, now: Nanos) {
        self.slowly(now, |_| {});
    }

    /// Changes the quota, and leaves it to [`wake_pending`](Self::wake_pending) to wake the waiters whose turn has
    /// come.
    pub(in crate::rate_limit::bucket) fn change_quota_quietly(&self, quota: Quota, now: Nanos) {
        self.with_lock(&mut lock(&self.slow), now, |slow| {
            if quota == slow.quota {
                return;
            }
            // Cold it stays: the next call begins to warm it up.
            let is_cold = slow.is_cold(now);
            slow.quota = quota;
            slow.line.refuse_above(Tokens(quota.burst()));
            let old = self.plan(slow);
            let minted = old.minted(now);
            let rate = Plan::new(quota, now);
            // Also for a clock that another change has overtaken: it begins where that did, and mints nothing twice.
            let new = if now < old.warm() { rate.warming_up(old.start(), old.third) } else { rate };
            let new_minted = new.minted(now);
            self.replace(&new, slow, |spent| {
                if spent <= minted {
                    let left = minted.saturating_sub(spent).min(old.scale.full);
                    new_minted.saturating_sub(old.convert(left, &new).min(new.scale.full))
                } else {
                    // Spent by a thread with a later clock, or owed. A part of a debt is a whole one, so that no debt
                    // is forgiven.
                    let owed = spent.saturating_sub(minted);
                    new_minted.saturating_add(old.convert_up(owed, &new).min(new.scale.full))
                }
            });
            if !is_cold {
                self.note_use(slow);
            }
        });
    }
}
