//! The state of a token bucket that all its handles share, and how threads change it.
//!
//! | state | event | next state |
//! |---|---|---|
//! | `Open`: the word alone decides | a call has to wait | `Waited` |
//! | | the schedule ran for a horizon | `Open`, with a later anchor; takes the lock |
//! | `Waited`: `NEEDS_LOCK`, and the wait queue is not empty | the last waiter is served, or leaves | `Open` |
//! | `WarmsUp`: always `NEEDS_LOCK` | it was full for as long as its warm-up | cold: one token, a third of the rate |
//! | any | it is closed | `Closed`: `NEEDS_LOCK`, and every call is refused |
//!
//! `with_lock` takes the lock and rebases the schedule. It serves the waiters whose turn has come, before and after
//! each change.

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

/// Has a cache line of its own, against false sharing: threads that take tokens write it, and only read the fields
/// after it.
#[repr(align(128))]
pub(super) struct Word(pub(super) AtomicU64);

/// The part of a token bucket that all its handles share.
#[repr(align(128))]
pub(super) struct BucketShared {
    /// Names the current schedule, says whether calls need the lock, and counts the subtokens spent by that schedule.
    /// Subtokens forfeited because the bucket was full count as spent. See the constants below.
    ///
    /// If a thread's compare-and-swap succeeds, the schedule that it computed with is still current: a schedule is
    /// overwritten only after this word names the other one.
    pub(super) word: Word,
    /// The current schedule and the one before or after it, by the generation's lowest bit.
    pub(super) schedules: [SharedRefillSchedule; 2],
    pub(super) origin: Origin,
    pub(super) max_wait: Duration,
    /// Its lock is held to change the schedule, or to wait.
    pub(super) locked: Mutex<LockedBucket>,
}

/// The part of a token bucket that its lock guards.
pub(super) struct LockedBucket {
    pub(super) quota: Quota,
    /// A third of the warm-up; zero for a bucket without a warm-up.
    pub(super) third: Nanos,
    /// When the bucket will have been full for as long as its warm-up, if no call takes tokens until then. Refunds do
    /// not make it earlier: a bucket whose calls are all refunded is in use.
    pub(super) cold_at: Nanos,
    pub(super) queue: WaitQueue,
    /// While true, no call waits, and [`NEEDS_LOCK`] is set, so that each call reads this field.
    pub(super) is_closed: bool,
}

/// The subtokens spent: at most a burst, the tokens of a horizon, and a debt of a burst, each up to 2^55.
pub(super) const SPENT: u64 = (1 << GENERATION_SHIFT) - 1;
/// Counts the schedules, modulo 64. If a thread sleeps through 64 changes and finds as many subtokens spent as before,
/// it takes the new schedule for the old one.
const GENERATION_SHIFT: u32 = 57;
const GENERATION: u64 = 0x3F << GENERATION_SHIFT;
/// Set while calls need the lock: a call waits, the bucket has a warm-up, or it is closed.
pub(super) const NEEDS_LOCK: u64 = 1 << 63;

/// Whether there are enough tokens for a call, by the subtokens spent and minted.
enum Assessment {
    /// There are enough. After the call, `after` subtokens have been spent.
    Enough { after: Subtokens },
    /// There will be enough once `after` subtokens have been minted.
    TooFew { after: Subtokens, anchor: Nanos, rate: FixedPointRate<FRACTION> },
    /// The cost is above the burst.
    Never,
    /// The answer needs the lock.
    NeedsLock,
}

/// How tokens were taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TakePath {
    /// Without the lock.
    LockFree,
    /// With the lock. Waiters may have been woken.
    Locked,
}

/// Why a call gets no tokens.
#[derive(Clone, Copy, Debug)]
pub(super) enum BucketRefusal {
    /// There are too few until this time.
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
    /// Returns whether the bucket has been full for as long as its warm-up.
    fn is_cold(&self, now: Nanos) -> bool {
        self.third > Nanos::ZERO && now >= self.cold_at
    }
}

impl BucketShared {
    /// Returns the subtokens spent by the current schedule.
    fn spent(&self) -> Subtokens {
        spent(self.word.0.load(Ordering::Acquire))
    }

    fn schedule_of(&self, word: u64) -> &SharedRefillSchedule {
        &self.schedules[(word >> GENERATION_SHIFT) as usize & 1]
    }

    /// Takes tokens, at least one. This first try is inlined, and leaves the rare cases to
    /// [`try_take_again`](Self::try_take_again).
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

