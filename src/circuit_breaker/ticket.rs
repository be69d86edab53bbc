use crate::{classify::Outcome, clock::Nanos};

/// An instant after all others.
pub(super) const NEVER: Nanos = Nanos::MAX;

/// Returns whether an instant has passed. [`NEVER`] never passes.
pub(super) fn has_passed(instant: Nanos, now: Nanos) -> bool {
    instant <= now && instant != NEVER
}

/// The admission of one call. Plain data: the stage or the [`Permit`](super::Permit) that owns it must settle it.
///
/// Both times of a ticket, `overdue_after` and `slow_after`, begin when the call is admitted. If the call had to wait,
/// they begin when it reaches the service. Their lengths are those of the configuration that admitted the call.
#[derive(Debug)]
pub struct Ticket {
    /// The era that admitted the call. It is a `u64`, so that all fields are whole words. A ticket is copied in whole
    /// words. If a field were narrower, the load of its word would be wider than the store just before it, and the
    /// processor would have to wait.
    era: u64,
    /// When the times began; [`NEVER`] while the call waits, and in an untimed ticket.
    begun: Nanos,
    /// The time after which a drop by the caller is a failure; zero for never.
    overdue_after: Nanos,
    /// The time after which the call is slow; zero for never. It is zero if slow calls do not count, if this one was
    /// already counted, or if the times were [forgotten](Self::forget_times).
    slow_after: Nanos,
}

impl Ticket {
    #[inline]
    pub(super) fn untimed(era: u32) -> Self {
        Self::timed(era, Nanos::ZERO, Nanos::ZERO, NEVER)
    }

    /// Returns a ticket of a call that is overdue, and slow, after these times from `now`; zero for never.
    #[inline]
    pub(super) fn timed(era: u32, overdue_after: Nanos, slow_after: Nanos, now: Nanos) -> Self {
        Self { era: era.into(), begun: now, overdue_after, slow_after }
    }

    #[inline]
    pub(super) fn era(&self) -> u32 {
        self.era as u32
    }

    /// Returns whether the duration of the call counts.
    #[inline]
    pub(super) fn is_timed(&self) -> bool {
        self.overdue_after != Nanos::ZERO || self.slow_after != Nanos::ZERO
    }

    /// Returns whether the call can still be counted as slow. It cannot if slow calls do not count, if it was already
    /// counted, or if its times were forgotten.
    pub(super) fn can_be_slow(&self) -> bool {
        self.slow_after != Nanos::ZERO
    }

    /// Clears the times: the call never reached the service, an inner layer refused it, or its era is over.
    #[inline]
    pub(super) fn forget_times(&mut self) {
        (self.overdue_after, self.slow_after) = (Nanos::ZERO, Nanos::ZERO);
    }

    /// Records that the call waits for its turn or for the service's readiness.
    pub(super) fn waits(&mut self) {
        self.begun = NEVER;
    }

    pub(super) fn has_begun(&self) -> bool {
        self.begun != NEVER
    }

    /// Records that the call has reached the service. Its times begin at `now` if it had to wait.
    pub(super) fn begins(&mut self, now: Nanos) {
        if !self.has_begun() {
            self.begun = now;
        }
    }

    /// Returns the instant from which the call is slow.
    pub(super) fn slow_at(&self) -> Nanos {
        self.after(self.slow_after)
    }

    /// Returns whether the call is slow at `now`, and was not yet counted as slow.
    pub(super) fn is_slow(&self, now: Nanos) -> bool {
        has_passed(self.slow_at(), now)
    }

    /// Records that the call was counted as slow.
    pub(super) fn was_counted_as_slow(&mut self) {
        self.slow_after = Nanos::ZERO;
    }

    /// Resolves a cancelled call to a failure or to no answer. Returns other evidence unchanged.
    pub(super) fn resolve(&self, evidence: Evidence, now: Nanos) -> Evidence {
        match evidence {
            Evidence::Cancelled if has_passed(self.after(self.overdue_after), now) => Evidence::Failure,
            Evidence::Cancelled => Evidence::Unanswered,
            evidence => evidence,
        }
    }

    /// Returns the instant at `length` after the times began, or [`NEVER`] if the length is zero or the call waits.
    fn after(&self, length: Nanos) -> Nanos {
        if length == Nanos::ZERO { NEVER } else { self.begun.saturating_add(length) }
    }
}

/// The meaning of a call's end for a breaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Evidence {
    Success,
    Failure,
    /// The service refused the call because it is overloaded. Counts as a success, since the service answers, unless
    /// configured otherwise.
    Overloaded,
    /// The caller dropped the call before the service answered: a failure if it was overdue, otherwise `Unanswered`.
    Cancelled,
    /// The call was abandoned before the service answered, and this is no failure. A probe returns its place, and the
    /// series of probes lasts for at least half a probe timeout more.
    Unanswered,
    /// No evidence about the service. A probe returns its place, and does not make the series of probes last longer.
    Nothing,
}

impl Evidence {
    /// Returns the evidence of this verdict on the service's answer.
    #[inline]
    pub(super) fn of(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Success | Outcome::Permanent => Self::Success,
            Outcome::Failure | Outcome::Unprocessed { retry_after: None } => Self::Failure,
            Outcome::Overloaded { .. } | Outcome::Unprocessed { retry_after: Some(_) } => Self::Overloaded,
            Outcome::Ignored => Self::Nothing,
        }
    }

    /// Returns whether the call is a success, a failure or an overload. Only such a call can count as not slow.
    pub(super) fn is_answer(self) -> bool {
        matches!(self, Self::Success | Self::Failure | Self::Overloaded)
    }
}
