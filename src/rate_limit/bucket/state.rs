//! The state of a token bucket: what all its handles share, and how threads change it.
//!
//! | state | event | next state |
//! |---|---|---|
//! | `Open`: the word alone decides | a call has to wait | `Waited` |
//! | | the plan ran for a horizon | `Open`, with a later anchor, by the lock |
//! | `Waited`: `NEEDS_LOCK`, and the line is not empty | the last waiter is served, or leaves | `Open` |
//! | `WarmsUp`: `NEEDS_LOCK`, for as long as the bucket lives | it was full for the length of its warm-up | cold: one token, a third of the rate |
//! | any | it is closed | `Closed`: `NEEDS_LOCK`, and every call is refused |
//!
//! Under the lock, `with_lock` moves the plan on and serves the waiters whose turn has come, before and after each change.

mod changing;
mod looking;
mod waiting;

use super::{
    refill_schedule::{FRACTION, HORIZON, RefillSchedule, SharedRefillSchedule},
    wait_queue::WaitQueue,
};
use crate::{
    clock::{Nanos, Origin},
    error::RateLimited,
    rate_limit::{
        fixed_point_rate::FixedPointRate,
        quota::Quota,
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
    pub(super) schedules: [SharedRefillSchedule; 2],
    pub(super) origin: Origin,
    pub(super) max_wait: Duration,
    /// Held to change the plan, or to wait.
    pub(super) locked: Mutex<LockedBucket>,
}

/// The part of a bucket that is under its lock.
pub(super) struct LockedBucket {
    pub(super) quota: Quota,
    /// A third of the warm-up; zero for a bucket that does not warm up.
    pub(super) third: Nanos,
    /// When a bucket that warms up has been full for as long as that takes, if nothing more is taken until then. What
    /// is given back does not hasten it: a bucket whose calls are all refunded is in use.
    pub(super) cold_at: Nanos,
    pub(super) queue: WaitQueue,
    /// No call waits for a closed bucket, and [`NEEDS_LOCK`] stays set, so that each call learns of it.
    pub(super) is_closed: bool,
}

/// The parts spent: at most a burst, a horizon's worth, and a burst that is owed, each up to 2^55.
pub(super) const SPENT: u64 = (1 << GENERATION_SHIFT) - 1;
/// Counts the plans. A thread that slept through 64 of them, and finds the same number of parts spent by the last,
/// takes it for its own.
const GENERATION_SHIFT: u32 = 57;
const GENERATION: u64 = 0x3F << GENERATION_SHIFT;
/// Ask under the lock: a call waits, the bucket warms up, or it is closed.
pub(super) const NEEDS_LOCK: u64 = 1 << 63;

/// Whether there are enough tokens for a call, as the parts spent and minted say.
enum Assessment {
    /// There are enough. `after` will have been spent after the call.
    Enough { after: Subtokens },
    /// There would be enough once `after` has been minted.
    TooFew { after: Subtokens, anchor: Nanos, rate: FixedPointRate<FRACTION> },
    /// The cost is above the burst.
    Never,
    /// Only the lock can tell.
    NeedsLock,
}

/// How tokens were taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TakePath {
    /// Without the lock.
    LockFree,
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

impl LockedBucket {
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

    fn schedule_of(&self, word: u64) -> &SharedRefillSchedule {
        &self.schedules[(word >> GENERATION_SHIFT) as usize & 1]
    }

    /// Takes tokens, at least one. A first try, without what is seldom needed.
    #[inline]
    pub(super) fn try_take(&self, tokens: Tokens, now: Nanos) -> Result<TakePath, BucketRefusal> {
        let word = self.word.0.load(Ordering::Acquire);
        match self.assess(word, tokens, now) {
            Assessment::Enough { after } => match self.replace_spent(word, after) {
                Ok(_) => Ok(TakePath::LockFree),
                Err(newer) => self.try_take_again(newer, tokens, now),
            },
            Assessment::TooFew { after, anchor, rate } if self.is_current(word) => Err(too_few(after, anchor, &rate)),
            _ => self.try_take_again(word, tokens, now),
        }
    }

    /// Tries again from this word on, until it succeeds or there is no doubt.
    #[cold]
    fn try_take_again(&self, mut word: u64, tokens: Tokens, now: Nanos) -> Result<TakePath, BucketRefusal> {
        loop {
            let refusal = match self.assess(word, tokens, now) {
                Assessment::NeedsLock => return self.try_take_with_lock(tokens, now).map(|()| TakePath::Locked),
                Assessment::Enough { after } => match self.replace_spent(word, after) {
                    Ok(_) => return Ok(TakePath::LockFree),
                    Err(newer) => {
                        word = newer;
                        continue;
                    }
                },
                Assessment::TooFew { after, anchor, rate } => too_few(after, anchor, &rate),
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
        let (anchor, rate) = self.schedule_of(word).load_rate();
        let since = now.saturating_sub(anchor);
        if word & NEEDS_LOCK != 0 || since >= HORIZON {
            return Assessment::NeedsLock;
        }
        let forfeited = rate.minted(since);
        let minted = Subtokens(rate.full.0.wrapping_add(forfeited.0));
        // More than fits is above the burst.
        let cost = rate.subtokens(tokens);
        let after = Subtokens(spent(word).max(forfeited).0.wrapping_add(cost.0));
        if cost > rate.full {
            Assessment::Never
        } else if after > minted {
            Assessment::TooFew { after, anchor, rate }
        } else {
            Assessment::Enough { after }
        }
    }

    /// Whether the plan that `word` named still counts, and no call waits. The loads of the plan were acquires: they
    /// came before this one.
    #[inline]
    fn is_current(&self, word: u64) -> bool {
        (self.word.0.load(Ordering::Acquire) ^ word) & (GENERATION | NEEDS_LOCK) == 0
    }

    #[inline]
    fn replace_spent(&self, word: u64, spent: Subtokens) -> Result<u64, u64> {
        let newer = (word & !SPENT) | spent.0;
        self.word.0.compare_exchange(word, newer, Ordering::AcqRel, Ordering::Acquire)
    }

    /// Takes tokens where the fast way is not open: the plan has to be moved on, or a call waits.
    #[cold]
    fn try_take_with_lock(&self, tokens: Tokens, now: Nanos) -> Result<(), BucketRefusal> {
        let locked = lock(&self.locked);
        // A refusal changes nothing, whatever instant it is asked for.
        self.judge(tokens, now, &locked)?;
        self.with_guard(locked, now, |locked| match locked.queue.is_empty() {
            true => self.take(tokens, now, locked),
            false => self.refuse_behind(tokens, now, locked),
        })
    }

    /// Does something with the lock held, after those who can be served were, and wakes them when it is released.
    pub(super) fn with_lock<T>(&self, now: Nanos, work: impl FnOnce(&mut LockedBucket) -> T) -> T {
        self.with_guard(lock(&self.locked), now, work)
    }

    /// As [`with_lock`](Self::with_lock), with the lock already held. It releases the lock before it wakes a waiter.
    fn with_guard<T>(
        &self,
        mut locked: MutexGuard<'_, LockedBucket>,
        now: Nanos,
        work: impl FnOnce(&mut LockedBucket) -> T,
    ) -> T {
        let result = self.while_locked(&mut locked, now, work);
        locked.queue.take_wakers().wake_after(locked);
        result
    }

    /// As [`with_guard`](Self::with_guard), and keeps the lock. The wakers of those who were served stay where
    /// they are, for the next call of `with_guard`.
    pub(super) fn while_locked<T>(
        &self,
        locked: &mut LockedBucket,
        now: Nanos,
        work: impl FnOnce(&mut LockedBucket) -> T,
    ) -> T {
        self.rebase(now, locked);
        self.serve(now, locked);
        let result = work(locked);
        self.serve(now, locked);
        result
    }

    /// The plan that counts. It stays while the lock is held.
    fn schedule(&self, _locked: &LockedBucket) -> RefillSchedule {
        self.schedule_of(self.word.0.load(Ordering::Acquire)).load()
    }

    /// Takes tokens that are there.
    fn take(&self, tokens: Tokens, now: Nanos, locked: &mut LockedBucket) -> Result<(), BucketRefusal> {
        if tokens.0 > locked.quota.burst() {
            return Err(BucketRefusal::ForEver);
        }
        self.warm_up(now, locked);
        let schedule = self.schedule(locked);
        let minted = schedule.minted(now);
        self.update(|spent| {
            let forfeited = minted.saturating_sub(schedule.rate.full);
            let after = spent.max(forfeited).saturating_add(schedule.rate.subtokens(tokens));
            if after > minted { Err(BucketRefusal::Until(schedule.due(after))) } else { Ok(after) }
        })?;
        self.note_use(locked);
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
            let subtokens = self.schedule_of(word).load().rate.subtokens(tokens);
            let newer = (word & !SPENT) | spent(word).saturating_sub(subtokens).0;
            match self.word.0.compare_exchange_weak(word, newer, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return word & NEEDS_LOCK != 0,
                Err(newer) => word = newer,
            }
        }
    }

    pub(super) fn owe(&self, tokens: Tokens, now: Nanos) {
        self.with_lock(now, |locked| {
            let schedule = self.schedule(locked);
            let (minted, full) = (schedule.minted(now), schedule.rate.full);
            let owed = |spent: Subtokens| {
                let spent = spent.max(minted.saturating_sub(full));
                let after = spent.saturating_add(schedule.rate.subtokens(tokens));
                Ok(after.min(minted.saturating_add(full)).max(spent))
            };
            // It never refuses.
            let _ = self.update(owed);
            self.note_use(locked);
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
fn too_few(after: Subtokens, anchor: Nanos, rate: &FixedPointRate<FRACTION>) -> BucketRefusal {
    BucketRefusal::Until(due_at(after, anchor, rate))
}

/// When `parts` will have been minted since `anchor`.
#[inline]
fn due_at(subtokens: Subtokens, anchor: Nanos, rate: &FixedPointRate<FRACTION>) -> Nanos {
    anchor.saturating_add(rate.time_to_mint(subtokens.saturating_sub(rate.full)))
}
