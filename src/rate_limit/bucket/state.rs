//! The state of a token bucket that all its handles share, and how threads change it.
//!
//! A [`RefillSchedule`] says how many subtokens, fractions of a token, have been minted by each instant. These are one
//! burst, plus the rate times the time since an instant that the schedule calls its anchor. During a warm-up the rate
//! is lower. The bucket contains the minted subtokens minus the spent ones. Both numbers grow, but the bucket's atomic
//! word has only 57 bits for the spent subtokens. A rebase therefore moves the anchor later from time to time, which
//! lowers both numbers by the same amount. A rebase is due once the schedule has been at its full rate for a horizon
//! (18 minutes). The next operation that changes the bucket with the lock then begins with a rebase. Reads change
//! nothing, and do not rebase. Neither do refusals, except those that `charge_with_debt` charges.
//!
//! The states are conditions of the word and of [`LockedBucket`], not a type.
//!
//! | state | event | next state |
//! |---|---|---|
//! | `Open`: the word alone decides | a call has to wait | `HasWaiters` |
//! | | a call arrives a horizon after the anchor | `Open`; the call takes the lock and, unless it is refused, rebases the schedule |
//! | `HasWaiters`: `NEEDS_LOCK`, and the wait queue is not empty | the last waiter is served or refused, or leaves | `Open` |
//! | `WarmsUp`: the bucket has a warm-up, so always `NEEDS_LOCK`, with or without waiters | a call takes tokens or begins to wait, after the bucket was full for a whole warm-up | `WarmsUp`, cold again: one token, a third of the rate |
//! | any | the bucket is closed | `Closed`: `NEEDS_LOCK`, and every call that costs tokens is refused |
//!
//! `with_lock` takes the lock, and rebases the schedule if that is due. It serves the waiters whose turn has come,
//! before and after each change.

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
    /// Names the current schedule, says whether calls need the lock, and counts the spent subtokens. The bucket
    /// contains the subtokens that the schedule has minted, minus this number. Subtokens that were minted into a full
    /// bucket are lost, and count as spent. See the constants below.
    ///
    /// If a thread's compare-and-swap succeeds, the schedule that it computed with is still current, unless the thread
    /// slept through a multiple of 64 changes: see [`GENERATION_SHIFT`]. A schedule is overwritten only after this word
    /// names the other one.
    pub(super) word: Word,
    /// Two slots, chosen by the lowest bit of the generation: the current schedule, and the previous one, or the next
    /// one while it is written.
    pub(super) schedules: [SharedRefillSchedule; 2],
    pub(super) origin: Origin,
    pub(super) max_wait: Duration,
    /// A thread holds its lock to change the schedule or the wait queue.
    pub(super) locked: Mutex<LockedBucket>,
}

/// The part of a token bucket that its lock guards.
pub(super) struct LockedBucket {
    pub(super) quota: Quota,
    /// A third of the warm-up; zero for a bucket without a warm-up.
    pub(super) warm_up_third: Nanos,
    /// The bucket becomes cold at this time, if no call takes tokens before: it has then been full for a whole warm-up.
    /// A refund does not move it earlier, because a bucket whose calls are refunded is still in use.
    pub(super) cold_at: Nanos,
    pub(super) queue: WaitQueue,
    /// While true, no call waits, and [`NEEDS_LOCK`] is set, so that each call reads this field.
    pub(super) is_closed: bool,
}

/// The bits that count the spent subtokens. The count is at most the sum of three numbers. These are a burst, a debt of
/// one burst, and the subtokens minted in a horizon and a warm-up. Each of the three is at most 2^55, so 57 bits
/// suffice.
pub(super) const SPENT: u64 = (1 << GENERATION_SHIFT) - 1;
/// The generation begins at this bit. It counts the schedules, modulo 64.
///
/// A thread may sleep through a multiple of 64 changes, and find the same number of spent subtokens. It then mistakes
/// the new schedule for the old one. That one call is decided, and counted, by the old schedule.
const GENERATION_SHIFT: u32 = 57;
/// The six bits of the generation.
const GENERATION: u64 = 0x3F << GENERATION_SHIFT;
/// Set while calls need the lock: a call waits, the bucket has a warm-up, or it is closed.
pub(super) const NEEDS_LOCK: u64 = 1 << 63;

