use crate::words::{Flag, Wait};
use std::time::Duration;
use thiserror::Error as ThisError;

/// A concurrency limit had no room for the call.
///
/// The message does not name the mechanism; the message of the [`Rejection`](super::Rejection) does. See the
/// [module](crate::error).
#[derive(Clone, Debug, PartialEq, Eq, ThisError)]
#[error("{}", self.text())]
pub struct Overloaded {
    limit: usize,
    retry_after: Wait,
    cause: OverloadedCause,
    pub(super) reached: Flag,
}

impl Overloaded {
    /// Makes the rejection of a call that found `limit` others in flight. `retry_after` is the expected time until
    /// there is room, if known.
    pub fn new(limit: usize, retry_after: Option<Duration>) -> Self {
        Self { limit, retry_after: Wait::of(retry_after), cause: OverloadedCause::Limit, reached: Flag::NO }
    }

    /// Sets the cause.
    #[must_use]
    pub fn by(self, cause: OverloadedCause) -> Self {
        Self { cause, ..self }
    }

    /// Returns why there was no room.
    pub fn cause(&self) -> OverloadedCause {
        self.cause
    }

    /// Returns the limit on all calls in flight, as it was at the time of the refusal. A class or a tenant can be
    /// refused while fewer calls are in flight.
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// Returns the expected time until there is room. A [`Limiter`](crate::load_shed::Limiter) does not know it and
    /// gives `None`; only a rejection that you [make](Self::new) yourself can have it.
    pub fn retry_after(&self) -> Option<Duration> {
        self.retry_after.get()
    }

    fn text(&self) -> String {
        let Self { limit, .. } = self;
        match self.cause {
            OverloadedCause::Limit => {
                format!("{limit} {} in flight already", if *limit == 1 { "call is" } else { "calls are" })
            }
            OverloadedCause::Class => format!("of {limit} places, those still free are for other classes"),
            OverloadedCause::Tenant => format!("the tenant already uses its whole share of the {limit} places"),
            OverloadedCause::Signal => format!("an overload signal has lowered the limit to {limit} in flight"),
        }
    }
}

/// Why there was no room for a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[repr(u64)]
pub enum OverloadedCause {
    /// The limit on the calls in flight was reached.
    Limit,
    /// The remaining places are reserved for more critical calls, or guaranteed to other classes.
    Class,
    /// The tenant of the call holds its share of the places.
    Tenant,
    /// The limit, lowered by an overload signal, was reached.
    Signal,
}

impl OverloadedCause {
    pub(crate) const COUNT: usize = 4;
    pub(crate) const ALL: [Self; Self::COUNT] = [Self::Limit, Self::Class, Self::Tenant, Self::Signal];

    /// Returns the cause as one word, for labels.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Limit => "limit",
            Self::Class => "class",
            Self::Tenant => "tenant",
            Self::Signal => "signal",
        }
    }
}
