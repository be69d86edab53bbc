//! The state of a token bucket: what all its handles share, and how threads change it.

mod looking;
mod waiting;

use super::{
    line::Line,
    plan::{FRACTION, HORIZON, Plan, SharedPlan},
};
use crate::{
    clock::Origin,
    error::RateLimited,
    rate_limit::{quota::Quota, scale::Scale},
    sync::{AtomicU64, Mutex, MutexGuard, Ordering, lock},
};
use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    time::Duration,
};

/// On a line of the cache of its own: whoever takes tokens writes it, and reads what follows.
#[repr(align(128))]
pub(super) struct Word(pub(super) AtomicU64);

/// What all handles of one bucket share.
#[repr(align(128))]
pub(super) struct BucketShared {
    /// Which plan counts, whether anybody waits, and the parts spent so far by that plan, or forfeited because the bucket
    /// was full. See the constants below.
    ///
    /// A success of a compare-and-swap shows that the plan which was reckoned with is still the one that counts: a plan is
    /// overwritten only after this word named the other one.
    pub(super) word: Word,
    /// The plan that counts and the one before or after, by the generation's lowest bit.
    pub(super) plans: [SharedPlan; 2],
    pub(super) origin: Origin,
    pub(super) max_wait: Duration,
    /// Held by whoever changes the plan or waits.
    pub(super) slow: Mutex<Slow>,
}

/// What is only looked at with the lock held.
pub(super) struct Slow {
    pub(super) quota: Quota,
    /// A third of the warm-up in nanoseconds; zero for a bucket that does not warm up.
    pub(super) third: u64,
    /// When a bucket that warms up has been full for as long as that takes, if nothing more is taken until then. What is
    /// given back does not hasten it: a bucket whose calls are all refunded is in use.
    pub(super) cold_at: u64,
    pub(super) line: Line,
    /// Nobody waits for a closed bucket, and [`SLOW`] stays set, so that each call learns of it.
    pub(super) is_closed: bool,
}

/// The parts spent: at most a burst, a horizon's worth, and a burst that is owed, each up to 2^55.
pub(super) const SPENT: u64 = (1 << GENERATION_SHIFT) - 1;
/// Counts the plans. A thread that slept through 64 of them, and finds the same number of parts spent by the last, takes
/// it for its own.
const GENERATION_SHIFT: u32 = 57;
const GENERATION: u64 = 0x3F << GENERATION_SHIFT;
/// Ask under the lock: somebody waits, the bucket warms up, or it is closed.
pub(super) const SLOW: u64 = 1 << 63;

/// What the parts spent and minted say of a call.
enum Reckoned {
    /// There are enough; so much will have been spent after the call.
    Enough { after: u64 },
    /// There would be enough once so much has been minted.
    TooFew { after: u64, anchor: u64, scale: Scale<FRACTION> },
    /// The cost is above the burst.
    Never,
    /// Only the lock can tell.
    Slow,
}

/// How tokens were taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// Without the lock.
    Open,
    /// Under the lock. Calls that waited may have been woken.
    Locked,
}

/// Why there are no tokens.
#[derive(Clone, Copy, Debug)]
pub(super) enum BucketRefusal {
    /// There will be enough at this time, in nanoseconds since the origin.
    Until(u64),
    /// The cost is above the burst.
    ForEver,
    /// The bucket is closed.
    Closed,
}

impl BucketRefusal {
    pub(super) fn seen_at(self, nanos: u64) -> RateLimited {
        match self {
            Self::Until(due) => RateLimited::new(Some(Duration::from_nanos(due.saturating_sub(nanos)))),
            Self::ForEver => RateLimited::new(None),
            Self::Closed => RateLimited::closed(),
        }
    }
}

impl BucketShared {
    fn plan_of(&self, word: u64) -> &SharedPlan {
        &self.plans[(word >> GENERATION_SHIFT) as usize & 1]
    }

    /// Takes tokens, at least one. A first try, without what is seldom needed.
    #[inline]
    pub(super) fn try_take(&self, tokens: u64, nanos: u64) -> Result<Way, BucketRefusal> {
        let word = self.word.0.load(Ordering::Acquire);
        match self.reckon(word, tokens, nanos) {
            Reckoned::Enough { after } => match self.replace_spent(word, after) {
                Ok(_) => Ok(Way::Open),
                Err(newer) => self.try_take_again(newer, tokens, nanos),
            },
            Reckoned::TooFew { after, anchor, scale } if self.is_current(word) => Err(too_few(after, anchor, &scale)),
            _ => self.try_take_again(word, tokens, nanos),
        }
    }

