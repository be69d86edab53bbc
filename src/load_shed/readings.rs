use super::{Limiter, adaptive::Reason, refusals::Refusals};
use crate::{context::Criticality, error::OverloadedCause};
use std::{fmt, time::Duration};

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

impl Limiter {
    /// What the limiter does at present, and why the limit is what it is.
    pub fn readings(&self) -> Readings {
        let adaptive = self.adapts();
        let limit = self.limit();
        let ceiling = self.rule().limit();
        let floor = self.shared.terms.as_ref().map_or(0, |terms| terms.floor);
        let signals = self.shared.terms.as_ref().and_then(|terms| terms.signals.as_ref());
        let signal = signals.and_then(|signals| signals.overloaded_by());
        let is_capped = signals.is_some_and(|signals| signals.cap() == limit as u64);
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

    /// The calls that were [exempt](super::LoadShed::exempt), since the limiter was made. It wraps around.
    pub fn exempted(&self) -> u64 {
        self.shared.terms.as_ref().map_or(0, |terms| terms.refusals.exempted())
    }

    /// The limit in words.
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
