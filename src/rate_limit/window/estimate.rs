use std::time::Duration;
use tokio::time::Instant;

/// Two counters: one for the present period, which is as long as the window, and one for the period before. The count
/// of the period before is weighted by the part of it that the window still covers.
///
/// The arithmetic is in integers, scaled by the window in nanoseconds: fewer than 2^60 tokens times fewer than 2^55 ns
/// fit in a `u128`.
#[derive(Clone, Copy)]
pub(super) struct Estimate {
    /// When the present period began.
    began: Instant,
    /// The tokens taken in the present period.
    present: u64,
    /// The tokens taken in the period before.
    last: u64,
}

impl Estimate {
    /// Starts the first period at this instant.
    pub(super) fn new(began: Instant) -> Self {
        Self { began, present: 0, last: 0 }
    }

    /// Takes the tokens, or changes nothing and returns the time until there are enough. `now` never goes back, and
    /// `tokens` is at most the limit.
    pub(super) fn take(&mut self, tokens: u64, limit: u64, now: Instant, window: Duration) -> Result<(), Duration> {
        let seen = self.at(now, window);
        if tokens > seen.available(limit, now, window) {
            return Err(seen.time_until_free(tokens, limit, now, window));
        }
        *self = Self { present: seen.present + tokens, ..seen };
        Ok(())
    }

    /// Gives back the newest tokens.
    pub(super) fn refund(&mut self, tokens: u64) {
        let from_present = tokens.min(self.present);
        self.present -= from_present;
        self.last = self.last.saturating_sub(tokens - from_present);
    }

    /// Gives back tokens that were taken at `taken`, to the counter of the period that contains `taken`. Does nothing
    /// if `taken` is earlier than both periods.
    pub(super) fn refund_taken_at(&mut self, tokens: u64, taken: Instant, window: Duration) {
        if taken >= self.began {
            self.present = self.present.saturating_sub(tokens);
        } else if self.began.saturating_duration_since(taken) <= window {
            self.last = self.last.saturating_sub(tokens);
        }
    }

    /// Returns the tokens available at `now`, which never goes back: the most for which
    /// `last * covered / window + present + tokens <= limit`. `covered` is the time at the end of the period before
    /// that the window still covers.
    pub(super) fn available(self, limit: u64, now: Instant, window: Duration) -> u64 {
        let Self { began, present, last } = self.at(now, window);
        let covered = window.saturating_sub(now.saturating_duration_since(began));
        let counted = (u128::from(last) * covered.as_nanos()).div_ceil(window.as_nanos());
        // The cast is exact: `counted` is at most `last`, because at most a whole window is covered.
        limit.saturating_sub(present).saturating_sub(counted as u64)
    }

    /// Returns the time until there are `tokens`, if no call takes any. The counters are as of `now`: see
    /// [`at`](Self::at).
    ///
    /// Without further calls the estimate never rises, so it is low enough from one instant on. The estimate does not
    /// jump when a period ends: at that instant the window still covers all of the ended period.
    fn time_until_free(self, tokens: u64, limit: u64, now: Instant, window: Duration) -> Duration {
        let Self { began, present, last } = self;
        // Tokens become free in the present period, while the window leaves the period before. If that is not enough,
        // they become free in the next period, while the window leaves the present one.
        let (sliding, room, after) = match (limit - tokens).checked_sub(present) {
            Some(room) => (last, room, Duration::ZERO),
            None => (present, limit - tokens, window),
        };
        // `sliding` is the number of tokens taken in the period that the window leaves. There is room once the window
        // covers at most `covered` of that period. If `sliding` is zero, there is room at once.
        let covered = (u128::from(room) * window.as_nanos()).checked_div(sliding.into()).unwrap_or(u128::MAX);
        let covered = Duration::from_nanos(u64::try_from(covered).unwrap_or(u64::MAX));
        (after + window.saturating_sub(covered)).saturating_sub(now.saturating_duration_since(began))
    }

    /// Returns the counters as of `now`, in the period that contains it.
    fn at(self, now: Instant, window: Duration) -> Self {
        let passed = now.saturating_duration_since(self.began);
        if passed < window {
            return self;
        }
        let last = if passed < window * 2 { self.present } else { 0 };
        let since = Duration::from_nanos((passed.as_nanos() % window.as_nanos()) as u64);
        Self { began: now.checked_sub(since).unwrap_or(now), present: 0, last }
    }
}
