//! A call arrives: the queue admits it, lets it wait, or refuses it. The new call can take the place of a waiter.

use super::{CLASSES, CallPhase, NEVER, Newcomer, QueueRefusal, QueueState, Waiter};
use crate::{
    clock::Nanos,
    error::QueueFullCause,
    load_level::{pace::PaceSlot, places::ServicePlaces},
    waiters::{Backlog, WaiterId},
};

impl QueueState {
    /// Admits an arriving call at once, if the queue is open, no call waits, and the service has room.
    pub(in crate::load_level) fn try_arrive(&mut self, places: &mut ServicePlaces, now: Nanos) -> Option<PaceSlot> {
        self.totals.arrived = self.totals.arrived.wrapping_add(1);
        self.admit(places, now);
        let is_admitted = !self.is_closed && self.waiters.all().calls == 0 && self.has_room(places, now);
        is_admitted.then(|| self.take(places, now))
    }

    /// Admits a call, lets it wait, or refuses it.
    pub(in crate::load_level) fn arrive(
        &mut self,
        newcomer: Newcomer,
        places: &mut ServicePlaces,
        now: Nanos,
    ) -> CallPhase<WaiterId> {
        // New => In the service
        if let Some(slot) = self.try_arrive(places, now) {
            return CallPhase::Admitted(slot);
        }
        let joined = if self.is_closed { Err(QueueRefusal::Closed) } else { self.join(newcomer, places, now) };
        match joined {
            // New => Waiting
            Ok(id) => CallPhase::Waiting(id),
            // New => Refused
            Err(refusal) => {
                self.count(&refusal);
                CallPhase::Refused(refusal)
            }
        }
    }

    /// Adds a newcomer to the waiters, or returns the reason to refuse it.
    fn join(&mut self, newcomer: Newcomer, places: &ServicePlaces, now: Nanos) -> Result<WaiterId, QueueRefusal> {
        let patience = self.patience(newcomer.deadline, now);
        if patience == Nanos::ZERO {
            return Err(self.too_long(Nanos::ZERO, now));
        }
        if u128::from(newcomer.weight) > self.max_weight {
            return Err(self.full(QueueFullCause::TooHeavy, now));
        }
        let gives_up_at = now.saturating_add(patience);
        self.check_in_time(newcomer, gives_up_at, now)?;
        self.make_room(newcomer, gives_up_at, now)?;
        let before = self.waiters.all().calls;
        let next_poll_at = match &self.pace {
            Some(pace) if places.are_free() => pace.due_after(before),
            _ => NEVER,
        };
        let Newcomer { class, weight, deadline } = newcomer;
        let waiter = Waiter { since: now, gives_up_at, deadline };
        let Some(id) = self.waiters.join(class, weight, next_poll_at, waiter) else {
            return Err(self.full(QueueFullCause::Depth, now));
        };
        if let Some(deadlines) = &mut self.deadlines {
            deadlines.join(id, class, weight, gives_up_at);
        }
        if before == 0 {
            self.nonempty_since = now;
            self.rates.begin(now, self.totals);
        }
        self.totals.joined = self.totals.joined.wrapping_add(1);
        Ok(id)
    }

    /// Returns whether the queue has no place for a call that weighs 1, has no deadline, and would be served last.
    pub(in crate::load_level) fn is_full(&self, now: Nanos) -> bool {
        let Backlog { calls, weight } = self.waiters.all();
        let is_full = calls >= self.depth_in_force(now) || weight >= self.max_weight;
        is_full && self.late(now).is_none()
    }

    /// Returns a waiter whose time to wait has ended, so that a newcomer may take its place. Looks only at the oldest
    /// waiter of each class. With [`Discipline::earliest_deadline`](crate::load_level::Discipline::earliest_deadline)
    /// it looks at the most urgent waiter of each class instead.
    pub(super) fn late(&self, now: Nanos) -> Option<WaiterId> {
        let next = |class| match &self.deadlines {
            Some(deadlines) => deadlines.first_of(class),
            None => self.waiters.oldest(class),
        };
        (0..CLASSES).find_map(|class| next(class).filter(|id| self.has_timed_out(*id, now)))
    }

    /// Makes room for one more call. Takes the places of late waiters first, then those of waiters that are worth less
    /// than the newcomer. If that does not make enough room, no waiter that is in time loses its place.
    fn make_room(&mut self, newcomer: Newcomer, gives_up_at: Nanos, now: Nanos) -> Result<(), QueueRefusal> {
        let Newcomer { class, weight, .. } = newcomer;
        let fits = |waiting: Backlog, this: &Self| {
            waiting.calls < this.depth && waiting.weight + u128::from(weight) <= this.max_weight
        };
        if fits(self.waiters.all(), self) {
            return Ok(());
        }
        let full = |this: &Self| {
            let is_deep = this.waiters.all().calls >= this.depth;
            this.full(if is_deep { QueueFullCause::Depth } else { QueueFullCause::Weight }, now)
        };
        // The waiters that would be served before the newcomer leave no room for it.
        let is_hopeless = |this: &Self| !fits(this.before(class, gives_up_at, now), this);
        while !fits(self.waiters.all(), self) {
            let (id, refusal) = match self.late(now) {
                Some(late) => (late, self.waited_too_long(late, now)),
                None if is_hopeless(self) => return Err(full(self)),
                None => match self.least_worthy(class, now) {
                    Some(id) => (id, self.full(QueueFullCause::Displaced, now)),
                    None => return Err(full(self)),
                },
            };
            // Waiting => Refused
            self.refuse(id, refusal, now);
        }
        Ok(())
    }

    /// Returns the waiter that would be served last, if it would be served after a newcomer of this class. The caller
    /// has checked that the waiters before the newcomer leave room for it.
    fn least_worthy(&self, class: usize, now: Nanos) -> Option<WaiterId> {
        if let Some(deadlines) = &self.deadlines {
            // All waiters together leave no room, but those before the newcomer do leave room. So some waiter is served
            // after the newcomer, and the last one is.
            return deadlines.last();
        }
        // If the newest are served first, a newcomer is worth more than the waiters of its own class.
        let newest_first = self.newest_first(now);
        let below = if newest_first { class + 1 } else { class };
        (0..below).find_map(|class| if newest_first { self.waiters.oldest(class) } else { self.waiters.newest(class) })
    }

    /// Returns the waiters that would be served before a newcomer of this class that may wait until `gives_up_at`.
    pub(super) fn before(&self, class: usize, gives_up_at: Nanos, now: Nanos) -> Backlog {
        if let Some(deadlines) = &self.deadlines {
            return deadlines.before(class, gives_up_at);
        }
        let kept = if self.newest_first(now) { class + 1 } else { class };
        (kept..CLASSES).map(|class| self.waiters.of_class(class)).fold(Backlog::default(), Backlog::plus)
    }

    /// Returns how long a call that arrives now may wait.
    pub(super) fn patience(&self, deadline: Nanos, now: Nanos) -> Nanos {
        let left = if deadline == NEVER { NEVER } else { deadline.saturating_sub(now) };
        self.rule.patience(left, self.newest_first(now)).min(self.max_wait)
    }
}
