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

/// A token bucket: a rate with a burst.
///
/// The bucket mints tokens at a steady rate and keeps at most a burst of them. Each call costs some tokens. In every
/// interval of length t the bucket admits at most `burst + rate * t` tokens. It never refuses a token that it has,
/// unless a call waits or the bucket is closed. Both statements are exact for most rates in use. For the other rates,
/// the rate is rounded up by less than one part in 6 * 10^9 (see below). A clock that stands still mints nothing, a
/// clock that jumps ahead mints at most a burst, and frequent calls lose nothing to rounding.
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
/// # Three ways to take tokens
///
/// [`try_acquire`](Self::try_acquire) admits or refuses at once. [`acquire`](Self::acquire) waits for its turn behind
/// all earlier waiters, up to a bound. [`reserve`](Self::reserve) takes tokens for work that may not happen, and can
/// give them back. While a call waits, `try_acquire` is refused, because the next tokens belong to the waiters.
///
/// # How it counts
///
/// The bucket is the generic cell rate algorithm (GCRA, ITU-T I.371), counted in tokens instead of time. GCRA keeps the
/// theoretical arrival time of the next call. This bucket keeps the number of tokens spent, and compares it with the
/// number minted by now. No interval is rounded to whole nanoseconds. If the rate is exact, no error adds up. A change
/// of the rate leaves the number of spent tokens as it is.
///
/// A token consists of subtokens. Write the rate as a fraction in lowest terms, in tokens per nanosecond. For example,
/// 100 per second is 1 / 10,000,000, and 1,500,000 per second is 3 / 2,000. The denominator is the number of subtokens
/// in a token. The numerator, 1 or 3 in these examples, is the number of subtokens minted per nanosecond. Everything is
/// then exact. This requires a numerator of at most 2^14, and at most 2^55 subtokens in a burst.
///
/// All other rates are exact to at least one part in 6 * 10^9, or in 10^15 if a burst is minted within an hour. Apart
/// from that error, their tokens may come one subtoken too early or too late. One subtoken is minted in at most the
/// longer of one nanosecond and 2^-54 of the time in which a burst is minted.
///
/// # Cost
///
/// An admitted call loads the bucket's word, and changes it by one compare-and-swap. A refused call loads the word
/// twice. Neither call allocates. About once every 18 minutes, a call takes a lock to keep the numbers small. All calls
/// take the lock while a call waits, and always if the bucket has a [warm-up](TokenBucketBuilder::warm_up) or is
/// closed. Clones share the bucket.
#[doc(alias("GCRA", "leaky bucket", "throttle", "RateLimiter"))]
#[derive(Clone)]
pub struct TokenBucket {
    pub(super) shared: Arc<BucketShared>,
}

impl TokenBucket {
    /// Configures a bucket with `count` new tokens every `period`, minted evenly over the period.
    pub fn builder(count: u64, period: Duration) -> TokenBucketBuilder {
        Self::with_quota(Quota::new(count, period))
    }

    /// Configures a bucket with this quota.
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

    /// Takes `tokens` at `now`, all or none. A call for zero tokens always passes.
    ///
    /// `now` is the present by the caller's clock. If `now` is before the bucket was built, or before the last change
    /// of its quota, the call counts as made at that time. During a warm-up, a change of the quota does not have this
    /// effect.
    ///
    /// A `now` ahead of the clock does not plan a call. The call takes its tokens as of that instant, and returns at
    /// once. Until the clock reaches that instant, the bucket may also lack all tokens that are minted until then, and
    /// refuse all calls. A refund does not always give those tokens back. To plan, read
    /// [`available_at`](Self::available_at), which changes nothing, or wait in the queue and read [`Acquire::due_at`].
    ///
    /// # Errors
    ///
    /// [`RateLimited`] with the time until there are enough tokens. It has no time if the cost is above the burst: the
    /// call is refused until the burst is raised. It also has none if the bucket is [closed](Self::close), which is
    /// permanent.
    #[inline]
    pub fn try_acquire_at(&self, tokens: u64, now: Instant) -> Result<(), RateLimited> {
        self.take_at(tokens, now).map(|_| ())
    }

    /// Takes the tokens, and returns whether it took the lock.
    #[inline]
    pub(super) fn take_at(&self, tokens: u64, now: Instant) -> Result<TakePath, RateLimited> {
        if tokens == 0 {
            return Ok(TakePath::LockFree);
        }
        let nanos = self.shared.origin.to(now);
        self.shared.try_take(Tokens(tokens), nanos).map_err(|refusal| refusal.to_error(nanos))
    }

