use std::time::Duration;
use tokio::time::Instant;

/// Two counters: of the present period, which is as long as the window, and of the one before. Of that one the share
/// counts that the window still covers.
///
/// All of it is in integers, multiplied by the nanoseconds of the window: fewer than 2^60 tokens by fewer than 2^55 ns.
#[derive(Clone, Copy)]
pub(super) struct Estimate {
    /// When the present period began.
    began: Instant,
    present: u64,
    last: u64,
}

impl Estimate {
    /// Periods are counted from this instant on.
    pub(super) fn new(began: Instant) -> Self {
        Self { began, present: 0, last: 0 }
    }

    /// Takes the tokens, or changes nothing and returns the time until there are enough. `now` is no earlier than ever
    /// before, and the tokens are no more than the limit.
    pub(super) fn take(&mut self, tokens: u64, limit: u64, now: Instant, window: Duration) -> Result<(), Duration> {
        let seen = self.at(now, window);
        if tokens > seen.available(limit, now, window) {
            return Err(seen.time_until_free(tokens, limit, now, window));
        }
        *self = Self { present: seen.present + tokens, ..seen };
        Ok(())
    }

    /// Gives the newest tokens back.
    pub(super) fn refund(&mut self, tokens: u64) {
        let from_present = tokens.min(self.present);
        self.present -= from_present;
        self.last = self.last.saturating_sub(tokens - from_present);
    }

    /// Gives tokens back that were taken at an instant.
    pub(super) fn refund_taken_at(&mut self, tokens: u64, taken: Instant, window: Duration) {
        if taken >= self.began {
            self.present = self.present.saturating_sub(tokens);
        } else if self.began.saturating_duration_since(taken) <= window {
            self.last = self.last.saturating_sub(tokens);
        }
    }

    /// The tokens that are there at an instant no earlier than ever before: the most for which
    /// `last * covered + present + tokens <= limit`.
    pub(super) fn available(self, limit: u64, now: Instant, window: Duration) -> u64 {
        let Self { began, present, last } = self.at(now, window);
        let covered = window.saturating_sub(now.saturating_duration_since(began));
        let counted = (u128::from(last) * covered.as_nanos()).div_ceil(window.as_nanos());
        // No more than `last`, since no more than a window is covered.
        limit.saturating_sub(present).saturating_sub(counted as u64)
    }

    /// The time until there are `tokens`, if no call takes any.
    ///
    /// The estimate never rises meanwhile, and at the end of a period it does not jump: what then is the last period is
    /// still covered in full.
    fn time_until_free(self, tokens: u64, limit: u64, now: Instant, window: Duration) -> Duration {
        let Self { began, present, last } = self;
        // In this period, as the last one slides out; or in the next, as this one does.
        let (sliding, room, after) = match (limit - tokens).checked_sub(present) {
            Some(room) => (last, room, Duration::ZERO),
            None => (present, limit - tokens, window),
        };
        // So much of the sliding period leaves room. There is none of it only if it is not in the way.
        let covered = (u128::from(room) * window.as_nanos()).checked_div(sliding.into()).unwrap_or(u128::MAX);
        let covered = Duration::from_nanos(u64::try_from(covered).unwrap_or(u64::MAX));
        (after + window.saturating_sub(covered)).saturating_sub(now.saturating_duration_since(began))
    }

    /// The same two counters at an instant.
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
