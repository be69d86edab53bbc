//! The state of a token bucket: what all its handles share, and how threads change it.
//!
//! | state | event | next state |
//! |---|---|---|
//! | `Open`: the word alone decides | a call has to wait | `Waited` |
//! | | the plan ran for a horizon | `Open`, with a later anchor, by the lock |
//! | `Waited`: `SLOW`, and the line is not empty | the last waiter is served, or leaves | `Open` |
//! | `WarmsUp`: `SLOW`, for as long as the bucket lives | it was full for the length of its warm-up | cold: one token, a third of the rate |
//! | any | it is closed | `Closed`: `SLOW`, and every call is refused |
//!
//! Under the lock, `slowly` moves the plan on and serves the waiters whose turn has come, before and after each change.

mod changing;
mod looking;
mod waiting;

use super::{
    line::Line,
    plan::{FRACTION, HORIZON, Plan, SharedPlan},
};
use crate::{
    clock::{Nanos, Origin},
    error::RateLimited,
    rate_limit::{
        quota::Quota,
        scale::Scale,
        tokens::{Subtokens, Tokens},
    },
    sync::{AtomicU64, Mutex, MutexGuard, Ordering, lock},
};
use std::time::Duration;

/// On a cache line of its own. A thread that takes tokens writes it, and reads what follows.
#[repr(align(128))]
pub(super) struct Word(pub(super) AtomicU64);

/// The part of a bucket that all its handles share.
#[repr(align(128))]
pub(super) struct BucketShared {
    /// Which plan counts, whether a call waits, and the parts spent so far by that plan, or forfeited because the
    /// bucket was full. See the constants below.
    ///
    /// A compare-and-swap that succeeds shows that the plan which the thread computed with still counts: a plan is
    /// overwritten only after this word named the other one.
    pub(super) word: Word,
    /// The plan that counts and the one before or after, by the generation's lowest bit.
    pub(super) plans: [SharedPlan; 2],
    pub(super) origin: Origin,
    pub(super) max_wait: Duration,
    /// Held to change the plan, or to wait.
    pub(super) slow: Mutex<Slow>,
}

/// The part of a bucket that is under its lock.
pub(super) struct Slow {
    pub(super) quota: Quota,
    /// A third of the warm-up; zero for a bucket that does not warm up.
    pub(super) third: Nanos,
    /// When a bucket that warms up has been full for as long as that takes, if nothing more is taken until then. What
    /// is given back does not hasten it: a bucket whose calls are all refunded is in use.
    pub(super) cold_at: Nanos,
    pub(super) line: Line,
    /// No call waits for a closed bucket, and [`SLOW`] stays set, so that each call learns of it.
    pub(super) is_closed: bool,
}

/// The parts spent: at most a burst, a horizon's worth, and a burst that is owed, each up to 2^55.
pub(super) const SPENT: u64 = (1 << GENERATION_SHIFT) - 1;
/// Counts the plans. A thread that slept through 64 of them, and finds the same number of parts spent by the last,
/// takes it for its own.
const GENERATION_SHIFT: u32 = 57;
const GENERATION: u64 = 0x3F << GENERATION_SHIFT;
/// Ask under the lock: a call waits, the bucket warms up, or it is closed.
pub(super) const SLOW: u64 = 1 << 63;

/// Whether there are enough tokens for a call, as the parts spent and minted say.
enum Assessment {
    /// There are enough. `after` will have been spent after the call.
    Enough { after: Subtokens },
    /// There would be enough once `after` has been minted.
    TooFew { after: Subtokens, anchor: Nanos, scale: Scale<FRACTION> },
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
    /// There will be enough at this time.
    Until(Nanos),
    /// The cost is above the burst.
    ForEver,
    /// The bucket is closed.
    Closed,
}

impl BucketRefusal {
    pub(super) fn seen_at(self, now: Nanos) -> RateLimited {
        match self {
            Self::Until(due) => RateLimited::new(Some(due.saturating_sub(now).duration())),
            Self::ForEver => RateLimited::new(None),
            Self::Closed => RateLimited::closed(),
        }
    }
}

impl Slow {
    /// Whether the bucket was full for the length of its warm-up.
    fn is_cold(&self, now: Nanos) -> bool {
        self.third > Nanos::ZERO && now >= self.cold_at
    }
}