    /// Takes `tokens` at `now` as [`try_acquire_at`](Self::try_acquire_at) does, but also counts a refused call.
    ///
    /// A refused call adds its cost to a debt of at most a burst. A caller that keeps calling above the rate is not
    /// admitted until it slows down. A [closed](Self::close) bucket charges nothing.
    ///
    /// # Errors
    ///
    /// Those of [`try_acquire_at`](Self::try_acquire_at). The time until there are enough tokens includes earlier
    /// debts, but not the debt of this call.
    pub fn try_acquire_or_owe_at(&self, tokens: u64, now: Instant) -> Result<(), RateLimited> {
        let refused = self.try_acquire_at(tokens, now);
        if refused.as_ref().is_err_and(|refused| !refused.is_closed()) {
            self.shared.charge_with_debt(Tokens(tokens), self.shared.origin.to(now));
        }
        refused
    }

    /// Waits for `tokens` in order of arrival, and takes all of them at once.
    ///
    /// The first poll takes the tokens, or a place in the wait queue. A call gets a place only if its turn is expected
    /// within the bucket's [`max_wait`](TokenBucketBuilder::max_wait), and before the deadline of the
    /// [current context](crate::CallContext::current). Later events can lengthen the wait: see [`Acquire::due_at`].
    ///
    /// Timers fire at whole milliseconds. If a burst is minted in less than a millisecond, the bucket is full when a
    /// timer fires. The waiters then get one burst per millisecond, because a full bucket mints nothing.
    ///
    /// # Cancellation
    ///
    /// Dropping the future gives up its place, and the waiters behind it move up. If the tokens were granted but the
    /// task has not run since, dropping the future gives them back.
    ///
    /// A future that has a place, but is not polled at its turn, still takes its tokens out of the bucket. From its
    /// turn on, the next operation that takes the bucket's lock sets them aside for it. At the latest, this is the poll
    /// of the next waiter at that waiter's turn. If the bucket fills before that, the waiters behind the future are
    /// delayed, because a full bucket mints nothing.
    ///
    /// If the rate rises or a waiter leaves, the waiters behind such a future are not woken early. They poll at the
    /// latest when they expected their turn before the change.
    ///
    /// # Errors
    ///
    /// - [`RateLimited`] at once, with the length of the wait, if the wait would be too long.
    /// - At once, without a time, if the cost is above the burst; later, if the burst is lowered below the cost.
    /// - At once or later, if the bucket is [closed](Self::close).
    ///
    /// # Cost
    ///
    /// If there are enough tokens, that of [`try_acquire`](Self::try_acquire). Otherwise the first poll takes the lock
    /// two or three times, and each later poll mostly once. The call needs one timer, one place in the wait queue, and
    /// one wake-up on admission, however many calls wait. Events that move its turn may wake it before that: waiters
    /// ahead give up, for example, or the rate changes.
    #[doc(alias = "until_ready")]
    pub fn acquire(&self, tokens: u64) -> Acquire {
        Acquire::new(self.clone(), tokens, None)
    }

    /// Waits as [`acquire`](Self::acquire) does, for a caller that came at `now`.
    ///
    /// The first poll takes the tokens, or the place in the wait queue, as of that instant. This suits a caller that
    /// has read the clock already, or whose request came before its task ran.
    ///
    /// The longest wait, and the time in a refusal, count from `now`. Earlier waiters stay ahead. The wait itself
    /// follows tokio's clock. Dropping the future has the effect that `acquire` describes.
    ///
    /// `now` is the present by the caller's clock, not a plan. An instant ahead of the clock has the effect that
    /// [`try_acquire_at`](Self::try_acquire_at) describes. The call takes the tokens available at that instant at once,
    /// without a wait. Dropping the future does not undo that. An instant before the last change of the quota has the
    /// effect that `try_acquire_at` describes, too. To learn when a wait ends, read [`Acquire::due_at`].
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

    /// Takes `tokens` now, by tokio's clock. The reservation gives them back unless it is
    /// [committed](Reservation::commit).
    ///
    /// # Errors
    ///
    /// Those of [`try_acquire_at`](Self::try_acquire_at).
    pub fn reserve(&self, tokens: u64) -> Result<Reservation, RateLimited> {
        self.reserve_at(tokens, Instant::now())
    }

