use crate::classify::Outcome;

/// An instant in nanoseconds since the breaker was built.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Moment(pub(super) u64);

impl Moment {
    /// Later than any.
    pub(super) const NEVER: Self = Self(u64::MAX);

    /// This many nanoseconds later; never, if there are none, or if this is never.
    pub(super) fn after(self, nanos: u64) -> Self {
        if nanos == 0 { Self::NEVER } else { Self(self.0.saturating_add(nanos)) }
    }

    pub(super) fn has_come(self, now: Self) -> bool {
        self <= now && self != Self::NEVER
    }
}

/// Admits one call. Plain data: it has to be settled by the stage that holds it.
///
/// Its times begin when it is admitted, or when it reaches the service if it was found to wait before. How long they are
/// is said by the configuration that admitted it.
#[derive(Debug)]
pub struct Ticket {
    /// The era that admitted the call. Whole words: a later load never waits for a narrower store.
    era: u64,
    /// When the times began; never while the call waits.
    begun: Moment,
    /// After how many nanoseconds the call is a failure if its caller drops it; zero for never.
    overdue_after: u64,
    /// After how many nanoseconds it is slow; zero where that says nothing, or was counted already.
    slow_after: u64,
}

impl Ticket {
    #[inline]
    pub(super) fn untimed(era: u32) -> Self {
        Self::timed(era, 0, 0, Moment::NEVER)
    }

    /// A ticket of a call that is overdue, and slow, after these nanoseconds from `now`; zero for never.
    #[inline]
    pub(super) fn timed(era: u32, overdue_after: u64, slow_after: u64, now: Moment) -> Self {
        Self { era: era.into(), begun: now, overdue_after, slow_after }
    }

    #[inline]
    pub(super) fn era(&self) -> u32 {
        self.era as u32
    }

    /// Whether the call's time says anything.
    #[inline]
    pub(super) fn is_timed(&self) -> bool {
        self.overdue_after != 0 || self.slow_after != 0
    }

    /// Whether slow calls count, and this one has not been counted as slow.
    pub(super) fn can_be_slow(&self) -> bool {
        self.slow_after != 0
    }

    /// The call's time says nothing: it never reached the service, or its era is over.
    #[inline]
    pub(super) fn forget_times(&mut self) {
        (self.overdue_after, self.slow_after) = (0, 0);
    }

    /// The call waits for its turn, or for the service to be ready.
    pub(super) fn waits(&mut self) {
        self.begun = Moment::NEVER;
    }

    pub(super) fn has_begun(&self) -> bool {
        self.begun != Moment::NEVER
    }

    /// The call has reached the service. Its times begin at `now` if it had to wait.
    pub(super) fn begins(&mut self, now: Moment) {
        if !self.has_begun() {
            self.begun = now;
        }
    }

    /// From when on the call is slow.
    pub(super) fn slow_at(&self) -> Moment {
        self.begun.after(self.slow_after)
    }

    /// Whether the call is slow by now, and has not been counted as slow yet.
    pub(super) fn is_slow(&self, now: Moment) -> bool {
        self.slow_at().has_come(now)
    }

    /// It has been counted as slow.
    pub(super) fn was_counted_as_slow(&mut self) {
        self.slow_after = 0;
    }

    /// What a cancelled call proves, where the end of this one says so.
    pub(super) fn resolve(&self, evidence: Evidence, now: Moment) -> Evidence {
        match evidence {
            Evidence::Cancelled if self.begun.after(self.overdue_after).has_come(now) => Evidence::Failure,
            Evidence::Cancelled => Evidence::Unanswered,
            evidence => evidence,
        }
    }
}

/// What became of a call, to a breaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Evidence {
    Success,
    Failure,
    /// The service refused, as one that has too much to do: a success, for it is alive, unless configured otherwise.
    Overloaded,
    /// The caller dropped the call before the service answered: a failure if it was overdue, or else unanswered.
    Cancelled,
    /// The call was given up before the service answered or had its time. A probe gives its place to another call.
    Unanswered,
    /// It says nothing about the service. A probe gives its place to another call.
    Nothing,
}

impl Evidence {
    /// What this verdict on the service's answer says.
    #[inline]
    pub(super) fn of(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Success | Outcome::Permanent => Self::Success,
            Outcome::Failure => Self::Failure,
            Outcome::Overloaded { .. } => Self::Overloaded,
            Outcome::Ignored => Self::Nothing,
        }
    }

    /// Whether the service was seen to answer, or to fail: a call of a known duration.
    pub(super) fn is_answer(self) -> bool {
        matches!(self, Self::Success | Self::Failure | Self::Overloaded)
    }
}
