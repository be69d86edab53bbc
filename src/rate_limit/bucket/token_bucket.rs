use super::{
    builder::TokenBucketBuilder,
    reservation::{Acquire, Reservation},
    state::{BucketShared, TakePath},
};
use crate::{
    clock::Nanos,
    error::{ConfigError, RateLimited},
    held::is_held,
    random::Random,
    rate_limit::{quota::Quota, tokens::Tokens},
    sync::{Ordering, lock},
};
use rand::RngExt;
use std::{fmt, sync::Arc, time::Duration};
use tokio::time::Instant;

/// A rate with a burst: tokens are minted at a steady rate, at most a burst of them is saved up, each call costs some.
///
/// In every interval of length t at most `burst + rate * t` tokens are admitted, and a token that is there is not
/// refused: exactly for most rates in use, to within a nanosecond for the others (see below). A clock that stands still
/// mints nothing, one that jumps ahead mints at most a burst, and asking often loses nothing.
///
/// ```
/// use std::time::Duration;
/// use steadfast::rate_limit::TokenBucket;
/// use tokio::time::Instant;
///
/// # fn main() -> Result<(), steadfast::ConfigError> {
/// let bucket = TokenBucket::builder(100, Duration::from_secs(1)).burst(2).build()?;
/// let now = Instant::now();
/// assert!(bucket.try_acquire_at(2, now).is_ok());
/// let refused = bucket.try_acquire_at(1, now).unwrap_err();
/// let wait = refused.retry_after().unwrap();
/// assert_eq!(wait, Duration::from_millis(10));
/// assert!(bucket.try_acquire_at(1, now + wait).is_ok());
/// # Ok(())
/// # }
/// ```
///
/// # Three ways to ask
///
/// [`try_acquire`](Self::try_acquire) admits or refuses at once. [`acquire`](Self::acquire) waits for its turn, behind
/// all who wait already and for no longer than it may. [`reserve`](Self::reserve) takes tokens for something that may
/// yet not happen. While a call waits `try_acquire` is refused: the next tokens are spoken for.
///
/// # How it counts
///
/// The bucket is the generic cell rate algorithm (ITU-T I.371), turned from time into tokens: instead of the
/// theoretical arrival time of the next call it keeps the number of tokens spent, and compares it with the number
/// minted by now. So there is no interval to be cut to whole nanoseconds, no error adds up, and a change of the rate
/// does not price again what was spent before.
///
/// A token is divided into parts. Where the rate in lowest terms is up to 2^14 tokens in some nanoseconds (100 per
/// second is 1 in 10,000,000; 1,500,000 per second 3 in 2,000), a whole number of parts is minted per nanosecond, and
/// everything is exact. So it is unless the parts of a burst were more than 2^55. All other rates are exact to one in
/// 10^10 at the least (in 10^15 if a burst is minted within an hour), and a token may come by a part too early or too
/// late: by less than a nanosecond, or 2^-54 of the time in which a burst is minted.
///
/// # Cost
///
/// One load and one compare-and-swap to admit, two loads to refuse; no allocation, no lock. Every 18 minutes, while
/// a call waits, and while it warms up, a lock is taken. Clones share the bucket.
#[derive(Clone)]
pub struct TokenBucket {
    pub(super) shared: Arc<BucketShared>,
}

impl TokenBucket {
    /// A bucket with `count` new tokens every `period`, minted evenly over it.
    pub fn builder(count: u64, period: Duration) -> TokenBucketBuilder {
        Self::with_quota(Quota::new(count, period))
    }

    /// A bucket by this quota.
    pub fn with_quota(quota: Quota) -> TokenBucketBuilder {
        TokenBucketBuilder::new(quota)
    }

    /// Takes `tokens` now, by tokio's clock. See [`try_acquire_at`](Self::try_acquire_at).
    ///
    /// # Errors
    ///
    /// Those of [`try_acquire_at`](Self::try_acquire_at).
    #[inline]
    pub fn try_acquire(&self, tokens: u64) -> Result<(), RateLimited> {
        self.try_acquire_at(tokens, Instant::now())
    }