    /// The same from this word on, until it succeeds or there is no doubt.
    #[cold]
    fn try_take_again(&self, mut word: u64, tokens: u64, nanos: u64) -> Result<Way, BucketRefusal> {
        loop {
            let refusal = match self.reckon(word, tokens, nanos) {
                Reckoned::Slow => return self.try_take_slowly(tokens, nanos).map(|()| Way::Locked),
                Reckoned::Enough { after } => match self.replace_spent(word, after) {
                    Ok(_) => return Ok(Way::Open),
                    Err(newer) => {
                        word = newer;
                        continue;
                    }
                },
                Reckoned::TooFew { after, anchor, scale } => too_few(after, anchor, &scale),
                Reckoned::Never => BucketRefusal::ForEver,
            };
            if self.is_current(word) {
                return Err(refusal);
            }
            word = self.word.0.load(Ordering::Acquire);
        }
    }

    /// What the plan that `word` names says of a call, if `word` still counts. A plan that is being overwritten is any
    /// numbers, so that all arithmetic wraps or saturates.
    #[inline]
    fn reckon(&self, word: u64, tokens: u64, nanos: u64) -> Reckoned {
        let (anchor, scale) = self.plan_of(word).load_rate();
        let since = nanos.saturating_sub(anchor);
        if word & SLOW != 0 || since >= HORIZON {
            return Reckoned::Slow;
        }
        let forfeited = scale.minted(since);
        let minted = scale.full.wrapping_add(forfeited);
        // More than fits is above the burst.
        let cost = tokens.saturating_mul(scale.parts_per_token);
        let after = (word & SPENT).max(forfeited).wrapping_add(cost);
        if cost > scale.full {
            Reckoned::Never
        } else if after > minted {
            Reckoned::TooFew { after, anchor, scale }
        } else {
            Reckoned::Enough { after }
        }
    }

    /// Whether the plan that `word` named still counts, and nobody waits. The loads of the plan were acquires: they came
    /// before this one.
    #[inline]
    fn is_current(&self, word: u64) -> bool {
        (self.word.0.load(Ordering::Acquire) ^ word) & (GENERATION | SLOW) == 0
    }

    #[inline]
    fn replace_spent(&self, word: u64, spent: u64) -> Result<u64, u64> {
        let newer = (word & !SPENT) | spent;
        self.word.0.compare_exchange(word, newer, Ordering::AcqRel, Ordering::Acquire)
    }

    /// The same, when the fast way is not open: the plan has to be moved on, or somebody waits.
    #[cold]
    fn try_take_slowly(&self, tokens: u64, nanos: u64) -> Result<(), BucketRefusal> {
        let slow = lock(&self.slow);
        // A refusal changes nothing, whatever instant it is asked for.
        self.judge(tokens, nanos, &slow)?;
        self.slowly_locked(slow, nanos, |slow| match slow.line.is_empty() {
            true => self.take(tokens, nanos, slow),
            false => self.refuse_behind(tokens, nanos, slow),
        })
    }

    /// Does something with the lock held, after those who can be served were, and wakes them when it is released.
    pub(super) fn slowly<T>(&self, nanos: u64, work: impl FnOnce(&mut Slow) -> T) -> T {
        self.slowly_locked(lock(&self.slow), nanos, work)
    }

    /// The same with the lock already held, which it releases before it wakes anyone.
    fn slowly_locked<T>(&self, mut slow: MutexGuard<'_, Slow>, nanos: u64, work: impl FnOnce(&mut Slow) -> T) -> T {
        self.move_on(nanos);
        self.serve(nanos, &mut slow);
        let result = work(&mut slow);
        self.serve(nanos, &mut slow);
        let (woken, dropped) = slow.line.take_wakers();
        drop(slow);
        // A waker is another task's code: if it panics, that costs neither this call's result nor the others' wake-ups.
        for waker in woken {
            let _ = catch_unwind(AssertUnwindSafe(|| waker.wake()));
        }
        for waker in dropped {
            let _ = catch_unwind(AssertUnwindSafe(|| drop(waker)));
        }
        result
    }

    /// Makes a new plan count, and `convert`s what was spent by the old one. With the lock held.
    fn replace(&self, plan: &Plan, convert: impl Fn(u64) -> u64) {
        let mut word = self.word.0.load(Ordering::Acquire);
        let next = word.wrapping_add(1 << GENERATION_SHIFT) & GENERATION;
        self.plan_of(next).store(plan);
        loop {
            let newer = (word & SLOW) | next | convert(word & SPENT).min(SPENT);
            // A release, for whoever reads the plan that it names; an acquire, so that no part of the next plan but one is
            // stored before.
            match self.word.0.compare_exchange_weak(word, newer, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return,
                Err(newer) => word = newer,
            }
        }
    }

    /// Moves the anchor of a plan that was reached long ago. With the lock held, as all below.
    fn move_on(&self, nanos: u64) {
        let plan = self.plan();
        let (moved, fewer) = plan.moved_on_to(nanos);
        if moved.anchor != plan.anchor {
            self.replace(&moved, |spent| spent.saturating_sub(fewer));
        }
    }

