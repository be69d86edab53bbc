//! A task polls its waiter or drops it, and an admitted call ends.

use super::{CallPhase, NEVER, QueueState};
use crate::{
    clock::Nanos,
    load_level::{pace::PaceStart, places::Places},
    waiters::Place,
};
use std::task::Waker;

impl QueueState {
    /// Answers the task that holds a place. The call keeps the place only while it waits; its task polls again at the
    /// instant in `Waiting`. In that case `waker` is swapped with the stored one.
    pub(in crate::load_level) fn poll(
        &mut self,
        place: Place,
        waker: &mut Option<Waker>,
        places: &mut Places,
        now: Nanos,
    ) -> CallPhase<Nanos> {
        self.waiters.announce(place);
        self.admit(places, now);
        match self.waiters.take_answer(place) {
            // Admitted => Refused
            Some((Ok(start), waiter)) if now >= waiter.deadline => {
                let refusal = self.too_long(now.saturating_sub(waiter.since), now);
                self.count(&refusal);
                self.end(start, places, now);
                return CallPhase::Refused(refusal);
            }
            // Admitted => In the service
            Some((Ok(start), _)) => return CallPhase::Admitted(start),
            // Refused => Left
            Some((Err(refusal), _)) => return CallPhase::Refused(refusal),
            None => {}
        }
        let Some(waiter) = self.waiters.get(place) else { crate::shell::polled_after_end() };
        // Waiting => Refused
        if now >= waiter.gives_up_at {
            let refusal = self.too_long_of(place, now);
            self.count(&refusal);
            self.note_leaving(place, now);
            self.waiters.leave(place);
            self.one_left(now);
            return CallPhase::Refused(refusal);
        }
        // Waiting => Waiting
        let asks_at = match &self.pace {
            // The next waiter polls when the pace allows it. The queue wakes the others when they become the next.
            Some(pace) if places.are_free() && self.next(now) == Some(place) => pace.due(),
            _ => self.waiters.asks_at(place).filter(|at| *at > now).unwrap_or(NEVER),
        };
        self.waiters.wait_on(place, asks_at, waker);
        CallPhase::Waiting(waiter.gives_up_at.min(asks_at))
    }

    /// Gives up the place of a call that its task drops.
    pub(in crate::load_level) fn leave(&mut self, place: Place, places: &mut Places, now: Nanos) {
        match self.waiters.take_answer(place) {
            // Admitted => Left
            Some((Ok(start), _)) => self.end(start, places, now),
            // Refused => Left
            Some((Err(_), _)) => {}
            // Waiting => Left
            None => {
                self.note_leaving(place, now);
                self.waiters.leave(place);
                self.counts.cancelled += 1;
                self.one_left(now);
            }
        }
    }

    /// Ends a call in the service. `unused` is its start time of the pace if it did not reach the service.
    pub(in crate::load_level) fn end(&mut self, unused: PaceStart, places: &mut Places, now: Nanos) {
        places.taken = places.taken.saturating_sub(1);
        if let Some(pace) = &mut self.pace {
            pace.give_back(unused);
        }
        self.admit(places, now);
    }
}
