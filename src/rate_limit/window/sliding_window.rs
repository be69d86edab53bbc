use super::{estimate::Estimate, strict::Strict};
use crate::{
    error::{ConfigError, RateLimited, check_duration},
    sync::{Mutex, lock},
};
use std::{fmt, sync::Arc, time::Duration};
use tokio::time::Instant;

/// Limits the tokens admitted in any window of time: never more than `limit` tokens in `(t - window, t]`, for every
/// `t`. An [estimate](SlidingWindowBuilder::estimate) may admit more, and so may a window after a
/// [`refund`](Self::refund).
///
/// Use it for a partner that counts 100 calls per minute. A [`TokenBucket`](crate::rate_limit::TokenBucket) of 100 per
/// minute admits nearly 200 calls in the minute after a quiet one: its burst, and the tokens of that minute.
///
/// The window counts a call when it admits the call. The call may then wait until the service is ready, and takes time
/// to arrive. If the service counts arrivals, make this window longer than the service's by the longest such delay, and
/// bound the delay with a timeout. The window does not count calls of other processes, or of this one before a restart.
///
/// ```
/// use std::time::Duration;
/// use steadfast::rate_limit::SlidingWindow;
/// use tokio::time::Instant;
///
/// # fn main() -> Result<(), steadfast::ConfigError> {
/// let window = SlidingWindow::builder(2, Duration::from_secs(60)).build()?;
/// let now = Instant::now();
/// let ten_seconds_on = now + Duration::from_secs(10);
/// assert!(window.try_acquire_at(1, now).is_ok());
/// assert!(window.try_acquire_at(1, ten_seconds_on).is_ok());
/// let refused = window.try_acquire_at(1, ten_seconds_on).unwrap_err();
/// // The first call leaves the window a minute after it was admitted.
/// let wait = refused.retry_after().unwrap();
/// assert_eq!(wait, Duration::from_secs(50));
/// assert!(window.try_acquire_at(1, ten_seconds_on + wait).is_ok());
/// # Ok(())
/// # }
/// ```
///
/// # How it counts
///
/// Strictly, by default. The window keeps admitted tokens in up to 256 cells of about a 256th of the limit each. A cell
/// counts in full until its last admission has left the window, so the error is always on the safe side. At any time
/// the window may still count tokens that an exact log would have dropped. Unless tokens are refunded or the limit
/// changes, they are fewer than a 256th of the limit. Up to a limit of 256 it is exact, whenever calls come and
/// whatever they cost. A larger limit admits fewer tokens than an exact log. The difference is about 0.2% if calls come
/// at random instants and together ask for at least the limit per window.
///
/// With [`estimate`](SlidingWindowBuilder::estimate), the window keeps two counters and estimates. See there for the
/// error.
///
/// # The clock
///
/// The time of a window never goes back. A call for an instant before the latest admission, or before the window was
/// built, counts as made at that time. Calls are counted in the order in which they take the lock, even if their
/// threads read the clock in another order. A clock that stands still frees nothing, and a clock that jumps ahead frees
/// at most the limit.
///
/// # Cost
///
/// A call takes a lock for a short time, however large the limit: a window has at most 256 cells. A refusal visits the
/// cells that have to expire before the call could pass: a single cell for one token. The window allocates nothing
/// after it was built, except as [`set_limit`](Self::set_limit) says. Memory: 24 bytes for each token of the limit, at
/// most 6 KiB. An estimate needs no cells. Clones share the window.
#[doc(alias("sliding log", "SlidingLog"))]
#[derive(Clone)]
pub struct SlidingWindow {
    shared: Arc<WindowShared>,
}

struct WindowShared {
    state: Mutex<WindowState>,
    window: Duration,
}

struct WindowState {
    limit: u64,
    /// The latest instant at which tokens were taken, or at first the instant at which the window was built. A call for
    /// an earlier instant would need cells that were forgotten.
    latest: Instant,
    counts: Counts,
}

/// The admitted tokens.
enum Counts {
    /// In cells, so that no window ever admits more than the limit.
    Strict(Strict),
    /// In two counters, which take little memory.
    Estimate(Estimate),
}

impl SlidingWindow {
    /// Returns the address of the state that all handles share.
    pub(crate) fn address(&self) -> usize {
        crate::held::address(&self.shared)
    }

