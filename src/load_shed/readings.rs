use super::{Limiter, adaptive::Reason, refusals::Refusals};
use crate::{context::Criticality, error::OverloadedCause};
use std::{fmt, time::Duration};

/// The present state of a limiter, returned by [`Limiter::readings`](super::Limiter::readings).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Readings {
    /// The most calls that may be in flight, of all classes together. An adaptive limit is stated for a call with the
    /// remaining time [`deadline`](Self::deadline).
    pub limit: usize,
    /// The calls in flight.
    pub in_flight: usize,
    /// The reason for the limit.
    pub reason: LimitReason,
    /// The name of the first signal that reports overload, or `None` if none does.
    pub signal: Option<&'static str>,
    /// The remaining time of calls at admission, smoothed. `None` for a fixed limit.
    pub deadline: Option<Duration>,
    /// The number of refused calls by class and cause, without the numbers that are zero. Empty for a plain fixed
    /// limit.
    pub refused_by: Vec<(Criticality, OverloadedCause, u64)>,
}

/// The reason for the value of a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LimitReason {
    /// It was configured.
    Fixed,
    /// Too few calls have ended to adapt the limit. It is the [initial](super::LimiterBuilder::initial) limit, or the
    /// ceiling if that is lower. A call that was alone in flight does not count, unless the limit is below 4: a quiet
    /// service keeps this reason.
    Unknown,
    /// It is the number of calls that end within a share of the deadline.
    Rate,
    /// The algorithm returned it as a number of calls.
    Algorithm,
    /// The limit of the algorithm, or the initial limit, is at or below the floor, and no signal holds it there.
    Floor,
    /// The algorithm's limit is at or above the ceiling.
    Ceiling,
    /// A signal lowered it, but not below the floor. The overload may be over: the limit grows back slowly.
    Signal,
}

impl LimitReason {
    pub(super) const ALL: [Self; 7] =
        [Self::Fixed, Self::Unknown, Self::Rate, Self::Algorithm, Self::Floor, Self::Ceiling, Self::Signal];

    /// Returns the reason as one word, for labels.
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

impl Limiter {
    /// Reads the state of the limiter, and the reason for its limit.
    pub fn readings(&self) -> Readings {
        let adaptive = self.adapts();
        let limit = self.limit();
        let ceiling = self.rule().limit();
        let floor = self.shared.terms.as_ref().map_or(0, |terms| terms.floor);
        let signals = self.shared.terms.as_ref().and_then(|terms| terms.signals.as_ref());
        let signal = signals.and_then(|signals| signals.overloaded_by());
        let cap = signals.map(|signals| signals.cap()).filter(|cap| *cap != u64::MAX);
        // A cap below the floor holds the limit at the floor.
        let is_capped = cap.is_some_and(|cap| cap.max(floor) == limit as u64);
        let reason = match adaptive {
            _ if is_capped => LimitReason::Signal,
            None => LimitReason::Fixed,
            Some(_) if limit as u64 == floor && limit < ceiling => LimitReason::Floor,
            Some(adaptive) => match adaptive.published().reason() {
                Reason::Unknown => LimitReason::Unknown,
                _ if limit == ceiling => LimitReason::Ceiling,
                Reason::Calls => LimitReason::Algorithm,
                Reason::Rate => LimitReason::Rate,
            },
        };
        let deadline = adaptive.map(|adaptive| adaptive.published().deadline().duration());
        let refused_by = self.shared.terms.as_ref().map(|terms| terms.refusals.read()).unwrap_or_default();
        Readings { limit, in_flight: self.in_flight(), reason, signal, deadline, refused_by }
    }

    /// Returns the number of [exempt](super::LoadShed::exempt) calls since the limiter was made. It wraps around. A
    /// plain fixed limit does not count them.
    pub fn exempted(&self) -> u64 {
        self.shared.terms.as_ref().map_or(0, |terms| terms.refusals.exempted())
    }

    /// Describes the limit in words.
    pub(crate) fn rule_text(&self) -> String {
        let (limit, shadow) = self.configuration();
        let in_shadow = if shadow { " (shadow)" } else { "" };
        match self.adapts() {
            Some(_) => {
                let readings = self.readings();
                format!("adaptive, {} in flight now, at most {limit}{in_shadow}", readings.limit)
            }
            None => format!("at most {limit} in flight{in_shadow}"),
        }
    }

    pub(super) fn refusals(&self) -> Option<&Refusals> {
        self.shared.terms.as_ref().map(|terms| &terms.refusals)
    }
}

impl fmt::Debug for Limiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Limiter");
        debug.field("limit", &self.limit()).field("shadow", &self.is_shadow());
        debug.field("in_flight", &self.in_flight()).finish()
    }
}