impl BucketShared {
    /// The parts spent by the plan that counts.
    fn spent(&self) -> Subtokens {
        spent(self.word.0.load(Ordering::Acquire))
    }

    fn plan_of(&self, word: u64) -> &SharedPlan {
        &self.plans[(word >> GENERATION_SHIFT) as usize & 1]
    }

    /// Takes tokens, at least one. A first try, without what is seldom needed.
    #[inline]
    pub(super) fn try_take(&self, tokens: Tokens, now: Nanos) -> Result<Way, BucketRefusal> {
        let word = self.word.0.load(Ordering::Acquire);
        match self.assess(word, tokens, now) {
            Assessment::Enough { after } => match self.replace_spent(word, after) {
                Ok(_) => Ok(Way::Open),
                Err(newer) => self.try_take_again(newer, tokens, now),
            },
            Assessment::TooFew { after, anchor, scale } if self.is_current(word) => Err(too_few(after, anchor, &scale)),
            _ => self.try_take_again(word, tokens, now),
        }
    }

    /// Tries again from this word on, until it succeeds or there is no doubt.
    #[cold]
    fn try_take_again(&self, mut word: u64, tokens: Tokens, now: Nanos) -> Result<Way, BucketRefusal> {
        loop {
            let refusal = match self.assess(word, tokens, now) {
                Assessment::Slow => return self.try_take_slowly(tokens, now).map(|()| Way::Locked),
                Assessment::Enough { after } => match self.replace_spent(word, after) {
                    Ok(_) => return Ok(Way::Open),
                    Err(newer) => {
                        word = newer;
                        continue;
                    }
                },
                Assessment::TooFew { after, anchor, scale } => too_few(after, anchor, &scale),
                Assessment::Never => BucketRefusal::ForEver,
            };
            if self.is_current(word) {
                return Err(refusal);
            }
            word = self.word.0.load(Ordering::Acquire);
        }
    }

    /// Assesses a call by the plan that `word` names, if `word` still counts. A plan that is being overwritten is any
    /// numbers, so that all arithmetic wraps or saturates.
    #[inline]
    fn assess(&self, word: u64, tokens: Tokens, now: Nanos) -> Assessment {
        let (anchor, scale) = self.plan_of(word).load_rate();
        let since = now.saturating_sub(anchor);
        if word & SLOW != 0 || since >= HORIZON {
            return Assessment::Slow;
        }
        let forfeited = scale.minted(since);
        let minted = Subtokens(scale.full.0.wrapping_add(forfeited.0));
        // More than fits is above the burst.
        let cost = scale.parts(tokens);
        let after = Subtokens(spent(word).max(forfeited).0.wrapping_add(cost.0));
        if cost > scale.full {
            Assessment::Never
        } else if after > minted {
            Assessment::TooFew { after, anchor, scale }
        } else {
            Assessment::Enough { after }
        }
    }

    /// Whether the plan that `word` named still counts, and no call waits. The loads of the plan were acquires: they
    /// came before this one.
    #[inline]
    fn is_current(&self, word: u64) -> bool {
        (self.word.0.load(Ordering::Acquire) ^ word) & (GENERATION | SLOW) == 0
    }

    #[inline]
    fn replace_spent(&self, word: u64, spent: Subtokens) -> Result<u64, u64> {
        let newer = (word & !SPENT) | spent.0;
        self.word.0.compare_exchange(word, newer, Ordering::AcqRel, Ordering::Acquire)
    }

    /// Takes tokens where the fast way is not open: the plan has to be moved on, or a call waits.
    #[cold]
    fn try_take_slowly(&self, tokens: Tokens, now: Nanos) -> Result<(), BucketRefusal> {
        let slow = lock(&self.slow);
        // A refusal changes nothing, whatever instant it is asked for.
        self.judge(tokens, now, &slow)?;
        self.slowly_locked(slow, now, |slow| match slow.line.is_empty() {
            true => self.take(tokens, now, slow),
            false => self.refuse_behind(tokens, now, slow),
        })
    }

    /// Does something with the lock held, after those who can be served were, and wakes them when it is released.
    pub(super) fn slowly<T>(&self, now: Nanos, work: impl FnOnce(&mut Slow) -> T) -> T {
        self.slowly_locked(lock(&self.slow), now, work)
    }

