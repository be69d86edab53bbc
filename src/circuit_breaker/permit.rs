use super::{
    Breaker,
    ticket::{Evidence, Ticket},
};
use crate::{classify::Outcome, held::Held};
use tokio::time::Instant;

/// A call that a breaker has let through. A permit that is dropped before a result is recorded counts as a call that
/// its caller dropped. If a panic drops the permit, the call has failed. A permit that owns its breaker is a
/// `Permit<'static>`.
///
/// If [slow calls](super::BreakerBuilder::slow_call_rate) count, a call is slow if it ends, or is dropped, no earlier
/// than the threshold after its admission. Without tower, the breaker cannot see that a call is still in flight. Report
/// it with [`under_way`](Self::under_way), so that the breaker notices a hanging service before the calls to it end.
///
/// Methods whose names end in `_at` take the time from the caller; the others read tokio's clock. All methods except
/// `under_way` and `under_way_at` consume the permit.
#[derive(Debug)]
#[must_use = "a permit that is dropped at once counts as a dropped call"]
pub struct Permit<'breaker> {
    pub(super) breaker: Held<'breaker, Breaker>,
    pub(super) ticket: Option<Ticket>,
}

impl Permit<'_> {
    /// Records a success that ends now.
    #[inline]
    pub fn success(self) {
        self.settle(Evidence::Success, Instant::now);
    }

    /// Records a failure that ends now.
    #[inline]
    pub fn failure(self) {
        self.settle(Evidence::Failure, Instant::now);
    }

    /// Records a success that ended at `now`.
    #[inline]
    pub fn success_at(self, now: Instant) {
        self.settle(Evidence::Success, || now);
    }

    /// Records a failure that ended at `now`.
    #[inline]
    pub fn failure_at(self, now: Instant) {
        self.settle(Evidence::Failure, || now);
    }

    /// Records that the service refused the call now, because it is overloaded. The refusal counts as a failure only if
    /// [`overload_is_failure`](super::BreakerBuilder::overload_is_failure) is set.
    pub fn overloaded(self) {
        self.outcome(Outcome::Overloaded { retry_after: None });
    }

    /// Records a call that ends now and proves nothing about the service, unless it was slow: a slow call counts as
    /// slow. A probe that was not slow returns its place.
    pub fn ignored(self) {
        self.outcome(Outcome::Ignored);
    }

    /// Records a call that ends now with this outcome. See the table of the [module](super).
    pub fn outcome(self, outcome: Outcome) {
        self.settle(Evidence::of(outcome), Instant::now);
    }

    /// Records a call that ended with this outcome at `now`.
    pub fn outcome_at(self, outcome: Outcome, now: Instant) {
        self.settle(Evidence::of(outcome), || now);
    }

    /// Records that a deadline of the caller ends the call now, before the service had enough time to answer. The call
    /// proves nothing, unless it was slow.
    pub fn cut_short(self) {
        self.settle(Evidence::Unanswered, Instant::now);
    }

    /// Records that a deadline of the caller ended the call at `now`; see [`cut_short`](Self::cut_short).
    pub fn cut_short_at(self, now: Instant) {
        self.settle(Evidence::Unanswered, || now);
    }

    /// Reports that the call is still in flight. See [`under_way_at`](Self::under_way_at).
    pub fn under_way(&mut self) {
        self.under_way_at(Instant::now());
    }

    /// Reports that the call is still in flight at `now`. If it has reached the threshold of [slow
    /// calls](super::BreakerBuilder::slow_call_rate), it counts as slow at once, and not again when it ends. Otherwise
    /// nothing happens.
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
