use super::readable::Readable;
use crate::words::{Flag, Wait};
use std::time::Duration;
use thiserror::Error as ThisError;

/// The call ran out of time.
///
/// Two values are equal if they agree on four things: the limit, the [deadline](TimedOutBy) that ended the call,
/// whether the call was cut short, and whether it reached the service. The [`phase`](Self::phase) and the time spent
/// are measurements and are not compared.
#[derive(Clone, Debug, ThisError)]
#[error("{}", self.text())]
pub struct TimedOut {
    limit: Wait,
    spent: Wait,
    how: How,
    pub(super) reached: Flag,
}

/// The deadline, the phase, and whether the call was cut short, packed into one word.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(8))]
struct How {
    by: TimedOutBy,
    phase: TimedOutIn,
    cut_short: bool,
}

/// The deadline that ended a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TimedOutBy {
    /// The timeout of the call. On a server, this timeout limits the work on the call.
    Call,
    /// The timeout of an attempt.
    Attempt,
    /// The deadline that the call inherited from its caller.
    Caller,
}

/// The phase of a call when it ran out of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TimedOutIn {
    /// Waiting before the service: in a queue, at a limit, or between two attempts.
    Waiting,
    /// Waiting for the service to become ready.
    Readiness,
    /// Waiting for the answer of the service.
    Service,
}

impl TimedOut {
    /// Makes the rejection of a call that was not answered within `limit`, or by its inherited deadline if `limit` is
    /// `None`. Its phase is [`Service`](TimedOutIn::Service) if it reached the service, else
    /// [`Waiting`](TimedOutIn::Waiting).
    pub fn new(limit: Option<Duration>, reached_service: bool) -> Self {
        let by = if limit.is_some() { TimedOutBy::Call } else { TimedOutBy::Caller };
        let phase = if reached_service { TimedOutIn::Service } else { TimedOutIn::Waiting };
        let how = How { by, phase, cut_short: false };
        Self { limit: Wait::of(limit), spent: Wait::NONE, how, reached: Flag::of(reached_service) }
    }

    /// Sets the deadline that ended the call.
    #[must_use]
    pub fn ended_by(self, by: TimedOutBy) -> Self {
        Self { how: How { by, ..self.how }, ..self }
    }

    /// Sets the phase of the call, and the time that it spent, if known.
    #[must_use]
    pub fn given_up(self, phase: TimedOutIn, spent: Option<Duration>) -> Self {
        Self { how: How { phase, ..self.how }, spent: Wait::of(spent), ..self }
    }

    /// Marks the call as [cut short](Self::was_cut_short): it had less than half of its time. For your own timeouts.
    #[must_use]
    pub fn cut_short(self) -> Self {
        Self { how: How { cut_short: true, ..self.how }, ..self }
    }

    /// Returns the timeout that ended the call: that of the call or that of an attempt, see [`by`](Self::by). `None` if
    /// the inherited deadline passed.
    pub fn limit(&self) -> Option<Duration> {
        self.limit.get()
    }

    /// Returns the time from the start of the timeout until it ended the call. It exceeds the limit if the executor was
    /// late. It is zero if the call was refused before it started, because its limit was zero, its deadline had passed,
    /// or no answer would have come in time. `None` if the call had no timeout.
    pub fn spent(&self) -> Option<Duration> {
        self.spent.get()
    }

    /// Returns the deadline that ended the call.
    pub fn by(&self) -> TimedOutBy {
        self.how.by
    }

    /// Returns the phase of the call when it ran out of time. A call can wait again after an attempt;
    /// [`reached_service`](super::Rejection::reached_service) covers all attempts.
    pub fn phase(&self) -> TimedOutIn {
        self.how.phase
    }

    /// Returns whether a deadline ended the call too early to say something about the service. Two conditions must
    /// hold. The call had less than half of its own timeout, or has no timeout. The current attempt had less than half
    /// of its full time, as [`Ending::CutShort`](crate::shell::Ending::CutShort) defines it.
    ///
    /// A call that was cut short is no evidence about the service. Circuit breakers do not count it.
    pub fn was_cut_short(&self) -> bool {
        self.how.cut_short
    }

    fn text(&self) -> String {
        let mut text = match self.limit() {
            Some(limit) => format!("no answer within {}", Readable(limit)),
            None => "no answer by the deadline of the caller".to_owned(),
        };
        if self.by() == TimedOutBy::Attempt {
            text.push_str(" (attempt timeout)");
        }
        if self.spent() == Some(Duration::ZERO) {
            text.push_str(", refused before it began");
        } else if let Some(spent) = self.spent() {
            let place = match self.phase() {
                TimedOutIn::Waiting => "before its turn",
                TimedOutIn::Readiness => "waiting for readiness",
                TimedOutIn::Service => "in the service",
            };
            text.push_str(&format!(", given up {place} after {}", Readable(spent)));
        }
        if !self.reached.is_set() {
            text.push_str("; the service was not reached");
        }
        text
    }
}

impl PartialEq for TimedOut {
    fn eq(&self, other: &Self) -> bool {
        let parts = |it: &Self| (it.limit, it.how.by, it.how.cut_short, it.reached);
        parts(self) == parts(other)
    }
}

impl Eq for TimedOut {}
