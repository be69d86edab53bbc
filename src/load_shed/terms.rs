//! Admission by a limit that is adaptive, or that has classes, tenants or signals.

use super::{
    Limiter,
    adaptive::{Adaptive, End},
    classes::{Classes, Full},
    fair::Tenants,
    permit::Ticket,
    places::InFlight,
    refusals::Refusals,
    rule::Rule,
    signal::Signals,
};
use crate::{
    clock::Nanos,
    context::{CallContext, Criticality},
    deadline::Deadline,
    error::{ConfigError, Overloaded, OverloadedCause},
    sync::Ordering,
};
use std::hash::Hash;
use tokio::time::Instant;

/// The parts of a limiter that a plain fixed limit does not have.
pub(super) struct AdmissionTerms {
    /// `None` for a fixed limit.
    pub(super) adaptive: Option<Adaptive>,
    /// The lower bound of an adaptive limit. 1 for a fixed limit.
    pub(super) floor: u64,
    pub(super) classes: Classes,
    pub(super) refusals: Refusals,
    /// `None` if tenants are not distinguished.
    pub(super) tenants: Option<Tenants>,
    /// `None` without signals.
    pub(super) signals: Option<Signals>,
}

/// What a limiter needs to know about a call.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ask {
    pub(super) class: Criticality,
    pub(super) deadline: Deadline,
    /// The call is admitted regardless of the limit.
    pub(super) is_exempt: bool,
    /// The hash of the tenant; zero for none.
    pub(super) tenant: u64,
}

impl Ask {
    #[inline]
    pub(super) fn of(context: &CallContext) -> Self {
        Self { class: context.criticality(), deadline: context.deadline_or_never(), is_exempt: false, tenant: 0 }
    }
}

impl Limiter {
    /// Returns the hash of a tenant: never zero, except without a fair share.
    pub(super) fn hash_of(&self, key: &impl Hash) -> u64 {
        self.tenants().map_or(0, |tenants| tenants.hash_of(key))
    }

    pub(super) fn tenants(&self) -> Option<&Tenants> {
        self.shared.terms.as_ref()?.tenants.as_ref()
    }

    /// Takes one place of a limit that is not a plain fixed limit, or refuses the call and counts the refusal.
    pub(super) fn enter_by(
        &self,
        terms: &AdmissionTerms,
        ask: &Ask,
        now: impl FnOnce() -> Instant,
    ) -> Result<Ticket, Overloaded> {
        let rule = self.rule();
        let places = &self.shared.places;
        let mut at = Nanos::ZERO;
        let mut had = Nanos::MAX;
        let mut limit = rule.word_limit();
        let now = (terms.adaptive.is_some() || terms.signals.is_some()).then(now);
        if let (Some(adaptive), Some(now)) = (&terms.adaptive, now) {
            at = adaptive.time(now);
            had = adaptive.remaining(ask.deadline.instant(), now);
            adaptive.arrives(had, places.in_flight().total(), at);
            limit = adaptive.limit_for(had).max(terms.floor).min(limit);
        }
        let mut by_limit = OverloadedCause::Limit;
        if let (Some(signals), Some(now)) = (&terms.signals, now) {
            let usual = terms.adaptive.as_ref().map_or(u64::MAX, |adaptive| adaptive.usual_limit().max(terms.floor));
            signals.refresh(places.in_flight().total(), usual.min(rule.word_limit()), now);
            let cap = signals.cap().max(terms.floor);
            if cap < limit {
                limit = cap;
                by_limit = OverloadedCause::Signal;
            }
        }
        let cause_of = |full| match full {
            Full::Limit => by_limit,
            Full::Class => OverloadedCause::Class,
        };
        let lets_all_in = ask.is_exempt || rule.is_shadow();
        let refuse = |cause| {
            terms.refusals.count(ask.class, cause);
            Err(Overloaded::new(usize::try_from(limit).unwrap_or(usize::MAX), None).by(cause))
        };
        // The tenant's share decides first. A call that it refuses then never enters the exact count of all calls.
        let mut has_its_share = false;
        let tenants = terms.tenants.as_ref().filter(|_| ask.tenant != 0);
        if let Some(tenants) = tenants {
            let in_flight = places.in_flight();
            let allowed = tenants.allowed(terms.shared_out(ask.class, limit, in_flight), in_flight.total());
            if lets_all_in {
                has_its_share = tenants.add(ask.tenant) > allowed;
            } else if !tenants.enter(ask.tenant, allowed) {
                let full = terms.classes.room(ask.class, limit, in_flight).err();
                return refuse(full.map_or(OverloadedCause::Tenant, cause_of));
            }
        }
        let entered =
            places.enter(ask.class, |in_flight| lets_all_in || terms.classes.room(ask.class, limit, in_flight).is_ok());
        let (others, place) = match entered {
            Ok(entered) => entered,
            Err(in_flight) => {
                if let Some(tenants) = tenants {
                    tenants.leave(ask.tenant);
                }
                return refuse(cause_of(terms.classes.room(ask.class, limit, in_flight).err().unwrap_or(Full::Limit)));
            }
        };
        if ask.is_exempt {
            terms.refusals.count_exempt();
        } else if rule.is_shadow() && (has_its_share || terms.classes.room(ask.class, limit, others).is_err()) {
            self.shared.would_have_refused.fetch_add(1, Ordering::Relaxed);
        }
        let ticket = Ticket::of(place, ask.tenant);
        match &terms.adaptive {
            Some(adaptive) if adaptive.admitted(others.total() + 1, limit, at) => Ok(ticket.measured(at, had)),
            _ => Ok(ticket),
        }
    }

