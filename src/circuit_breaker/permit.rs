use super::{
    Breaker,
    ticket::{Evidence, Ticket},
};
use crate::{classify::Outcome, held::Held};
use tokio::time::Instant;

/// A call that a breaker has let through. A permit that is dropped without a verdict counts as dropped by the caller.
/// If a panic drops it, the call has failed. A permit that owns its breaker is a `Permit<'static>`.
///
/// Where [slow calls](super::BreakerBuilder::slow_call_rate) are counted, a call is slow if it ends, or is dropped, at
/// least the threshold after it was admitted. A breaker without tower cannot see that a call is still under way: tell
/// it by [`under_way`](Self::under_way), and a service that hangs is noticed before its calls end.
///
/// The methods whose names end in `_at` take the present from the caller. The others read tokio's clock. All but
/// `under_way` and `under_way_at` end the permit.
#[derive(Debug)]
#[must_use = "a permit that is dropped at once tells the breaker nothing"]
pub struct Permit<'breaker> {
    pub(super) breaker: Held<'breaker, Breaker>,
    pub(super) ticket: Option<Ticket>,
}

impl Permit<'_> {
    /// The call succeeded, and ends now.
    #[inline]
    pub fn success(self) {
        self.settle(Evidence::Success, Instant::now);
    }

    /// The call failed, and ends now.
    #[inline]
    pub fn failure(self) {
        self.settle(Evidence::Failure, Instant::now);
    }

    /// The call succeeded, and ended at `now`.
    #[inline]
    pub fn success_at(self, now: Instant) {
        self.settle(Evidence::Success, || now);
    }

    /// The call failed, and ended at `now`.
    #[inline]
    pub fn failure_at(self, now: Instant) {
        self.settle(Evidence::Failure, || now);
    }

    /// The service refused the call now, because it has too much to do. That is a failure only if
    /// [`overload_is_failure`](super::BreakerBuilder::overload_is_failure) is set.
    pub fn overloaded(self) {
        self.outcome(Outcome::Overloaded { retry_after: None });
    }

    /// The call ends now, and says nothing about the service. A probe gives its place back.
    pub fn ignored(self) {
        self.outcome(Outcome::Ignored);
    }

    /// The call ends now with this outcome. See the table of the [module](super).
    pub fn outcome(self, outcome: Outcome) {
        self.settle(Evidence::of(outcome), Instant::now);
    }

    /// The call ended with this outcome at `now`.
    pub fn outcome_at(self, outcome: Outcome, now: Instant) {
        self.settle(Evidence::of(outcome), || now);
    }

    /// A deadline of the caller ends the call now, before the service had its time. The call proves nothing, unless it
    /// was slow.
    pub fn cut_short(self) {
        self.settle(Evidence::Unanswered, Instant::now);
    }

    /// A deadline of the caller ended the call at `now`; see [`cut_short`](Self::cut_short).
    pub fn cut_short_at(self, now: Instant) {
        self.settle(Evidence::Unanswered, || now);
    }

    /// The call is still under way now. See [`under_way_at`](Self::under_way_at).
    pub fn under_way(&mut self) {
        self.under_way_at(Instant::now());
    }

    /// The call is still under way at `now`. If it has taken the threshold of [slow
    /// calls](super::BreakerBuilder::slow_call_rate) by then, it counts as slow at once, and no second time when it
    /// ends. Otherwise nothing happens.
    pub fn under_way_at(&mut self, now: Instant) {
        if let Some(ticket) = &mut self.ticket {
            self.breaker.under_way(ticket, true, || now);
        }
    }

    #[inline]
    fn settle(mut self, evidence: Evidence, now: impl FnOnce() -> Instant) {
        if let Some(ticket) = self.ticket.take() {
            self.breaker.settle(ticket, evidence, now);
        }
    }
}

impl Drop for Permit<'_> {
    #[inline]
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket.take() {
            let evidence = if std::thread::panicking() { Evidence::Failure } else { Evidence::Cancelled };
            self.breaker.settle(ticket, evidence, Instant::now);
        }
    }
}
