use crate::{classify::Outcome, clock::Nanos};

/// After all instants.
pub(super) const NEVER: Nanos = Nanos::MAX;

/// Whether an instant has come, which [`NEVER`] never has.
pub(super) fn has_come(instant: Nanos, now: Nanos) -> bool {
    instant <= now && instant != NEVER
}

/// Admits one call. Plain data: it has to be settled by the stage that holds it.
///
/// Its times begin when it is admitted, or when it reaches the service if it had to wait before. Their lengths are
/// those of the configuration that admitted it.
#[derive(Debug)]
pub struct Ticket {
    /// The era that admitted the call. Whole words: a later load never waits for a narrower store.
    era: u64,
    /// When the times began; never while the call waits.
    begun: Nanos,
    /// After this time the call is a failure if its caller drops it; zero for never.
    overdue_after: Nanos,
    /// After this time the call is slow; zero where that says nothing, or was counted already.
    slow_after: Nanos,
}

impl Ticket {
    #[inline]
    pub(super) fn untimed(era: u32) -> Self {
        Self::timed(era, Nanos::ZERO, Nanos::ZERO, NEVER)
    }

    /// A ticket of a call that is overdue, and slow, after these times from `now`; zero for never.
    #[inline]
    pub(super) fn timed(era: u32, overdue_after: Nanos, slow_after: Nanos, now: Nanos) -> Self {
        Self { era: era.into(), begun: now, overdue_after, slow_after }
    }

    #[inline]
    pub(super) fn era(&self) -> u32 {
        self.era as u32
    }

    /// Whether the call's time says anything.
    #[inline]
    pub(super) fn is_timed(&self) -> bool {
        self.overdue_after != Nanos::ZERO || self.slow_after != Nanos::ZERO
    }

    /// Whether slow calls count, and this one has not been counted as slow.
    pub(super) fn can_be_slow(&self) -> bool {
        self.slow_after != Nanos::ZERO
    }

    /// The call's time says nothing: it never reached the service, or its era is over.
    #[inline]
    pub(super) fn forget_times(&mut self) {
        (self.overdue_after, self.slow_after) = (Nanos::ZERO, Nanos::ZERO);
    }

    /// The call waits for its turn, or for the service to be ready.
    pub(super) fn waits(&mut self) {
        self.begun = NEVER;
    }

    pub(super) fn has_begun(&self) -> bool {
        self.begun != NEVER
    }

    /// The call has reached the service. Its times begin at `now` if it had to wait.
    pub(super) fn begins(&mut self, now: Nanos) {
        if !self.has_begun() {
            self.begun = now;
        }
    }

    /// From when on the call is slow.
    pub(super) fn slow_at(&self) -> Nanos {
        self.after(self.slow_after)
    }

    /// Whether the call is slow by now, and has not been counted as slow yet.
    pub(super) fn is_slow(&self, now: Nanos) -> bool {
        has_come(self.slow_at(), now)
    }

    /// It has been counted as slow.
    pub(super) fn was_counted_as_slow(&mut self) {
        self.slow_after = Nanos::ZERO;
    }

    /// Decides what a cancelled call proves. Other evidence stays.
    pub(super) fn resolve(&self, evidence: Evidence, now: Nanos) -> Evidence {
        match evidence {
            Evidence::Cancelled if has_come(self.after(self.overdue_after), now) => Evidence::Failure,
            Evidence::Cancelled => Evidence::Unanswered,
            evidence => evidence,
        }
    }

    /// This long after the times began; never, if the length is zero or the call waits.
    fn after(&self, length: Nanos) -> Nanos {
        if length == Nanos::ZERO { NEVER } else { self.begun.saturating_add(length) }
    }
}

/// The end of a call, to a breaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Evidence {
    Success,
    Failure,
    /// The service refused the call, because it has too much to do: a success, since it is alive, unless configured
    /// otherwise.
    Overloaded,
    /// The caller dropped the call before the service answered: a failure if it was overdue, or else unanswered.
    Cancelled,
    /// The call was given up before the service answered or had its time. A probe gives its place to another call.
    Unanswered,
    /// It says nothing about the service. A probe gives its place to another call.
    Nothing,
}

impl Evidence {
    /// The evidence of this verdict on the service's answer.
    #[inline]
    pub(super) fn of(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Success | Outcome::Permanent => Self::Success,
            Outcome::Failure | Outcome::Unprocessed { retry_after: None } => Self::Failure,
            Outcome::Overloaded { .. } | Outcome::Unprocessed { retry_after: Some(_) } => Self::Overloaded,
            Outcome::Ignored => Self::Nothing,
        }
    }

    /// Whether the service was seen to answer, or to fail: a call of a known duration.
    pub(super) fn is_answer(self) -> bool {
        matches!(self, Self::Success | Self::Failure | Self::Overloaded)
    }
}
