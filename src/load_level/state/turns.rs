//! The turns of the waiters: which waiter is next, which has waited too long, and when to wake one.

use super::{CLASSES, QueueRefusal, QueueState};
use crate::{
    clock::Nanos,
    load_level::{discipline::Rule, pace::PaceStart, places::Places},
    waiters::Place,
};

impl QueueState {
    /// Admits or refuses the waiters whose turn has come.
    pub(in crate::load_level) fn admit(&mut self, places: &mut Places, now: Nanos) {
        while self.has_room(places, now) {
            let Some(place) = self.next(now) else { return };
            if self.is_late(place, now) || self.is_stale(place, now) {
                // Waiting => Refused
                let refusal = self.too_long_of(place, now);
                self.refuse(place, refusal, now);
            } else {
                // Waiting => Admitted
                let start = self.take(places, now);
                if let Some(rate) = &mut self.service_rate {
                    rate.one_served(self.last_empty, now, places.limit);
                }
                self.answer(place, Ok(start), now);
            }
        }
    }

    pub(super) fn has_room(&self, places: &Places, now: Nanos) -> bool {
        places.are_free() && self.pace.is_none_or(|pace| pace.due() <= now)
    }

    /// Takes a place in the service, and a start time of the pace.
    pub(super) fn take(&mut self, places: &mut Places, now: Nanos) -> PaceStart {
        places.taken += 1;
        self.totals.served = self.totals.served.wrapping_add(1);
        self.pace.as_mut().and_then(|pace| pace.take(now)).unwrap_or(PaceStart::NONE)
    }

    /// Returns the waiter that is served next.
    pub(super) fn next(&self, now: Nanos) -> Option<Place> {
        if let Some(deadlines) = &self.deadlines {
            return deadlines.first();
        }
        let newest_first = self.newest_first(now);
        (0..CLASSES)
            .rev()
            .find_map(|class| if newest_first { self.waiters.newest(class) } else { self.waiters.oldest(class) })
    }

    pub(super) fn newest_first(&self, now: Nanos) -> bool {
        match self.rule {
            Rule::Lifo => true,
            Rule::Adaptive { interval, .. } => self.has_standing_queue(interval, now),
            Rule::Deadline { .. } | Rule::Fifo => false,
        }
    }

    /// Returns whether there is a standing queue: it has not been empty for longer than the interval.
    fn has_standing_queue(&self, interval: Nanos, now: Nanos) -> bool {
        self.waiters.all().calls > 0 && now.saturating_sub(self.last_empty) > interval
    }

    /// Returns whether a call's time to wait has ended.
    pub(super) fn is_late(&self, place: Place, now: Nanos) -> bool {
        self.waiters.get(place).is_some_and(|waiter| now >= waiter.gives_up_at)
    }

    /// Returns whether a call has waited for longer than the target of a standing queue.
    fn is_stale(&self, place: Place, now: Nanos) -> bool {
        match self.rule {
            Rule::Adaptive { target, interval } if self.has_standing_queue(interval, now) => {
                self.waiters.get(place).is_some_and(|waiter| now.saturating_sub(waiter.since) > target)
            }
            _ => false,
        }
    }

    pub(super) fn refuse(&mut self, place: Place, refusal: QueueRefusal, now: Nanos) {
        self.count(&refusal);
        self.answer(place, Err(refusal), now);
    }

    fn answer(&mut self, place: Place, answer: Result<PaceStart, QueueRefusal>, now: Nanos) {
        self.note_leaving(place, now);
        self.waiters.answer(place, answer);
        self.one_left(now);
    }

    /// Notes that a waiter leaves the queue, served or not, while it still has its place.
    pub(super) fn note_leaving(&mut self, place: Place, now: Nanos) {
        if let Some(waiter) = self.waiters.get(place) {
            self.waits.record(now.saturating_sub(waiter.since).duration());
        }
        if let Some(deadlines) = &mut self.deadlines {
            deadlines.leave(place);
        }
    }

    /// Counts a waiter that has left the queue, served or not.
    pub(super) fn one_left(&mut self, now: Nanos) {
        self.totals.left = self.totals.left.wrapping_add(1);
        if self.waiters.all().calls == 0 {
            self.last_empty = now;
            self.rates.end(now, self.totals);
        }
    }

    /// Wakes the next waiter if it waits for the pace alone, and its timer would fire later than the pace allows.
    pub(in crate::load_level) fn expect_next(&mut self, places: &Places, now: Nanos) {
        let Some(pace) = &self.pace else { return };
        let Some(next) = self.next(now).filter(|_| places.are_free()) else { return };
        let due = pace.due();
        if self.waiters.asks_at(next).is_some_and(|asks_at| asks_at > due) {
            self.waiters.expect(next, due);
        }
    }
}