    /// Returns whether the window has another handle.
    pub(crate) fn is_shared(&self) -> bool {
        crate::held::is_held(&self.shared)
    }

    /// Configures a window that admits at most `limit` tokens in any time of this length.
    pub fn builder(limit: u64, window: Duration) -> SlidingWindowBuilder {
        SlidingWindowBuilder { limit, window, estimate: false }
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

    /// Takes `tokens` at `now`, all or none. A call for zero tokens always passes. A refusal changes nothing, even for
    /// an instant in the future.
    ///
    /// `now` is the present by the caller's clock. A `now` ahead of the clock does not plan a call. If the call is
    /// admitted, `now` becomes the window's time. Older admissions leave the window, and later calls count as made at
    /// that instant until the clock reaches it. Calls may then be refused until a window's length after `now`, and more
    /// than the limit may pass in real time. A refund does not undo that. To plan, read
    /// [`available_at`](Self::available_at), which changes nothing. A [`TokenBucket`](crate::rate_limit::TokenBucket)
    /// also lets calls wait, and [`Acquire::due_at`](crate::rate_limit::Acquire::due_at) returns when the wait ends.
    ///
    /// # Errors
    ///
    /// [`RateLimited`] with the time from `now` until the call would be admitted, exact to the nanosecond. It holds if
    /// no other caller takes or gives back any tokens. Without a time if the cost is above the limit: the call is
    /// refused until the limit is raised.
    pub fn try_acquire_at(&self, tokens: u64, now: Instant) -> Result<(), RateLimited> {
        if tokens == 0 {
            return Ok(());
        }
        lock(&self.shared.state).take(tokens, now, self.shared.window).map_err(RateLimited::new)
    }

    /// Gives back the `tokens` that were taken last, for a call that was not made. Gives back at most the tokens that
    /// the window holds.
    ///
    /// The refund removes the newest tokens. If another caller took tokens in between, the refund removes those, and
    /// the older tokens that stay leave the window too early. A window may then admit more than the limit, by at most
    /// the tokens of all such refunds. If calls wait in an inner layer before they are refunded, use
    /// [`refund_taken_at`](Self::refund_taken_at), which keeps the promise.
    ///
    /// An estimate removes tokens from the counter of the present period, and then from that of the period before.
    pub fn refund(&self, tokens: u64) {
        match &mut lock(&self.shared.state).counts {
            Counts::Strict(strict) => strict.refund(tokens),
            Counts::Estimate(estimate) => estimate.refund(tokens),
        }
    }

    /// Gives back `tokens` that were taken at `taken`, for a call that was not made. A strict window does not
    /// give back tokens that have left it since.
    ///
    /// The window keeps its promise even if other callers took tokens in between, because the refund removes the tokens
    /// of that instant. If `taken` was earlier than the window's own time, the tokens were counted at the window's
    /// time. The refund may then remove older tokens instead. The tokens of this call then stay counted, and leave the
    /// window later than the removed ones would have. This is on the safe side.
    ///
    /// An estimate removes tokens from the counter of the period that contains `taken`, if it still has that counter.
    pub fn refund_taken_at(&self, tokens: u64, taken: Instant) {
        let WindowState { latest, counts, .. } = &mut *lock(&self.shared.state);
        match counts {
            Counts::Strict(strict) => strict.refund_taken_at(tokens, taken, *latest, self.shared.window),
            Counts::Estimate(estimate) => estimate.refund_taken_at(tokens, taken, self.shared.window),
        }
    }

    /// Returns the tokens available at `now`. Changes nothing. Takes the lock and may visit every cell.
    pub fn available_at(&self, now: Instant) -> u64 {
        let WindowState { limit, latest, counts } = &*lock(&self.shared.state);
        let now = now.max(*latest);
        match counts {
            Counts::Strict(strict) => strict.available(*limit, now, self.shared.window),
            Counts::Estimate(estimate) => estimate.available(*limit, now, self.shared.window),
        }
    }

    /// Returns the most tokens that a window admits, and so the most that one call may cost.
    pub fn limit(&self) -> u64 {
        lock(&self.shared.state).limit
    }

    /// Returns the length of the window. It cannot change: a longer window would need admissions that were forgotten.
    pub fn window(&self) -> Duration {
        self.shared.window
    }

    /// Changes the limit while calls pass.
    ///
    /// Admitted tokens stay counted. If the new limit is below them, calls are refused until enough tokens have left
    /// the window, which takes at most a window's length. If the limit is raised, the added tokens are available at
    /// once. For a window's length after a change, more than a 256th of the new limit may stay too long.
    ///
    /// Raising a limit that is below 256 may allocate memory.
    ///
    /// # Errors
    ///
    /// Those of [`build`](SlidingWindowBuilder::build); then the old limit stays.
    pub fn set_limit(&self, limit: u64) -> Result<(), ConfigError> {
        check_limit("rate_limit.limit", limit)?;
        let state = &mut *lock(&self.shared.state);
        state.limit = limit;
        if let Counts::Strict(strict) = &mut state.counts {
            strict.make_room_for(limit);
        }
        Ok(())
    }
}

impl WindowState {
    /// Takes all of the tokens or none. `tokens` is at least one. A refusal returns the time until there will be
    /// enough.
    fn take(&mut self, tokens: u64, now: Instant, window: Duration) -> Result<(), Option<Duration>> {
        if tokens > self.limit {
            return Err(None);
        }
        let latest = self.latest.max(now);
        let taken = match &mut self.counts {
            Counts::Strict(strict) => strict.take(tokens, self.limit, latest, window),
            Counts::Estimate(estimate) => estimate.take(tokens, self.limit, latest, window),
        };
        taken.map_err(|wait| Some(wait.saturating_add(latest.saturating_duration_since(now))))?;
        self.latest = latest;
        Ok(())
    }
}

impl fmt::Debug for SlidingWindow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let estimate = matches!(lock(&self.shared.state).counts, Counts::Estimate(_));
        let mut debug = f.debug_struct("SlidingWindow");
        debug.field("limit", &self.limit()).field("window", &self.shared.window).field("estimate", &estimate).finish()
    }
}

