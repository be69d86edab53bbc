use super::{estimate::Estimate, strict::Strict};
use crate::{
    error::{ConfigError, RateLimited, check_duration},
    sync::{Mutex, lock},
};
use std::{fmt, sync::Arc, time::Duration};
use tokio::time::Instant;

/// A limit on what is admitted in any window of time: never more than `limit` tokens in `(t - window, t]`, for every
/// `t`.
///
/// It counts a call when it is admitted. A call may then wait until the service is ready, and travel. Where the
/// service counts what arrives, make the window longer than its own by the longest such delay, and bound that by a
/// timeout. What other processes send, or this one sent before it was restarted, is not counted.
///
/// That is what a partner means who counts a hundred calls a minute. A [`TokenBucket`](crate::rate_limit::TokenBucket)
/// of a hundred per minute lets nearly two hundred through in the minute after a quiet one: its burst, and what is
/// minted meanwhile.
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
/// Strictly, unless told otherwise. What was admitted is kept in up to 256 cells of about a 256th of the limit each,
/// and a cell counts in full until its last admission has left the window. So the error is on the safe side only: fewer
/// tokens than a 256th of the limit are held longer than an exact log would hold them. A limit up to 256 loses nothing,
/// whatever the arrivals and the costs; of a larger one, asked for as much or more at random instants, about 0.2% are
/// lost.
///
/// With [`estimate`](SlidingWindowBuilder::estimate) it keeps two counters and guesses. See there by how much it errs.
///
/// # The clock
///
/// The time of a window never goes back: an instant before the latest at which it was asked for tokens, or before it
/// was built, counts as that one. Threads that have read the clock in one order and ask in another are counted in the
/// order in which they ask. A clock that stands still frees nothing, and one that jumps ahead frees at most the limit.
///
/// # Cost
///
/// A lock, held for a few steps however large the limit: a refusal looks at the cells that have to expire for the call
/// to pass, which is one for one token. No allocation after the window was built. Memory: 24 bytes for each token of
/// the limit, and at most 6 KiB; an estimate has none of it. Clones share the window.
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
    /// The latest instant at which tokens were asked for. What it has forgotten would be missed at an earlier one.
    latest: Instant,
    counts: Counts,
}

/// What was admitted.
enum Counts {
    /// In cells, so that no window ever holds more than the limit.
    Strict(Strict),
    /// In two counters, so that it takes next to no memory.
    Estimate(Estimate),
}

impl SlidingWindow {
    /// The address of what all its handles share.
    pub(crate) fn address(&self) -> usize {
        crate::held::address(&self.shared)
    }

    /// Whether there is another handle of it.
    pub(crate) fn is_shared(&self) -> bool {
        crate::held::is_held(&self.shared)
    }

    /// At most `limit` tokens in every window of this length.
    pub fn builder(limit: u64, window: Duration) -> SlidingWindowBuilder {
        SlidingWindowBuilder { limit, window, estimate: false }
    }

    /// Takes `tokens` now, by tokio's clock. See [`try_acquire_at`](Self::try_acquire_at).
    ///
    /// # Errors
    ///
    /// As there.
    #[inline]
    pub fn try_acquire(&self, tokens: u64) -> Result<(), RateLimited> {
        self.try_acquire_at(tokens, Instant::now())
    }

    /// Takes `tokens` at `now`, all or none. Zero tokens are always there. A refusal changes nothing, whatever instant
    /// it is asked for.
    ///
    /// `now` is the present by the caller's clock. An instant ahead of the clock is no plan for that instant. If the
    /// call is admitted, the window's time is that instant: older admissions have left the window, and later calls
    /// count as of that instant until the clock reaches it. So calls may be refused until a window's length after it,
    /// and in real time more than the limit may pass. Giving the tokens back does not undo that. To plan, ask
    /// [`available_at`](Self::available_at), which changes nothing. A [`TokenBucket`](crate::rate_limit::TokenBucket)
    /// also lets calls wait, and [`Acquire::due_at`](crate::rate_limit::Acquire::due_at) says until when.
    ///
    /// # Errors
    ///
    /// [`RateLimited`] with the time from `now` on until they will be admitted, to the nanosecond, if no other caller
    /// takes or gives back any; or with none where the cost is above the limit: such a call is refused for as long as
    /// the limit stays.
    pub fn try_acquire_at(&self, tokens: u64, now: Instant) -> Result<(), RateLimited> {
        if tokens == 0 {
            return Ok(());
        }
        lock(&self.shared.state).take(tokens, now, self.shared.window).map_err(RateLimited::new)
    }