    /// Takes `tokens` as [`reserve`](Self::reserve) does, at `now`, the present by the caller's clock.
    ///
    /// # Errors
    ///
    /// Those of [`try_acquire_at`](Self::try_acquire_at).
    pub fn reserve_at(&self, tokens: u64, now: Instant) -> Result<Reservation, RateLimited> {
        self.try_acquire_at(tokens, now)?;
        Ok(Reservation::new(self.clone(), tokens))
    }

    /// Gives back `tokens` that were taken for a call that was not made, or need not count.
    ///
    /// The bucket never holds more than a burst. Waiters get the tokens at once.
    #[inline]
    pub fn refund(&self, tokens: u64) {
        if self.shared.give_back(Tokens(tokens)) {
            self.shared.with_lock(self.shared.origin.to(Instant::now()), |_| ());
        }
    }

    /// Changes the quota while the bucket is in use.
    ///
    /// The bucket keeps its tokens, up to the new burst. Waiters keep their places and wait at the new rate, even if
    /// that takes longer than [`max_wait`](Self::max_wait). A waiter that costs more than the new burst is refused at
    /// once.
    ///
    /// # Errors
    ///
    /// Those of [`build`](TokenBucketBuilder::build); then the old quota stays.
    pub fn set_quota(&self, quota: Quota) -> Result<(), ConfigError> {
        self.set_quota_at(quota, Instant::now())
    }

    /// Changes the quota as [`set_quota`](Self::set_quota) does, at `now`. Later calls for an instant before `now`
    /// count as made at `now`, except during a warm-up.
    ///
    /// # Errors
    ///
    /// Those of [`set_quota`](Self::set_quota).
    pub fn set_quota_at(&self, quota: Quota, now: Instant) -> Result<(), ConfigError> {
        quota.check()?;
        self.shared.change_quota(quota, self.shared.origin.to(now));
        Ok(())
    }

    /// Changes to a checked quota, and wakes no waiter. The caller calls [`wake_pending`](Self::wake_pending) once it
    /// holds no lock.
    pub(in crate::rate_limit) fn set_quota_quietly(&self, quota: Quota) {
        self.shared.change_quota_quietly(quota, self.shared.origin.to(Instant::now()));
    }

    /// Wakes the waiters that [`set_quota_quietly`](Self::set_quota_quietly) served or refused, or whose turn it moved
    /// earlier.
    pub(in crate::rate_limit) fn wake_pending(&self) {
        self.shared.wake_pending(self.shared.origin.to(Instant::now()));
    }

    /// Spends a random part of a token of a new bucket. The bucket is then full again after a random part of the time
    /// that a token takes. Buckets that were built at one instant therefore do not all mint their tokens at one
    /// instant.
    pub(crate) fn spend_a_fraction(&self, random: &Random) {
        let schedule = self.shared.schedules[0].load();
        let subtokens = random.with(|random| random.random_range(1..=schedule.rate.subtokens_per_token.max(1)));
        self.shared.word.0.fetch_add(subtokens, Ordering::Relaxed);
    }

    /// Returns the whole tokens in the bucket at `now`, including those that waiters will get. Reading changes nothing,
    /// even for an instant in the future.
    pub fn available_at(&self, now: Instant) -> u64 {
        self.shared.available(self.shared.origin.to(now)).0
    }

    /// Returns the quota in force.
    pub fn quota(&self) -> Quota {
        lock(&self.shared.locked).quota
    }

    /// Returns the number of calls in the wait queue.
    pub fn waiting(&self) -> usize {
        lock(&self.shared.locked).queue.len()
    }

    /// Returns the longest wait of [`acquire`](Self::acquire).
    pub fn max_wait(&self) -> Duration {
        self.shared.max_wait
    }

    /// Returns the address of the state that all handles share.
    pub(crate) fn address(&self) -> usize {
        crate::held::address(&self.shared)
    }

    /// Returns whether the bucket has another handle.
    pub(crate) fn is_shared(&self) -> bool {
        is_held(&self.shared)
    }

    /// Returns whether `tokens` would be refused at `due`, if no other caller takes or gives back any before. Changes
    /// nothing.
    pub(in crate::rate_limit) fn would_refuse_at(&self, tokens: u64, due: Instant) -> bool {
        tokens > 0 && self.shared.would_refuse(Tokens(tokens), self.shared.origin.to(due), Nanos::ZERO)
    }
}

impl fmt::Debug for TokenBucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenBucket").field("quota", &self.quota()).finish_non_exhaustive()
    }
}
