use super::{Limiter, adaptive::End, places::Place};
use crate::{clock::Nanos, context::Criticality, held::Held};
use std::mem;
use tokio::time::Instant;

/// What a call in flight keeps, as whole words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket {
    place: Place,
    /// The hash of the tenant; zero for none.
    tenant: u64,
    /// When the call was admitted; the largest number where it is not measured.
    since: Nanos,
    /// The time that it had then.
    had: Nanos,
}

impl Ticket {
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

    /// The hash of the tenant that is to leave.
    #[inline]
    pub(super) fn tenant(self) -> Option<u64> {
        (self.tenant != 0).then_some(self.tenant)
    }

    #[inline]
    pub(super) fn since(self) -> Option<(Nanos, Nanos)> {
        (self.since != Nanos::MAX).then_some((self.since, self.had))
    }
}

/// One place among the calls in flight, given back when dropped. One that owns its limiter is a `Permit<'static>`.
///
/// A permit that is dropped counts as a call that was answered. For an adaptive limit,
/// [`given_up`](Self::given_up) and [`spared`](Self::spared) say otherwise.
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

    /// Gives the place back of a call that was given up before it was answered.
    pub fn given_up(mut self) {
        self.end = End::GivenUp;
    }

    /// Gives the place back of a call that did not reach the service, or was refused by it. It says nothing about the
    /// rate at which calls end.
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
