use super::readable::Readable;
use crate::words::{Flag, Wait};
use std::time::Duration;
use thiserror::Error as ThisError;

/// The call's time was up.
///
/// Two of them are equal if the same limit ended the call, with the same consequences. Where the call was
/// ([`phase`](Self::phase)) and the time that it spent are measured, and do not count.
#[derive(Clone, Debug, ThisError)]
#[error("{}", self.text())]
pub struct TimedOut {
    limit: Wait,
    spent: Wait,
    how: How,
    pub(super) reached: Flag,
}

/// What ended the call, where, and whether it was cut short: parts of a word.
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
    /// The timeout of the call; on a server, of the work on it.
    Call,
    /// The timeout of an attempt.
    Attempt,
    /// The deadline that the call inherited from its caller.
    Caller,
}

/// Where a call was when its time was up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TimedOutIn {
    /// Before the service: in a queue, at a limit, or between two attempts.
    Waiting,
    /// Next to the service, which was not ready for it.
    Readiness,
    /// In the service.
    Service,
}

impl TimedOut {
    /// A call that was not answered within `limit`, or by the deadline that it inherited where `limit` is `None`. It was
    /// in the service if it had reached it, or else [waited](TimedOutIn::Waiting).
    pub fn new(limit: Option<Duration>, reached_service: bool) -> Self {
        let by = if limit.is_some() { TimedOutBy::Call } else { TimedOutBy::Caller };
        let phase = if reached_service { TimedOutIn::Service } else { TimedOutIn::Waiting };
        let how = How { by, phase, cut_short: false };
        Self { limit: Wait::of(limit), spent: Wait::NONE, how, reached: Flag::of(reached_service) }
    }

    /// The same, ended by this deadline.
    #[must_use]
    pub fn ended_by(self, by: TimedOutBy) -> Self {
        Self { how: How { by, ..self.how }, ..self }
    }

    /// The same, given up there after this time. `None` where it is not known.
    #[must_use]
    pub fn given_up(self, phase: TimedOutIn, spent: Option<Duration>) -> Self {
        Self { how: How { phase, ..self.how }, spent: Wait::of(spent), ..self }
    }

    /// The same, of a call that had less than half of the time that it may take. For a timeout of your own; see
    /// [`was_cut_short`](Self::was_cut_short).
    #[must_use]
    pub fn cut_short(self) -> Self {
        Self { how: How { cut_short: true, ..self.how }, ..self }
    }

    /// The time that the call had, or `None` where it was the inherited deadline that passed.
    pub fn limit(&self) -> Option<Duration> {
        self.limit.get()
    }

    /// The time from where the timeout began to count until it gave up. It is longer than the limit where the executor
    /// was late. `None` where the call had no timeout, and where the deadline had passed before it began.
    pub fn spent(&self) -> Option<Duration> {
        self.spent.get()
    }

    /// The deadline that ended the call.
    pub fn by(&self) -> TimedOutBy {
        self.how.by
    }

    /// Where the call was when it was given up. After an earlier attempt it may wait again:
    /// [`reached_service`](super::Rejection::reached_service) tells of all attempts.
    pub fn phase(&self) -> TimedOutIn {
        self.how.phase
    }

    /// Whether a deadline ended the call before it had half of the time that it may take: of the timeout that ended it,
    /// and of the attempt under way.
    ///
    /// Such a call says nothing about the service. Circuit breakers do not count it; see
    /// [`Ending::CutShort`](crate::shell::Ending::CutShort).
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
        if let Some(spent) = self.spent() {
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