/// Whether there are enough tokens for a call, by the subtokens spent and minted.
enum Assessment {
    /// There are enough tokens. After the call, `spent_after` subtokens have been spent.
    Enough { spent_after: Subtokens },
    /// There will be enough once `needed` subtokens have been minted, by the schedule with this anchor and rate.
    TooFew { needed: Subtokens, anchor: Nanos, rate: FixedPointRate<FRACTION> },
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
    /// There are too few tokens until this time.
    Until(Nanos),
    /// The cost is above the burst.
    ForEver,
    /// The bucket is closed.
    Closed,
}

impl BucketRefusal {
    /// Returns the error of a call at `now`.
    pub(super) fn to_error(self, now: Nanos) -> RateLimited {
        match self {
            Self::Until(due) => RateLimited::new(Some(due.saturating_sub(now).duration())),
            Self::ForEver => RateLimited::new(None),
            Self::Closed => RateLimited::closed(),
        }
    }
}

impl LockedBucket {
    /// Returns whether the bucket has been full for as long as its warm-up. The next call that takes tokens or begins
    /// to wait then starts another warm-up. False for a new bucket, whose warm-up has started already.
    fn is_cold(&self, now: Nanos) -> bool {
        self.warm_up_third > Nanos::ZERO && now >= self.cold_at
    }
}

impl BucketShared {
    /// Returns the spent subtokens, as the current schedule counts them.
    fn spent(&self) -> Subtokens {
        spent(self.word.0.load(Ordering::Acquire))
    }

    fn schedule_of(&self, word: u64) -> &SharedRefillSchedule {
        &self.schedules[(word >> GENERATION_SHIFT) as usize & 1]
    }

    /// Takes `tokens`, which must not be zero. This first try is inlined, and leaves the rare cases to
    /// [`try_take_again`](Self::try_take_again).
    #[inline]
    pub(super) fn try_take(&self, tokens: Tokens, now: Nanos) -> Result<TakePath, BucketRefusal> {
        let word = self.word.0.load(Ordering::Acquire);
        match self.assess(word, tokens, now) {
            Assessment::Enough { spent_after } => match self.replace_spent(word, spent_after) {
                Ok(_) => Ok(TakePath::LockFree),
                Err(newer) => self.try_take_again(newer, tokens, now),
            },
            Assessment::TooFew { needed, anchor, rate } if self.is_current(word) => Err(too_few(needed, anchor, &rate)),
            _ => self.try_take_again(word, tokens, now),
        }
    }

    /// Tries again, from `word` on, until it takes the tokens or the refusal is certain.
    #[cold]
    fn try_take_again(&self, mut word: u64, tokens: Tokens, now: Nanos) -> Result<TakePath, BucketRefusal> {
        loop {
            let refusal = match self.assess(word, tokens, now) {
                Assessment::NeedsLock => return self.try_take_with_lock(tokens, now).map(|()| TakePath::Locked),
                Assessment::Enough { spent_after } => match self.replace_spent(word, spent_after) {
                    Ok(_) => return Ok(TakePath::LockFree),
                    Err(newer) => {
                        word = newer;
                        continue;
                    }
                },
                Assessment::TooFew { needed, anchor, rate } => too_few(needed, anchor, &rate),
                Assessment::Never => BucketRefusal::ForEver,
            };
            if self.is_current(word) {
                return Err(refusal);
            }
            word = self.word.0.load(Ordering::Acquire);
        }
    }

    /// Assesses a call by the schedule that `word` names. The result is valid only if `word` is still current. If
    /// another thread is overwriting the schedule, the loaded numbers may be inconsistent, so all arithmetic wraps or
    /// saturates.
    #[inline]
    fn assess(&self, word: u64, tokens: Tokens, now: Nanos) -> Assessment {
        let (anchor, rate) = self.schedule_of(word).load_rate();
        let since = now.saturating_sub(anchor);
        if word & NEEDS_LOCK != 0 || since >= HORIZON {
            return Assessment::NeedsLock;
        }
        let minted_since = rate.minted(since);
        let minted = Subtokens(rate.burst_subtokens.0.wrapping_add(minted_since.0));
        // Saturates. A cost that overflows is above the burst in any case.
        let cost = rate.subtokens(tokens);
        // `minted` is a burst plus `minted_since`, and a bucket holds at most a burst. So at least `minted_since`
        // subtokens are spent, or are lost and count as spent.
        let after = Subtokens(spent(word).max(minted_since).0.wrapping_add(cost.0));
        if cost > rate.burst_subtokens {
            Assessment::Never
        } else if after > minted {
            Assessment::TooFew { needed: after, anchor, rate }
        } else {
            Assessment::Enough { spent_after: after }
        }
    }

