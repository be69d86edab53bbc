use crate::{context::Criticality, error::OverloadedCause};
use std::time::Duration;

/// What a limiter does at present: [`Limiter::readings`](super::Limiter::readings).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Readings {
    /// The most calls that may be in flight: for a call of the highest class that has the usual time left.
    pub limit: usize,
    /// The calls in flight.
    pub in_flight: usize,
    /// Why the limit is what it is.
    pub reason: LimitReason,
    /// The first signal that says that there is overload.
    pub signal: Option<&'static str>,
    /// The time that calls have when they come, smoothed. `None` where the limit is fixed.
    pub deadline: Option<Duration>,
    /// How often a call was refused, by its class and the cause. Empty for a fixed limit that all calls see alike.
    pub refused_by: Vec<(Criticality, OverloadedCause, u64)>,
}

/// Why a limit is what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LimitReason {
    /// It was configured.
    Fixed,
    /// Too few calls have ended for a limit to be found. It is the initial one.
    Unknown,
    /// It is the number of calls that end in a share of the deadline.
    Rate,
    /// The algorithm says so.
    Algorithm,
    /// It would be lower but for the floor.
    Floor,
    /// It would be higher but for the ceiling.
    Ceiling,
    /// A signal has lowered it, which may be over by now.
    Signal,
}

impl LimitReason {
    pub(super) const ALL: [Self; 7] =
        [Self::Fixed, Self::Unknown, Self::Rate, Self::Algorithm, Self::Floor, Self::Ceiling, Self::Signal];

    /// The reason in a word, for labels.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Fixed => "fixed",
            Self::Unknown => "unknown",
            Self::Rate => "rate",
            Self::Algorithm => "algorithm",
            Self::Floor => "floor",
            Self::Ceiling => "ceiling",
            Self::Signal => "signal",
        }
    }
}