    /// As [`slowly`](Self::slowly), with the lock already held. It releases the lock before it wakes a waiter.
    fn slowly_locked<T>(&self, mut slow: MutexGuard<'_, Slow>, now: Nanos, work: impl FnOnce(&mut Slow) -> T) -> T {
        let result = self.with_lock(&mut slow, now, work);
        slow.line.take_wakers().wake_after(slow);
        result
    }

    /// As [`slowly_locked`](Self::slowly_locked), and keeps the lock. The wakers of those who were served stay where
    /// they are, for the next who does something slowly.
    pub(super) fn with_lock<T>(&self, slow: &mut Slow, now: Nanos, work: impl FnOnce(&mut Slow) -> T) -> T {
        self.move_on(now, slow);
        self.serve(now, slow);
        let result = work(slow);
        self.serve(now, slow);
        result
    }

    /// The plan that counts. It stays while the lock is held.
    fn plan(&self, _slow: &Slow) -> Plan {
        self.plan_of(self.word.0.load(Ordering::Acquire)).load()
    }

    /// Takes tokens that are there.
    fn take(&self, tokens: Tokens, now: Nanos, slow: &mut Slow) -> Result<(), BucketRefusal> {
        if tokens.0 > slow.quota.burst() {
            return Err(BucketRefusal::ForEver);
        }
        self.warm_up(now, slow);
        let plan = self.plan(slow);
        let minted = plan.minted(now);
        self.update(|spent| {
            let forfeited = minted.saturating_sub(plan.scale.full);
            let after = spent.max(forfeited).saturating_add(plan.scale.parts(tokens));
            if after > minted { Err(BucketRefusal::Until(plan.due(after))) } else { Ok(after) }
        })?;
        self.note_use(slow);
        Ok(())
    }

    /// Changes what was spent, and nothing else.
    fn update(
        &self,
        mut change: impl FnMut(Subtokens) -> Result<Subtokens, BucketRefusal>,
    ) -> Result<(), BucketRefusal> {
        let mut word = self.word.0.load(Ordering::Acquire);
        loop {
            let newer = (word & !SPENT) | change(spent(word))?.0.min(SPENT);
            match self.word.0.compare_exchange_weak(word, newer, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return Ok(()),
                Err(newer) => word = newer,
            }
        }
    }

    /// Gives tokens back, and says whether a call may wait for them. A call that begins to wait later finds them: the
    /// one word says both.
    pub(super) fn give_back(&self, tokens: Tokens) -> bool {
        let mut word = self.word.0.load(Ordering::Acquire);
        loop {
            let parts = self.plan_of(word).load().scale.parts(tokens);
            let newer = (word & !SPENT) | spent(word).saturating_sub(parts).0;
            match self.word.0.compare_exchange_weak(word, newer, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return word & SLOW != 0,
                Err(newer) => word = newer,
            }
        }
    }

    pub(super) fn owe(&self, tokens: Tokens, now: Nanos) {
        self.slowly(now, |slow| {
            let plan = self.plan(slow);
            let (minted, full) = (plan.minted(now), plan.scale.full);
            let owed = |spent: Subtokens| {
                let spent = spent.max(minted.saturating_sub(full));
                let after = spent.saturating_add(plan.scale.parts(tokens));
                Ok(after.min(minted.saturating_add(full)).max(spent))
            };
            // It never refuses.
            let _ = self.update(owed);
            self.note_use(slow);
        });
    }
}

/// The parts spent, as a word says.
#[inline]
fn spent(word: u64) -> Subtokens {
    Subtokens(word & SPENT)
}

/// There will be enough once `after` has been minted.
#[inline]
fn too_few(after: Subtokens, anchor: Nanos, scale: &Scale<FRACTION>) -> BucketRefusal {
    BucketRefusal::Until(due_at(after, anchor, scale))
}

/// When `parts` will have been minted since `anchor`.
#[inline]
fn due_at(parts: Subtokens, anchor: Nanos, scale: &Scale<FRACTION>) -> Nanos {
    anchor.saturating_add(scale.time_to_mint(parts.saturating_sub(scale.full)))
}
