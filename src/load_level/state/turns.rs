//! Decides which waiter is next, which has waited too long, and when to wake the next one.

use super::{CLASSES, QueueRefusal, QueueState};
use crate::{
    clock::Nanos,
    load_level::{discipline::Rule, pace::PaceSlot, places::ServicePlaces},
    waiters::WaiterId,
};

impl QueueState {
    /// While there is room, admits the next waiter, or refuses it if it has waited too long.
    pub(in crate::load_level) fn admit(&mut self, places: &mut ServicePlaces, now: Nanos) {
        while self.has_room(places, now) {
            let Some(id) = self.next(now) else { return };
            if self.has_timed_out(id, now) || self.exceeds_target(id, now) {
                // Waiting => Refused
                let refusal = self.waited_too_long(id, now);
                self.refuse(id, refusal, now);
            } else {
                // Waiting => Admitted
                let slot = self.take(places, now);
                if let Some(rate) = &mut self.service_rate {
                    rate.record_service(self.nonempty_since, now, places.limit);
                }
                self.answer(id, Ok(slot), now);
            }
        }
    }

    pub(super) fn has_room(&self, places: &ServicePlaces, now: Nanos) -> bool {
        places.are_free() && self.pace.is_none_or(|pace| pace.due() <= now)
    }

    /// Takes a place in the service and, if there is a pace, its next slot. Requires [`has_room`](Self::has_room).
    pub(super) fn take(&mut self, places: &mut ServicePlaces, now: Nanos) -> PaceSlot {
        places.taken += 1;
        self.totals.served = self.totals.served.wrapping_add(1);
        self.pace.as_mut().and_then(|pace| pace.take(now)).unwrap_or(PaceSlot::NONE)
    }

    /// Returns the waiter whose turn is next.
    pub(super) fn next(&self, now: Nanos) -> Option<WaiterId> {
        if let Some(deadlines) = &self.deadlines {
            return deadlines.first();
        }
        let newest_first = self.newest_first(now);
        (0..CLASSES)
            .rev()
            .find_map(|class| if newest_first { self.waiters.newest(class) } else { self.waiters.oldest(class) })
    }

    /// Returns whether the newest waiter of a class is served first now.
    pub(super) fn newest_first(&self, now: Nanos) -> bool {
        match self.rule {
            Rule::Lifo => true,
            Rule::Adaptive { interval, .. } => self.has_standing_queue(interval, now),
            Rule::Deadline { .. } | Rule::Fifo => false,
        }
    }

    /// Returns whether there is a standing queue: calls have been waiting without a break for longer than the interval.
    fn has_standing_queue(&self, interval: Nanos, now: Nanos) -> bool {
        self.waiters.all().calls > 0 && now.saturating_sub(self.nonempty_since) > interval
    }

    /// Returns whether the waiter's own limit `gives_up_at` has passed.
    pub(super) fn has_timed_out(&self, id: WaiterId, now: Nanos) -> bool {
        self.waiters.get(id).is_some_and(|waiter| now >= waiter.gives_up_at)
    }

    /// Returns whether there is a standing queue and this call has waited for longer than the discipline's target.
    fn exceeds_target(&self, id: WaiterId, now: Nanos) -> bool {
        match self.rule {
            Rule::Adaptive { target, interval } if self.has_standing_queue(interval, now) => {
                self.waiters.get(id).is_some_and(|waiter| now.saturating_sub(waiter.since) > target)
            }
            _ => false,
        }
    }

    /// Refuses a waiter, and counts the refusal.
    pub(super) fn refuse(&mut self, id: WaiterId, refusal: QueueRefusal, now: Nanos) {
        self.count(&refusal);
        self.answer(id, Err(refusal), now);
    }

    /// Removes a waiter from the queue, and keeps the answer for its task.
    fn answer(&mut self, id: WaiterId, answer: Result<PaceSlot, QueueRefusal>, now: Nanos) {
        self.record_wait(id, now);
        self.waiters.answer(id, answer);
        self.count_departure(now);
    }

    /// Records the wait of a waiter that is about to leave the queue, served or not, and removes the waiter from the
    /// order by urgency. Called while the waiter is still in the list.
    pub(super) fn record_wait(&mut self, id: WaiterId, now: Nanos) {
        if let Some(waiter) = self.waiters.get(id) {
            self.waits.record(now.saturating_sub(waiter.since).duration());
        }
        if let Some(deadlines) = &mut self.deadlines {
            deadlines.leave(id);
        }
    }

    /// Counts a waiter that has left the queue, served or not. If the queue is now empty, ends the backlog.
    pub(super) fn count_departure(&mut self, now: Nanos) {
        self.totals.left = self.totals.left.wrapping_add(1);
        if self.waiters.all().calls == 0 {
            self.nonempty_since = now;
            self.rates.end(now, self.totals);
        }
    }

    /// Wakes the next waiter if only the pace holds it back and its timer is set for later than the pace's next slot.
    pub(in crate::load_level) fn wake_next_for_pace(&mut self, places: &ServicePlaces, now: Nanos) {
        let Some(pace) = &self.pace else { return };
        let Some(next) = self.next(now).filter(|_| places.are_free()) else { return };
        let due = pace.due();
        if self.waiters.next_poll_at(next).is_some_and(|at| at > due) {
            self.waiters.expect(next, due);
        }
    }
}