/// Configures a [`SlidingWindow`].
#[derive(Clone, Debug)]
#[must_use]
pub struct SlidingWindowBuilder {
    limit: u64,
    window: Duration,
    estimate: bool,
}

impl SlidingWindowBuilder {
    /// Estimates with two counters. Use it for very many windows, if a window may sometimes admit more than its limit.
    ///
    /// Time is divided into periods of a window's length, from the instant at which the window was built. The present
    /// period counts in full. The period before counts by the part of it that the window still covers, as if its calls
    /// had been spread evenly. If they were not, more than the limit may pass. Take a limit of 100 per minute. In ten
    /// simulated hours, the most in any 60 s was 118 with random arrivals, and 186 with bursts of 100. The worst case
    /// is 199, with an adversary that fills a period at its end. The estimate may also refuse a call that an exact log
    /// would admit.
    ///
    /// Default: strict.
    #[doc(alias("sliding counter", "SlidingCounter"))]
    pub fn estimate(self) -> Self {
        Self { estimate: true, ..self }
    }

    /// Builds the window, empty.
    ///
    /// # Errors
    ///
    /// The limit must be at least 1 and at most 10^18. The window must be longer than zero, and at most 366 days.
    pub fn build(self) -> Result<SlidingWindow, ConfigError> {
        let Self { limit, window, estimate } = self;
        check_duration("rate_limit.window", window)?;
        check_limit("rate_limit.limit", limit)?;
        let now = Instant::now();
        let counts =
            if estimate { Counts::Estimate(Estimate::new(now)) } else { Counts::Strict(Strict::with_room_for(limit)) };
        let state = Mutex::new(WindowState { limit, latest: now, counts });
        Ok(SlidingWindow { shared: Arc::new(WindowShared { state, window }) })
    }
}

/// The largest limit. The sum of two limits does not overflow a `u64`. The product of a limit and the longest window in
/// nanoseconds does not overflow a `u128`.
const LARGEST_LIMIT: u64 = 1_000_000_000_000_000_000;

pub(in crate::rate_limit) fn check_limit(field: &'static str, limit: u64) -> Result<(), ConfigError> {
    if limit == 0 || limit > LARGEST_LIMIT {
        return Err(ConfigError::new(field, limit, "must be at least 1, and at most 10^18"));
    }
    Ok(())
}