    /// Tries again, from `word` on, until it takes the tokens or the refusal is certain.
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

    /// Assesses a call by the schedule that `word` names. The result is valid only if `word` is still current. While
    /// another thread overwrites the schedule, its numbers are arbitrary, so all arithmetic wraps or saturates.
    #[inline]
    fn assess(&self, word: u64, tokens: Tokens, now: Nanos) -> Assessment {
        let (anchor, rate) = self.schedule_of(word).load_rate();
        let since = now.saturating_sub(anchor);
        if word & NEEDS_LOCK != 0 || since >= HORIZON {
            return Assessment::NeedsLock;
        }
        let forfeited = rate.minted(since);
        let minted = Subtokens(rate.full.0.wrapping_add(forfeited.0));
        // It saturates: a cost that does not fit is above the burst.
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

    /// Returns whether the schedule that `word` names is still current, and no call has begun to wait. The schedule was
    /// loaded with acquire, so those loads came before this one.
    #[inline]
    fn is_current(&self, word: u64) -> bool {
        (self.word.0.load(Ordering::Acquire) ^ word) & (GENERATION | NEEDS_LOCK) == 0
    }

    #[inline]
    fn replace_spent(&self, word: u64, spent: Subtokens) -> Result<u64, u64> {
        let newer = (word & !SPENT) | spent.0;
        self.word.0.compare_exchange(word, newer, Ordering::AcqRel, Ordering::Acquire)
    }

    /// Takes tokens with the lock: the schedule has to be rebased, a call waits, or the bucket has a warm-up.
    #[cold]
    fn try_take_with_lock(&self, tokens: Tokens, now: Nanos) -> Result<(), BucketRefusal> {
        let locked = lock(&self.locked);
        // A refusal changes nothing, even for an instant in the future.
        self.judge(tokens, now, &locked)?;
        self.with_guard(locked, now, |locked| match locked.queue.is_empty() {
            true => self.take(tokens, now, locked),
            false => self.refuse_behind(tokens, now, locked),
        })
    }

    /// Takes the lock, serves the waiters whose turn has come, runs `work`, releases the lock and wakes those waiters.
    pub(super) fn with_lock<T>(&self, now: Nanos, work: impl FnOnce(&mut LockedBucket) -> T) -> T {
        self.with_guard(lock(&self.locked), now, work)
    }

    /// Does the same as [`with_lock`](Self::with_lock) with a guard that the caller holds. Releases the lock before it
    /// wakes a waiter.
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

    /// Does the same as [`with_guard`](Self::with_guard), but keeps the lock and wakes no waiter. The wakers stay in
    /// the queue until the next call of `with_guard`.
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

    /// Returns the current schedule. It cannot change while the lock is held.
    fn schedule(&self, _locked: &LockedBucket) -> RefillSchedule {
        self.schedule_of(self.word.0.load(Ordering::Acquire)).load()
    }

    /// Takes tokens if there are enough.
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

    /// Changes the subtokens spent, and no other part of the word.
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

    /// Gives tokens back, and returns whether a call may be waiting for them. A call that begins to wait later finds
    /// the tokens, because the same word counts them and says whether a call waits.
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

    /// Charges a refused call, with a debt of at most a burst.
    pub(super) fn owe(&self, tokens: Tokens, now: Nanos) {
        self.with_lock(now, |locked| {
            let schedule = self.schedule(locked);
            let (minted, full) = (schedule.minted(now), schedule.rate.full);
            let owed = |spent: Subtokens| {
                let spent = spent.max(minted.saturating_sub(full));
                let after = spent.saturating_add(schedule.rate.subtokens(tokens));
                Ok(after.min(minted.saturating_add(full)).max(spent))
            };
            // `owed` never refuses.
            let _ = self.update(owed);
            self.note_use(locked);
        });
    }
}

/// The subtokens spent, in a word.
#[inline]
fn spent(word: u64) -> Subtokens {
    Subtokens(word & SPENT)
}

/// The refusal of a call that needs `after` subtokens to be minted.
#[inline]
fn too_few(after: Subtokens, anchor: Nanos, rate: &FixedPointRate<FRACTION>) -> BucketRefusal {
    BucketRefusal::Until(due_at(after, anchor, rate))
}

/// When `subtokens` will have been minted by a schedule with this anchor and rate.
#[inline]
fn due_at(subtokens: Subtokens, anchor: Nanos, rate: &FixedPointRate<FRACTION>) -> Nanos {
    anchor.saturating_add(rate.time_to_mint(subtokens.saturating_sub(rate.full)))
}