    /// Gives one place back. The caller runs it exactly once for each [`enter`](Self::enter) that took one.
    #[inline]
    pub(super) fn leave(&self, ticket: Ticket, end: End, now: impl FnOnce() -> Instant) {
        let left = self.shared.places.leave(ticket.place());
        let Some(terms) = self.shared.terms.as_deref() else { return };
        if let (Some(tenants), Some(tenant)) = (&terms.tenants, ticket.tenant()) {
            tenants.leave(tenant);
        }
        if let Some(adaptive) = &terms.adaptive {
            match ticket.since() {
                None => adaptive.ended(end, left, now),
                Some((since, had)) => {
                    let now = now();
                    adaptive.measure(since, had, end, adaptive.time(now));
                    adaptive.ended(end, left, || now);
                }
            }
        }
    }
}

impl AdmissionTerms {
    pub(super) fn check(&self, limit: usize) -> Result<(), ConfigError> {
        if self.adaptive.is_some() && (limit as u64) < self.floor {
            let rule = format!("the limit, or the ceiling, must be at least the floor of {}", self.floor);
            return Err(ConfigError::new("load_shed.limit", limit, rule));
        }
        if self.classes.guarantees() && limit as u64 > super::places::MOST_IN_CLASS {
            let rule = "must be at most 65,535 where a class is guaranteed a share";
            return Err(ConfigError::new("load_shed.limit", limit, rule));
        }
        Ok(())
    }

    /// Returns the limit for a call with this deadline.
    pub(super) fn limit_for(&self, rule: Rule, deadline: Deadline, now: impl FnOnce() -> Instant) -> u64 {
        let limit = match &self.adaptive {
            Some(adaptive) => {
                let had = adaptive.remaining(deadline.instant(), now());
                adaptive.limit_for(had).max(self.floor).min(rule.word_limit())
            }
            None => rule.word_limit(),
        };
        self.capped(limit)
    }

    /// Returns the limit after the signals have lowered it.
    pub(super) fn capped(&self, limit: u64) -> u64 {
        self.signals.as_ref().map_or(limit, |signals| limit.min(signals.cap().max(self.floor)))
    }

    /// Returns the number of places that the tenants of a class share. These are the places that are taken, and those
    /// that are free for calls of this class.
    #[inline]
    fn shared_out(&self, class: Criticality, limit: u64, in_flight: InFlight) -> u64 {
        if in_flight.is_by_class() {
            in_flight.total().saturating_add(self.classes.free_beside_guarantees(class, limit, in_flight))
        } else {
            self.classes.visible(class, limit)
        }
    }
}
