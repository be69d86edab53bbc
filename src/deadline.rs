use std::time::Duration;
use tokio::time::Instant;

/// The instant by which something must be done, or never.
///
/// Arithmetic saturates: a deadline that the clock cannot represent is no deadline.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Deadline(Option<Instant>);

impl Deadline {
    /// No deadline.
    pub const NEVER: Self = Self(None);

    /// Makes a deadline at this instant.
    #[inline]
    pub fn at(instant: Instant) -> Self {
        Self(Some(instant))
    }

    /// Makes a deadline at `now` plus `limit`.
    #[inline]
    pub fn after(now: Instant, limit: Duration) -> Self {
        Self(now.checked_add(limit))
    }

    /// Returns the instant, or `None` for [`NEVER`](Self::NEVER).
    #[inline]
    pub fn instant(self) -> Option<Instant> {
        self.0
    }

    /// Returns the earlier of two deadlines.
    #[inline]
    #[must_use]
    pub fn earlier(self, other: Self) -> Self {
        match (self.0, other.0) {
            (Some(this), Some(that)) => Self(Some(this.min(that))),
            (this, that) => Self(this.or(that)),
        }
    }

    /// Returns whether the deadline has passed. At its exact instant it has.
    #[inline]
    pub fn has_passed(self, now: Instant) -> bool {
        self.0.is_some_and(|instant| instant <= now)
    }

    /// Returns the time left: zero after the deadline has passed, `None` without a deadline.
    #[inline]
    pub fn remaining(self, now: Instant) -> Option<Duration> {
        self.0.map(|instant| instant.saturating_duration_since(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_that_the_clock_cannot_represent_is_none() {
        assert_eq!(Deadline::after(Instant::now(), Duration::MAX), Deadline::NEVER);
    }

    #[test]
    fn the_earlier_of_two_deadlines_wins_and_any_deadline_is_earlier_than_never() {
        let now = Instant::now();
        let (soon, late) = (Deadline::after(now, Duration::from_secs(1)), Deadline::after(now, Duration::from_secs(2)));
        assert_eq!(soon.earlier(late), soon);
        assert_eq!(late.earlier(soon), soon);
        assert_eq!(Deadline::NEVER.earlier(late), late);
        assert_eq!(late.earlier(Deadline::NEVER), late);
        assert_eq!(Deadline::NEVER.earlier(Deadline::NEVER), Deadline::NEVER);
    }

    #[test]
    fn a_deadline_has_passed_at_its_exact_instant_and_not_before() {
        let now = Instant::now();
        let deadline = Deadline::after(now, Duration::from_nanos(1));
        assert!(!deadline.has_passed(now));
        assert!(deadline.has_passed(now + Duration::from_nanos(1)));
        assert_eq!(deadline.remaining(now + Duration::from_secs(9)), Some(Duration::ZERO));
    }
}