    /// The plan that counts.
    fn plan(&self) -> Plan {
        self.plan_of(self.word.0.load(Ordering::Acquire)).load()
    }

    /// Takes tokens that are there.
    fn take(&self, tokens: u64, nanos: u64, slow: &mut Slow) -> Result<(), BucketRefusal> {
        if tokens > slow.quota.burst() {
            return Err(BucketRefusal::ForEver);
        }
        self.warm_up(nanos, slow);
        let plan = self.plan();
        let minted = plan.minted(nanos);
        self.update(|spent| {
            let after = spent.max(minted - plan.scale.full) + tokens * plan.scale.parts_per_token;
            if after > minted { Err(BucketRefusal::Until(plan.due(after))) } else { Ok(after) }
        })?;
        self.note_use(slow);
        Ok(())
    }

    /// Changes what was spent, and nothing else.
    fn update(&self, mut change: impl FnMut(u64) -> Result<u64, BucketRefusal>) -> Result<(), BucketRefusal> {
        let mut word = self.word.0.load(Ordering::Acquire);
        loop {
            let newer = (word & !SPENT) | change(word & SPENT)?.min(SPENT);
            match self.word.0.compare_exchange_weak(word, newer, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return Ok(()),
                Err(newer) => word = newer,
            }
        }
    }

    /// Lets a bucket that was full for as long as it takes to warm up begin anew, cold: with one token.
    fn warm_up(&self, nanos: u64, slow: &mut Slow) {
        if slow.third > 0 && nanos >= slow.cold_at {
            let cold = self.plan().warming_up(nanos, slow.third);
            self.replace(&cold, |_| cold.scale.full - cold.scale.parts_per_token);
            self.note_use(slow);
        }
    }

    /// Reckons anew when the bucket gets cold: what it has spent, or how fast it fills, has changed.
    fn note_use(&self, slow: &mut Slow) {
        if slow.third > 0 {
            let spent = self.word.0.load(Ordering::Acquire) & SPENT;
            slow.cold_at = self.plan().cold_after(spent, slow.third);
        }
    }

    /// Whether somebody may wait for what is given back. Whoever begins to later finds it there: the one word says both.
    pub(super) fn give_back(&self, tokens: u64) -> bool {
        let mut word = self.word.0.load(Ordering::Acquire);
        loop {
            let parts = tokens.saturating_mul(self.plan_of(word).load().scale.parts_per_token);
            let newer = (word & !SPENT) | (word & SPENT).saturating_sub(parts);
            match self.word.0.compare_exchange_weak(word, newer, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return word & SLOW != 0,
                Err(newer) => word = newer,
            }
        }
    }

    pub(super) fn owe(&self, tokens: u64, nanos: u64) {
        self.slowly(nanos, |slow| {
            let plan = self.plan();
            let minted = plan.minted(nanos);
            let cost = tokens.saturating_mul(plan.scale.parts_per_token);
            let owed = |spent: u64| {
                let spent = spent.max(minted - plan.scale.full);
                Ok(spent.saturating_add(cost).min(minted + plan.scale.full).max(spent))
            };
            // It never refuses.
            let _ = self.update(owed);
            self.note_use(slow);
        });
    }

    pub(super) fn change_quota(&self, quota: Quota, nanos: u64) {
        self.slowly(nanos, |slow| {
            if quota == slow.quota {
                return;
            }
            // Cold it stays: the next call begins to warm it up.
            let is_cold = slow.third > 0 && nanos >= slow.cold_at;
            slow.quota = quota;
            slow.line.refuse_above(quota.burst());
            let old = self.plan();
            let minted = old.minted(nanos);
            let rate = Plan::new(quota, nanos);
            // Also for a clock that another change has overtaken: it begins where that did, and mints nothing twice.
            let new = if nanos < old.warm() { rate.warming_up(old.start(), old.third) } else { rate };
            let new_minted = new.minted(nanos);
            self.replace(&new, |spent| match minted.checked_sub(spent) {
                Some(left) => new_minted - old.convert(left.min(old.scale.full), &new).min(new.scale.full),
                // Spent by a thread with a later clock, or owed. A part of a debt is a whole one, lest it be forgiven.
                None => new_minted + old.convert_up(spent - minted, &new).min(new.scale.full),
            });
            if !is_cold {
                self.note_use(slow);
            }
        });
    }
}

/// There will be enough once so many parts have been minted.
#[inline]
fn too_few(after: u64, anchor: u64, scale: &Scale<FRACTION>) -> BucketRefusal {
    BucketRefusal::Until(due_at(after, anchor, scale))
}

/// When `parts` will have been minted since `anchor`, in nanoseconds since the origin.
#[inline]
fn due_at(parts: u64, anchor: u64, scale: &Scale<FRACTION>) -> u64 {
    anchor.saturating_add(scale.nanos_to_mint(parts.saturating_sub(scale.full)))
}
