use super::{Limiter, adaptive::End, places::Place};
use crate::{clock::Nanos, context::Criticality, held::Held};
use std::mem;
use tokio::time::Instant;

/// The state of a call in flight, in fields of one machine word each; `crate::words` states the reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket {
    place: Place,
    /// The hash of the tenant; zero for none.
    tenant: u64,
    /// When the call was admitted; the largest number if its latency is not measured.
    since: Nanos,
    /// The remaining time of the call at its admission; the largest number if its latency is not measured.
    had: Nanos,
}

impl Ticket {
    /// The ticket of each call of a plain fixed limit, which does not count by class.
    pub(super) const PLAIN: Self =
        Self { place: Place::of(Criticality::Critical), tenant: 0, since: Nanos::MAX, had: Nanos::MAX };

    #[inline]
    pub(super) fn of(place: Place, tenant: u64) -> Self {
        Self { place, tenant, ..Self::PLAIN }
    }

    #[inline]
    pub(super) fn measured(self, since: Nanos, had: Nanos) -> Self {
        Self { since, had, ..self }
    }

    #[inline]
    pub(super) fn place(self) -> Place {
        self.place
    }

    /// Returns the hash of the tenant, or `None` for a call without one.
    #[inline]
    pub(super) fn tenant(self) -> Option<u64> {
        (self.tenant != 0).then_some(self.tenant)
    }

    /// Returns when the call was admitted, and its remaining time at that instant. `None` if the latency of the call is
    /// not measured.
    #[inline]
    pub(super) fn since(self) -> Option<(Nanos, Nanos)> {
        (self.since != Nanos::MAX).then_some((self.since, self.had))
    }
}

/// One place among the calls in flight, given back on drop. A permit that owns its limiter is a `Permit<'static>`.
///
/// To an adaptive limit, a dropped permit is a call that was answered. Use [`given_up`](Self::given_up) or
/// [`spared`](Self::spared) for calls that were not.
#[derive(Debug)]
#[must_use = "a permit that is dropped at once limits nothing"]
pub struct Permit<'limiter> {
    limiter: Held<'limiter, Limiter>,
    ticket: Ticket,
    end: End,
}

impl<'limiter> Permit<'limiter> {
    #[inline]
    pub(super) fn new(limiter: Held<'limiter, Limiter>, ticket: Ticket) -> Self {
        Self { limiter, ticket, end: End::Completed }
    }

    /// Gives back the place of a call that was given up before it was answered. An adaptive limit counts the call as
    /// given up only if the call is [measured](super#cost) and took more than 85% of its time.
    pub fn given_up(mut self) {
        self.end = End::GivenUp;
    }

    /// Gives back the place of a call that did not reach the service, or that the service refused. An adaptive limit
    /// counts the call neither as answered nor as given up.
    pub fn spared(mut self) {
        self.end = End::Spared;
    }
}

impl Drop for Permit<'_> {
    #[inline]
    fn drop(&mut self) {
        let end = mem::replace(&mut self.end, End::Completed);
        self.limiter.leave(self.ticket, end, Instant::now);
    }
}
