//! How a call takes a place of a limiter.

use super::{Limiter, permit::Ticket, places::InFlight, terms::Ask};
use crate::{
    context::{CallContext, Criticality},
    error::Overloaded,
    sync::Ordering,
};
use tokio::time::Instant;

impl Limiter {
    /// Takes one place for a call with the current context, now, or refuses the call and counts the refusal.
    #[inline]
    pub(super) fn enter_now(&self) -> Result<Ticket, Overloaded> {
        if self.is_plain() {
            self.enter_plain(false)
        } else {
            self.enter(&Ask::of(&CallContext::current()), Instant::now)
        }
    }

    /// Takes one place of a plain fixed limit, or refuses the call and counts the refusal.
    #[inline]
    pub(super) fn enter_plain(&self, is_exempt: bool) -> Result<Ticket, Overloaded> {
        let rule = self.rule();
        let is_shadow = rule.is_shadow();
        let has_room = |in_flight: InFlight| is_shadow || is_exempt || rule.has_room_beside(in_flight.total());
        match self.shared.places.enter(Criticality::default(), has_room) {
            Ok((others, _)) => {
                if is_shadow && !is_exempt && !rule.has_room_beside(others.total()) {
                    self.shared.would_have_refused.fetch_add(1, Ordering::Relaxed);
                }
                Ok(Ticket::PLAIN)
            }
            Err(_) => {
                self.shared.refused.add_one();
                Err(Overloaded::new(rule.limit(), None))
            }
        }
    }

    /// Takes one place, which [`leave`](Self::leave) gives back, or refuses the call and counts the refusal.
    #[inline]
    pub(super) fn enter(&self, ask: &Ask, now: impl FnOnce() -> Instant) -> Result<Ticket, Overloaded> {
        match &self.shared.terms {
            None => self.enter_plain(ask.is_exempt),
            Some(terms) => self.enter_by(terms, ask, now),
        }
    }
}
