//! A task polls its waiter or drops it, and an admitted call ends.

use super::{CallPhase, NEVER, QueueState};
use crate::{
    clock::Nanos,
    load_level::{pace::PaceSlot, places::ServicePlaces},
    waiters::WaiterId,
};
use std::task::Waker;

impl QueueState {
    /// Answers the task of a waiter. If the call keeps waiting, its task polls again at the instant in `Waiting`, and
    /// `waker` is swapped with the stored one. Otherwise the call has left the queue.
    pub(in crate::load_level) fn poll(
        &mut self,
        id: WaiterId,
        waker: &mut Option<Waker>,
        places: &mut ServicePlaces,
        now: Nanos,
    ) -> CallPhase<Nanos> {
        self.waiters.announce(id);
        self.admit(places, now);
        match self.waiters.take_answer(id) {
            // Admitted => Refused
            Some((Ok(slot), waiter)) if now >= waiter.deadline => {
                let refusal = self.too_long(now.saturating_sub(waiter.since), now);
                self.count(&refusal);
                self.end(slot, places, now);
                return CallPhase::Refused(refusal);
            }
            // Admitted => In the service
            Some((Ok(slot), _)) => return CallPhase::Admitted(slot),
            // Refused => Left
            Some((Err(refusal), _)) => return CallPhase::Refused(refusal),
            None => {}
        }
        let Some(waiter) = self.waiters.get(id) else { crate::shell::polled_after_end() };
        // Waiting => Refused
        if now >= waiter.gives_up_at {
            let refusal = self.waited_too_long(id, now);
            self.count(&refusal);
            self.record_wait(id, now);
            self.waiters.leave(id);
            self.count_departure(now);
            return CallPhase::Refused(refusal);
        }
        // Waiting => Waiting
        let next_poll_at = match &self.pace {
            // If a place is free, the next waiter polls when the pace allows it. Each other waiter polls at its
            // expected turn, if that is still to come. If such a waiter becomes the next one and the pace allows it
            // earlier, the queue wakes it.
            Some(pace) if places.are_free() && self.next(now) == Some(id) => pace.due(),
            _ => self.waiters.next_poll_at(id).filter(|at| *at > now).unwrap_or(NEVER),
        };
        self.waiters.wait_on(id, next_poll_at, waker);
        CallPhase::Waiting(waiter.gives_up_at.min(next_poll_at))
    }

    /// Removes a call that its task drops.
    pub(in crate::load_level) fn leave(&mut self, id: WaiterId, places: &mut ServicePlaces, now: Nanos) {
        match self.waiters.take_answer(id) {
            // Admitted => Left
            Some((Ok(slot), _)) => self.end(slot, places, now),
            // Refused => Left
            Some((Err(_), _)) => {}
            // Waiting => Left
            None => {
                self.record_wait(id, now);
                self.waiters.leave(id);
                self.counts.cancelled += 1;
                self.count_departure(now);
            }
        }
    }

    /// Ends an admitted call. `unused` is its slot of the pace if the call did not reach the service, else
    /// [`PaceSlot::NONE`].
    pub(in crate::load_level) fn end(&mut self, unused: PaceSlot, places: &mut ServicePlaces, now: Nanos) {
        places.taken = places.taken.saturating_sub(1);
        if let Some(pace) = &mut self.pace {
            pace.give_back(unused);
        }
        self.admit(places, now);
    }
}
