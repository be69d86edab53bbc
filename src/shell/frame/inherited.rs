use super::Frame;
use crate::{clock::Nanos, context::CallContext, deadline::Deadline};
use std::time::Duration;

/// What a stage inherits from the caller and from the stages further out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Inherited {
    context: CallContext,
    /// A timeout further out in the same stack ends the call at the deadline.
    enforced: Enforced,
    /// The limit of the innermost timeout so far; zero where there is none.
    patience: Nanos,
}

/// Whether a timeout further out ends the call at the deadline, and whose deadline that is. A whole word.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u64)]
enum Enforced {
    #[default]
    No,
    /// The timeout's own.
    OfTimeout,
    /// The caller's, which comes before the timeout's own.
    OfCaller,
}

impl Inherited {
    /// What a caller hands down.
    #[inline]
    pub(super) fn of(context: CallContext) -> Self {
        Self { context, ..Self::default() }
    }

    /// The same for an attempt, before which there were `earlier` ones.
    #[inline]
    pub(super) fn in_attempt(self, earlier: u32) -> Self {
        Self { context: self.context.with_attempt(earlier), ..self }
    }

    /// The context, as the service is to see it.
    #[inline]
    pub fn context(&self) -> CallContext {
        self.context
    }

    /// The deadline, the caller's or that of a timeout further out.
    #[inline]
    pub fn deadline(&self) -> Deadline {
        self.context.deadline_or_never()
    }

    /// Whether a timeout further out in the same stack ends the call at the deadline.
    #[inline]
    pub fn is_enforced(&self) -> bool {
        self.enforced != Enforced::No
    }

    /// The limit of the timeout further out that sets the deadline. `None` where the caller sets it.
    #[inline]
    pub(crate) fn enforced_limit(&self) -> Option<Duration> {
        (self.enforced == Enforced::OfTimeout).then(|| self.patience.duration())
    }

    /// The same with this context, and the earlier of both deadlines: a deadline never moves away.
    #[inline]
    #[must_use]
    pub fn with_context(self, context: CallContext) -> Self {
        Self { context: context.narrowed(self.deadline()), ..self }
    }

    /// What the stages inside a timeout inherit: its deadline, and `limit` as the full patience of an attempt.
    #[inline]
    #[must_use]
    pub fn enforcing(self, deadline: Deadline, limit: Duration) -> Self {
        let context = self.context.narrowed(deadline);
        let enforced = match self.enforced {
            _ if context.deadline_or_never() != self.deadline() => Enforced::OfTimeout,
            Enforced::No => Enforced::OfCaller,
            enforced => enforced,
        };
        Self { context, enforced, patience: Nanos::of(limit) }
    }

    /// What the stages inside a timeout without a limit inherit: the timeout ends the call at the deadline, if there is
    /// one.
    #[inline]
    pub(crate) fn enforcing_inherited(self) -> Self {
        let is_new = !self.is_enforced() && self.deadline() != Deadline::NEVER;
        Self { enforced: if is_new { Enforced::OfCaller } else { self.enforced }, ..self }
    }

    /// When an attempt that begins now has had half of its full patience. Never where there is no timeout further out;
    /// then the clock is not read either.
    #[inline]
    pub(in crate::shell) fn half_of_patience(&self, frame: &mut Frame) -> Deadline {
        if self.patience == Nanos::ZERO {
            return Deadline::NEVER;
        }
        Deadline::after(frame.now(), Nanos(self.patience.0 / 2).duration())
    }
}
