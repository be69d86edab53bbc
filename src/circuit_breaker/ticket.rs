use crate::classify::Outcome;

/// An instant in nanoseconds since the breaker was built.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Moment(pub(super) u64);

impl Moment {
    /// Later than any.
    pub(super) const NEVER: Self = Self(u64::MAX);

    /// This many nanoseconds later; never, if there are none.
    pub(super) fn after(self, nanos: u64) -> Self {
        if nanos == 0 { Self::NEVER } else { Self(self.0.saturating_add(nanos)) }
    }

    pub(super) fn has_come(self, now: Self) -> bool {
        self <= now && self != Self::NEVER
    }
}

/// Admits one call. Plain data: it has to be settled by the stage that holds it.
#[derive(Debug)]
pub struct Ticket {
    /// The era that admitted the call. Whole words: a later load never waits for a narrower store.
    era: u64,
    /// From when on the call is a failure if its caller drops it, by the configuration that admitted it.
    overdue_at: Moment,
    pub(super) pace: Pace,
}

/// What a call's time says about it.
///
/// | from | to | when |
/// |---|---|---|
/// | `SlowAt` | `NotBegun` | the call is found to wait, and has not reached the service |
/// | `NotBegun` | `SlowAt` | the call is first found in the service |
/// | `SlowAt` | `Untimed` | it was counted as slow, or its era is over |
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pace {
    /// Nothing: slow calls are not configured, or this one has been counted as slow.
    Untimed,
    /// The call has not reached the service.
    NotBegun,
    /// It is slow from this moment on, by the configuration that admitted it.
    SlowAt(Moment),
}

impl Ticket {
    #[inline]
    pub(super) fn untimed(era: u32) -> Self {
        Self { era: era.into(), overdue_at: Moment::NEVER, pace: Pace::Untimed }
    }

    /// A ticket of a call that is overdue, and slow, after these nanoseconds from `now`; zero for never.
    pub(super) fn timed(era: u32, overdue_after: u64, slow_after: u64, now: Moment) -> Self {
        Self { era: era.into(), overdue_at: now.after(overdue_after), pace: Pace::from(slow_after, now) }
    }

    #[inline]
    pub(super) fn era(&self) -> u32 {
        self.era as u32
    }

    /// The call never reached the service: its time says nothing.
    #[inline]
    pub(super) fn never_began(&mut self) {
        self.pace = Pace::Untimed;
    }

    /// Whether the call is slow by now, and has not been counted as slow yet.
    pub(super) fn is_slow(&self, now: Moment) -> bool {
        matches!(self.pace, Pace::SlowAt(at) if at.has_come(now))
    }

    /// Whether the call's time says anything.
    #[inline]
    pub(super) fn is_timed(&self) -> bool {
        self.pace != Pace::Untimed || self.overdue_at != Moment::NEVER
    }

    /// What a cancelled call proves, where the end of this one says so.
    pub(super) fn resolve(&self, evidence: Evidence, now: Moment) -> Evidence {
        match evidence {
            Evidence::Cancelled if self.overdue_at.has_come(now) => Evidence::Failure,
            Evidence::Cancelled => Evidence::Unanswered,
            evidence => evidence,
        }
    }
}

impl Pace {
    /// That of a call which begins at `now`, and is slow after these nanoseconds; zero for never.
    pub(super) fn from(slow_after: u64, now: Moment) -> Self {
        if slow_after == 0 { Self::Untimed } else { Self::SlowAt(now.after(slow_after)) }
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