    /// Takes `tokens` at `now`, all or none. Zero tokens are always there.
    ///
    /// `now` is the present by the caller's clock. An instant before the bucket was built, or its quota was last
    /// changed, counts as that one.
    ///
    /// An instant ahead of the clock is no plan for that instant. The call takes its tokens as of then, and returns at
    /// once. At every earlier instant the bucket then lacks the tokens that are minted from that instant until then,
    /// and may refuse all calls until then. Giving the tokens back does not undo that. To plan, ask
    /// [`available_at`](Self::available_at), which changes nothing, or wait in line and read [`Acquire::due_at`].
    ///
    /// # Errors
    ///
    /// [`RateLimited`] with the time until there are enough, or with none where the cost is above the burst: such a
    /// call is refused for ever. So is every call that costs anything to a bucket that is [closed](Self::close).
    #[inline]
    pub fn try_acquire_at(&self, tokens: u64, now: Instant) -> Result<(), RateLimited> {
        self.take_at(tokens, now).map(|_| ())
    }

    /// Takes the tokens, and says how.
    #[inline]
    pub(super) fn take_at(&self, tokens: u64, now: Instant) -> Result<TakePath, RateLimited> {
        if tokens == 0 {
            return Ok(TakePath::LockFree);
        }
        let nanos = self.shared.origin.to(now);
        self.shared.try_take(Tokens(tokens), nanos).map_err(|refusal| refusal.seen_at(nanos))
    }

    /// Takes `tokens` at `now` as [`try_acquire_at`](Self::try_acquire_at) does, but a refused call counts as well: it
    /// owes what it costs, up to a burst in all. A caller that asks too often and does not stop is not admitted again.
    /// A [closed](Self::close) bucket charges nothing.
    ///
    /// # Errors
    ///
    /// Those of [`try_acquire_at`](Self::try_acquire_at). The time until there are enough includes earlier debts.
    pub fn try_acquire_or_owe_at(&self, tokens: u64, now: Instant) -> Result<(), RateLimited> {
        let refused = self.try_acquire_at(tokens, now);
        if refused.as_ref().is_err_and(|refused| !refused.is_closed()) {
            self.shared.owe(Tokens(tokens), self.shared.origin.to(now));
        }
        refused
    }

    /// Waits for `tokens` in order of arrival: all of them are taken at once, when it is their turn and they are there.
    ///
    /// The wait is at most the bucket's [`max_wait`](TokenBucketBuilder::max_wait), and ends before the deadline of the
    /// [current context](crate::CallContext::current). The place in line is taken in the first poll. Dropping the
    /// future gives up the place, and those behind move up; or gives the tokens back, if they were granted but not
    /// seen. A future that is neither polled nor dropped costs its tokens and holds up no waiter: the tokens are set
    /// aside for it, at the latest when the turn of the waiter behind it has come. If the rate rises or a waiter
    /// leaves, the waiters behind such a future are not woken early. They are served at the time at which they expected
    /// their turn before.
    ///
    /// Timers fire at whole milliseconds: where a burst is minted in less, those who wait get a burst per millisecond.
    ///
    /// # Errors
    ///
    /// [`RateLimited`] at once where it would take longer, with the time that it would take, or where the cost is above
    /// the burst; later only where a change of the burst makes the cost more than is ever there. At once or later where
    /// the bucket is [closed](Self::close).
    ///
    /// # Cost
    ///
    /// Where the tokens are there, as [`try_acquire`](Self::try_acquire). Otherwise one lock and one timer, an entry in
    /// a map, and one wake-up when it is admitted, however many wait; a second one where others before it gave up, or
    /// the rate was changed.
    pub fn acquire(&self, tokens: u64) -> Acquire {
        Acquire::new(self.clone(), tokens, None)
    }

    /// Waits as [`acquire`](Self::acquire) does, for a caller that came at `now`. The first poll takes the tokens or
    /// the place in line as of that instant. A caller uses it that has read the clock already, or whose request came
    /// before its task ran.
    ///
    /// The longest wait, and the time that a refusal names, count from `now`. Earlier waiters stay ahead. The wait
    /// itself follows tokio's clock. Dropping the future has the effect that `acquire` describes.
    ///
    /// `now` is the present by the caller's clock, not a plan. An instant ahead of the clock has the effect that
    /// [`try_acquire_at`](Self::try_acquire_at) describes: tokens that are there then are taken at once, without a
    /// wait, and dropping the future does not undo that. An instant before the bucket was built, or its quota was last
    /// changed, counts as that one. To learn when a wait ends, read [`Acquire::due_at`].
    ///
    /// # Errors
    ///
    /// Those of [`acquire`](Self::acquire).
    ///
    /// # Cost
    ///
    /// That of [`acquire`](Self::acquire), with one clock reading fewer.
    pub fn acquire_at(&self, tokens: u64, now: Instant) -> Acquire {
        Acquire::new(self.clone(), tokens, Some(now))
    }