    /// Returns whether `word` still names the current schedule, and has the current [`NEEDS_LOCK`]. The caller has
    /// loaded the schedule with acquire, so these loads came before the load of the word here.
    #[inline]
    fn is_current(&self, word: u64) -> bool {
        (self.word.0.load(Ordering::Acquire) ^ word) & (GENERATION | NEEDS_LOCK) == 0
    }

    /// Replaces the spent subtokens, if the bucket's word is still `word`. Otherwise the error is the newer word.
    #[inline]
    fn replace_spent(&self, word: u64, spent: Subtokens) -> Result<u64, u64> {
        let newer = (word & !SPENT) | spent.0;
        self.word.0.compare_exchange(word, newer, Ordering::AcqRel, Ordering::Acquire)
    }

    /// Takes tokens with the lock. A call needs the lock if a rebase is due, while another call waits, and always if
    /// the bucket has a warm-up or is closed.
    #[cold]
    fn try_take_with_lock(&self, tokens: Tokens, now: Nanos) -> Result<(), BucketRefusal> {
        let locked = lock(&self.locked);
        // Checks before it rebases the schedule or serves a waiter: a refused call changes nothing, even if the caller
        // passes a `now` in the future.
        self.check_behind_waiters(tokens, now, &locked)?;
        self.with_guard(locked, now, |locked| match locked.queue.is_empty() {
            true => self.take_locked(tokens, now, locked),
            false => self.refuse_behind(tokens, now, locked),
        })
    }

    /// Takes the lock, and rebases the schedule if that is due. Serves the waiters whose turn has come, runs `work`,
    /// and serves again. Then releases the lock and wakes the waiters that were answered or whose turn moved earlier.
    pub(super) fn with_lock<T>(&self, now: Nanos, work: impl FnOnce(&mut LockedBucket) -> T) -> T {
        self.with_guard(lock(&self.locked), now, work)
    }

    /// Like [`with_lock`](Self::with_lock), for a caller that already holds the lock. Releases the lock before it wakes
    /// a waiter.
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

    /// Like [`with_guard`](Self::with_guard), but keeps the lock and wakes no waiter. The wakers stay in the queue
    /// until the next call of `with_guard`, which the caller must make.
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

    /// Takes tokens if there are enough, regardless of waiters. Restarts the warm-up of a cold bucket first, even if it
    /// then has too few tokens.
    fn take_locked(&self, tokens: Tokens, now: Nanos, locked: &mut LockedBucket) -> Result<(), BucketRefusal> {
        if tokens.0 > locked.quota.burst() {
            return Err(BucketRefusal::ForEver);
        }
        self.warm_up(now, locked);
        let schedule = self.schedule(locked);
        let minted = schedule.minted(now);
        self.update(|spent| {
            let forfeited = minted.saturating_sub(schedule.rate.burst_subtokens);
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
    /// the tokens. That call sets [`NEEDS_LOCK`] in the bucket's word, and then looks for tokens once more. This
    /// function has changed the same word before, so that call finds the tokens.
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

    /// Charges a call although it was refused. The bucket may then owe tokens, at most one burst.
    pub(super) fn charge_with_debt(&self, tokens: Tokens, now: Nanos) {
        self.with_lock(now, |locked| {
            let schedule = self.schedule(locked);
            let (minted, burst) = (schedule.minted(now), schedule.rate.burst_subtokens);
            let owed = |spent: Subtokens| {
                let spent = spent.max(minted.saturating_sub(burst));
                let after = spent.saturating_add(schedule.rate.subtokens(tokens));
                Ok(after.min(minted.saturating_add(burst)).max(spent))
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

/// The refusal of a call for which `needed` subtokens must have been minted.
#[inline]
fn too_few(needed: Subtokens, anchor: Nanos, rate: &FixedPointRate<FRACTION>) -> BucketRefusal {
    BucketRefusal::Until(due_at(needed, anchor, rate))
}

/// When `subtokens` will have been minted by a schedule with this anchor and rate.
#[inline]
fn due_at(subtokens: Subtokens, anchor: Nanos, rate: &FixedPointRate<FRACTION>) -> Nanos {
    anchor.saturating_add(rate.time_to_mint(subtokens.saturating_sub(rate.burst_subtokens)))
}