    /// Gives `tokens` back that were taken last, for a call which then was not made. Never more is given back than
    /// there is.
    ///
    /// What goes is the newest that the window holds. If others took some in between, theirs go instead, and what stays
    /// leaves the window too early. Then a window may admit more than the limit, by no more than the tokens that are
    /// on their way at once: taken, and given back later. Where calls are not refused at once but wait further in, use
    /// [`refund_taken_at`](Self::refund_taken_at), which keeps the promise.
    ///
    /// An estimate gives back from its present counter, and then from the last one.
    pub fn refund(&self, tokens: u64) {
        match &mut lock(&self.shared.state).counts {
            Counts::Strict(strict) => strict.refund(tokens),
            Counts::Estimate(estimate) => estimate.refund(tokens),
        }
    }

    /// Gives `tokens` back that were taken at `taken`, for a call which then was not made. What has left the window
    /// meanwhile is not given back.
    ///
    /// It breaks no promise, whatever others took in between: those very tokens go. Only where `taken` was earlier than
    /// the window's own time, and so they were counted at that, older ones may go in their place, which is on the safe
    /// side.
    ///
    /// An estimate gives back from the counter of that instant.
    pub fn refund_taken_at(&self, tokens: u64, taken: Instant) {
        let WindowState { latest, counts, .. } = &mut *lock(&self.shared.state);
        match counts {
            Counts::Strict(strict) => strict.refund_taken_at(tokens, taken, *latest, self.shared.window),
            Counts::Estimate(estimate) => estimate.refund_taken_at(tokens, taken, self.shared.window),
        }
    }

    /// The tokens that are there at `now`. Takes a look at every cell.
    pub fn available_at(&self, now: Instant) -> u64 {
        let WindowState { limit, latest, counts } = &*lock(&self.shared.state);
        let now = now.max(*latest);
        match counts {
            Counts::Strict(strict) => strict.available(*limit, now, self.shared.window),
            Counts::Estimate(estimate) => estimate.available(*limit, now, self.shared.window),
        }
    }

    /// The most tokens that are admitted in a window, and so the most that one call may cost.
    pub fn limit(&self) -> u64 {
        lock(&self.shared.state).limit
    }

    /// The length of the window. It stays: a longer one would have to know of what was forgotten.
    pub fn window(&self) -> Duration {
        self.shared.window
    }

    /// Changes the limit while calls pass.
    ///
    /// What was admitted stays counted. Below that, calls are refused until enough has left the window, which takes no
    /// longer than the window; above it, there is at once as much more as was added. For a window's length after a
    /// limit was raised, more than a 256th of it may be held too long.
    ///
    /// Raising a limit below 256 allocates.
    ///
    /// # Errors
    ///
    /// As for [`build`](SlidingWindowBuilder::build); otherwise the old one stays.
    pub fn set_limit(&self, limit: u64) -> Result<(), ConfigError> {
        check_limit(limit)?;
        let state = &mut *lock(&self.shared.state);
        state.limit = limit;
        if let Counts::Strict(strict) = &mut state.counts {
            strict.make_room_for(limit);
        }
        Ok(())
    }
}

impl WindowState {
    /// Takes all of the tokens, at least one, or none, and says after how long there will be enough.
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
    /// Counts in two counters, and estimates. Two numbers per window, for programs that have very many of them and can
    /// be a little generous.
    ///
    /// Time is cut into periods of a window's length from the instant at which it was built. The count of the present
    /// period is taken in full, and that of the one before by the share of it that the window still covers, as if it
    /// had been spread evenly. Where it was not, more than the limit passes. Of a limit of 100 per minute the most in
    /// any true minute of ten hours was 118 with arrivals at random, 186 with bursts of a hundred, and 199, which is as
    /// bad as it gets, with an adversary who fills a period at its end. It may also refuse what an exact log would
    /// admit.
    ///
    /// Default: strict.
    pub fn estimate(self) -> Self {
        Self { estimate: true, ..self }
    }

    /// The window, empty.
    ///
    /// # Errors
    ///
    /// The limit must be from 1 to a quintillion (10^18); the window longer than zero and at most 366 days.
    pub fn build(self) -> Result<SlidingWindow, ConfigError> {
        let Self { limit, window, estimate } = self;
        check_duration("rate_limit.window", window)?;
        check_limit(limit)?;
        let now = Instant::now();
        let counts =
            if estimate { Counts::Estimate(Estimate::new(now)) } else { Counts::Strict(Strict::with_room_for(limit)) };
        let state = Mutex::new(WindowState { limit, latest: now, counts });
        Ok(SlidingWindow { shared: Arc::new(WindowShared { state, window }) })
    }
}

/// The largest limit: the sum of two never overflows, nor the product of one and the longest window in nanoseconds.
const LARGEST_LIMIT: u64 = 1_000_000_000_000_000_000;

pub(in crate::rate_limit) fn check_limit(limit: u64) -> Result<(), ConfigError> {
    if limit == 0 || limit > LARGEST_LIMIT {
        return Err(ConfigError::new(
            "rate_limit.limit",
            limit,
            "must be at least 1, and at most a quintillion (10^18)",
        ));
    }
    Ok(())
}