    /// Takes `tokens` now, if they are there, and gives them back unless they are [committed](Reservation::commit).
    ///
    /// # Errors
    ///
    /// As [`try_acquire`](Self::try_acquire).
    pub fn reserve(&self, tokens: u64) -> Result<Reservation, RateLimited> {
        self.reserve_at(tokens, Instant::now())
    }

    /// The same at `now`, the present by the caller's clock; see [`try_acquire_at`](Self::try_acquire_at).
    ///
    /// # Errors
    ///
    /// As there.
    pub fn reserve_at(&self, tokens: u64, now: Instant) -> Result<Reservation, RateLimited> {
        self.try_acquire_at(tokens, now)?;
        Ok(Reservation::new(self.clone(), tokens))
    }

    /// Gives `tokens` back that were taken for a call which then was not made, or need not count. Never more than a
    /// burst is kept. Those who wait have them at once.
    #[inline]
    pub fn refund(&self, tokens: u64) {
        if self.shared.give_back(Tokens(tokens)) {
            self.shared.with_lock(self.shared.origin.to(Instant::now()), |_| ());
        }
    }

    /// Follows another quota from now on. What the bucket holds stays, in tokens, up to the new burst. Those who wait
    /// go on waiting, at the new rate, for longer than [`max_wait`](Self::max_wait) if need be; a call that costs more
    /// than the new burst is refused at once.
    ///
    /// # Errors
    ///
    /// As [`build`](TokenBucketBuilder::build); the old quota stays.
    pub fn set_quota(&self, quota: Quota) -> Result<(), ConfigError> {
        self.set_quota_at(quota, Instant::now())
    }

    /// The same at `now`. From then on an earlier instant counts as this one, as it does for all that is taken.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn set_quota_at(&self, quota: Quota, now: Instant) -> Result<(), ConfigError> {
        quota.check()?;
        self.shared.change_quota(quota, self.shared.origin.to(now));
        Ok(())
    }

    /// Changes a quota that was checked, and leaves it to [`wake_pending`](Self::wake_pending) to wake the waiters
    /// whose turn has come, when the caller holds no lock.
    pub(in crate::rate_limit) fn set_quota_quietly(&self, quota: Quota) {
        self.shared.change_quota_quietly(quota, self.shared.origin.to(Instant::now()));
    }

    /// Wakes the waiters whose turn a quiet change has brought.
    pub(in crate::rate_limit) fn wake_pending(&self) {
        self.shared.wake_pending(self.shared.origin.to(Instant::now()));
    }

    /// Spends a random part of a token of a new bucket.
    pub(crate) fn spend_a_fraction(&self, random: &Random) {
        let schedule = self.shared.schedules[0].load();
        let subtokens = random.with(|random| random.random_range(1..=schedule.rate.subtokens_per_token.max(1)));
        self.shared.word.0.fetch_add(subtokens, Ordering::Relaxed);
    }

    /// The whole tokens that are there at `now`, for waiters and newcomers. Nothing changes by looking, not even
    /// into the future.
    pub fn available_at(&self, now: Instant) -> u64 {
        self.shared.available(self.shared.origin.to(now)).0
    }

    /// The quota in force.
    pub fn quota(&self) -> Quota {
        lock(&self.shared.locked).quota
    }

    /// How many wait for their turn.
    pub fn waiting(&self) -> usize {
        lock(&self.shared.locked).queue.len()
    }

    /// The longest that [`acquire`](Self::acquire) waits.
    pub fn max_wait(&self) -> Duration {
        self.shared.max_wait
    }

    /// The address of what all its handles share.
    pub(crate) fn address(&self) -> usize {
        crate::held::address(&self.shared)
    }

    /// Whether there is another handle of it.
    pub(crate) fn is_shared(&self) -> bool {
        is_held(&self.shared)
    }

    /// Whether `tokens` would be refused at `due`, if no other caller takes or gives back any before. Changes nothing.
    pub(in crate::rate_limit) fn would_refuse_at(&self, tokens: u64, due: Instant) -> bool {
        tokens > 0 && self.shared.would_refuse(Tokens(tokens), self.shared.origin.to(due), Nanos::ZERO)
    }
}

impl fmt::Debug for TokenBucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenBucket").field("quota", &self.quota()).finish_non_exhaustive()
    }
}
