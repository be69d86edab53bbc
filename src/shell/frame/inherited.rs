use super::Frame;
use crate::{clock::Nanos, context::CallContext, deadline::Deadline};
use std::time::Duration;

/// The context and deadline that a stage inherits from the caller and from outer stages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Inherited {
    context: CallContext,
    /// Whether an outer timeout of the same stack ends the call at the deadline.
    enforced: Enforced,
    /// The limit of the nearest outer timeout that has a limit: the full time of an attempt. Zero if there is none.
    patience: Nanos,
}

/// Whether an outer timeout ends the call at the inherited deadline, and who set this deadline: the timeout or the
/// caller. One word: [`NO`](Self::NO), [`OF_CALLER`](Self::OF_CALLER), or the limit of the timeout that set the
/// deadline, in nanoseconds, plus one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Enforced(u64);

impl Enforced {
    const NO: Self = Self(0);
    /// An outer timeout ends the call at the caller's deadline. The timeout has no limit, or its own deadline is not
    /// earlier than the caller's.
    const OF_CALLER: Self = Self(u64::MAX);

    /// An outer timeout with this limit ends the call at its own deadline.
    fn of_timeout(limit: Nanos) -> Self {
        Self(limit.0.saturating_add(1).min(u64::MAX - 1))
    }

    /// Returns the limit of the timeout that set the deadline.
    fn limit(self) -> Option<Nanos> {
        (self != Self::NO && self != Self::OF_CALLER).then(|| Nanos(self.0 - 1))
    }
}

impl Inherited {
    /// Makes what the outermost stage inherits from a caller with this context.
    #[inline]
    pub(super) fn of(context: CallContext) -> Self {
        Self { context, ..Self::default() }
    }

    /// Sets the number of earlier attempts.
    #[inline]
    pub(super) fn in_attempt(self, earlier: u32) -> Self {
        Self { context: self.context.with_attempt(earlier), ..self }
    }

    /// Returns the context for the service.
    #[inline]
    pub fn context(&self) -> CallContext {
        self.context
    }

    /// Returns the deadline: that of the caller or of an outer timeout, whichever is earlier.
    #[inline]
    pub fn deadline(&self) -> Deadline {
        self.context.deadline_or_never()
    }

    /// Returns whether an outer timeout of the same stack ends the call at the deadline.
    #[inline]
    pub fn is_enforced(&self) -> bool {
        self.enforced != Enforced::NO
    }

    /// Returns the limit of the outer timeout that set the deadline, or `None` if no timeout set it.
    #[inline]
    pub(crate) fn enforced_limit(&self) -> Option<Duration> {
        self.enforced.limit().map(Nanos::duration)
    }

    /// Takes another context, with the earlier of its deadline and the inherited one: a deadline never moves later. If
    /// the new context sets an earlier deadline, no outer timeout [enforces](Self::is_enforced) that deadline.
    #[inline]
    #[must_use]
    pub fn with_context(self, context: CallContext) -> Self {
        let context = context.narrowed(self.deadline());
        let enforced = if context.deadline_or_never() == self.deadline() { self.enforced } else { Enforced::NO };
        Self { context, enforced, ..self }
    }

    /// Returns what the inner stages of a timeout inherit. Their deadline is the earlier of `deadline` and the
    /// inherited one. The full time of their attempts is `limit`.
    #[inline]
    #[must_use]
    pub fn enforcing(self, deadline: Deadline, limit: Duration) -> Self {
        let context = self.context.narrowed(deadline);
        let patience = Nanos::of(limit);
        let enforced = match self.enforced {
            _ if context.deadline_or_never() != self.deadline() => Enforced::of_timeout(patience),
            Enforced::NO => Enforced::OF_CALLER,
            enforced => enforced,
        };
        Self { context, enforced, patience }
    }

    /// Returns what the inner stages of a timeout without a limit inherit. The timeout ends the call at the inherited
    /// deadline, if there is one.
    #[inline]
    pub(crate) fn enforcing_inherited(self) -> Self {
        let is_new = !self.is_enforced() && self.deadline() != Deadline::NEVER;
        Self { enforced: if is_new { Enforced::OF_CALLER } else { self.enforced }, ..self }
    }

    /// Returns when an attempt that begins now has had half of its full time. Without an outer timeout that has a
    /// limit, it returns [`Deadline::NEVER`] and does not read the clock.
    #[inline]
    pub(in crate::shell) fn half_time(&self, frame: &mut Frame) -> Deadline {
        if self.patience == Nanos::ZERO {
            return Deadline::NEVER;
        }
        Deadline::after(frame.now(), Nanos(self.patience.0 / 2).duration())
    }
}

#[cfg(all(test, not(steadfast_loom)))]
mod tests {
    use super::*;
    use tokio::time::Instant;

    #[test]
    fn an_inner_timeout_with_a_later_deadline_leaves_the_limit_of_the_outer_one() {
        let (now, short, long) = (Instant::now(), Duration::from_secs(1), Duration::from_secs(5));
        let outer = Inherited::default().enforcing(Deadline::after(now, short), short);
        let inner = outer.enforcing(Deadline::after(now, long), long);
        assert_eq!((inner.deadline(), inner.enforced_limit()), (Deadline::after(now, short), Some(short)));
        let innermost = inner.enforcing(Deadline::after(now, short / 2), short / 2);
        assert_eq!(innermost.enforced_limit(), Some(short / 2));
    }
}
