//! A call's way through the queue: without the lock in the fast mode of its [word](crate::load_level::places), and
//! under the lock otherwise.

use super::{Queue, QueueShared};
use crate::{
    clock::Nanos,
    context::Criticality,
    deadline::Deadline,
    load_level::{
        pace::PaceSlot,
        places::{Mode, Places},
        state::{CLASSES, CallPhase, NEVER, Newcomer, QueueState},
    },
    sync::{MutexGuard, lock},
    waiters::{Place, drop_waker},
};
use std::task::Waker;
use tokio::time::Instant;

/// A call that comes, as its stage sees it.
#[derive(Clone, Copy, Debug)]
pub(in crate::load_level) struct ArrivingCall {
    pub(in crate::load_level) weight: u64,
    pub(in crate::load_level) criticality: Criticality,
    pub(in crate::load_level) deadline: Deadline,
}

impl Queue {
    /// Takes a place in the service if that needs no lock. [`end`](Self::end) gives it back.
    #[inline]
    pub(in crate::load_level) fn enter(&self) -> bool {
        self.shared.word.enter()
    }

    /// Takes a place in the service under the lock, and does not wait.
    #[cold]
    pub(super) fn enter_slowly(&self, now: Instant) -> bool {
        self.locked(now, |state, places, now| state.try_arrive(places, now).is_some()).0
    }

    /// Takes a place in the service, or one in the queue, or neither. Returns also whether it ran wakers.
    pub(in crate::load_level) fn arrive(&self, call: ArrivingCall, now: Instant) -> (CallPhase<Place>, bool) {
        self.locked(now, |state, places, now| {
            let class = if state.by_criticality { (call.criticality as usize).min(CLASSES - 1) } else { 0 };
            let deadline = call.deadline.instant().map_or(NEVER, |instant| self.shared.origin.to(instant));
            state.arrive(Newcomer { class, weight: call.weight, deadline }, places, now)
        })
    }

    /// Asks whether it is the turn of this place. A place that waits on is asked for again at the instant in `Waiting`,
    /// or when the waker is woken. An admitted place has become one in the service; a refused one is gone.
    pub(in crate::load_level) fn poll(&self, place: Place, waker: &Waker, now: Instant) -> CallPhase<Instant> {
        // A waker is user code, and none runs with the lock held.
        let mut waker = Some(waker.clone());
        let ((phase, wait), _) = self.locked(now, |state, places, nanos| {
            let phase = state.poll(place, &mut waker, places, nanos);
            let wait =
                if let CallPhase::Waiting(asks_at) = phase { asks_at.saturating_sub(nanos) } else { Nanos::ZERO };
            (phase, wait)
        });
        drop_waker(waker);
        match phase {
            CallPhase::Waiting(_) => match now.checked_add(wait.duration()) {
                Some(asks_at) => CallPhase::Waiting(asks_at),
                // Its turn would come after the last instant that there is.
                None => {
                    let (refusal, _) = self.locked(now, |state, places, now| {
                        let refusal = state.too_long_of(place, now);
                        state.leave(place, places, now);
                        refusal
                    });
                    CallPhase::Refused(refusal)
                }
            },
            CallPhase::Admitted(slot) => CallPhase::Admitted(slot),
            CallPhase::Refused(refusal) => CallPhase::Refused(refusal),
        }
    }

    /// Gives up a place in the queue, or the one in the service that it has become.
    pub(in crate::load_level) fn leave(&self, place: Place, now: Instant) {
        self.locked(now, |state, places, now| state.leave(place, places, now));
    }

    /// Gives a place in the service back, exactly once for each that was taken, and the unused share of the pace.
    /// Returns whether it ran wakers.
    #[inline]
    pub(in crate::load_level) fn end(&self, unused: PaceSlot, now: impl FnOnce() -> Instant) -> bool {
        !self.shared.word.end() && self.end_slowly(unused, now())
    }

    #[cold]
    fn end_slowly(&self, unused: PaceSlot, now: Instant) -> bool {
        self.locked(now, |state, places, now| state.end(unused, places, now)).1
    }

    /// Whether a call that weighs 1 finds no place to wait, unless it is worth more than a waiter. In a closed queue it
    /// finds none. Reads the clock and takes the lock in the slow mode only.
    pub(in crate::load_level) fn is_full(&self, now: impl FnOnce() -> Instant) -> bool {
        let QueueShared { word, origin, state } = &*self.shared;
        if word.mode() == Mode::Fast {
            return false;
        }
        let now = origin.to(now());
        let state = lock(state);
        state.is_closed() || state.is_full(state.time_at(now))
    }

    /// Takes the lock for `work`, releases it, and wakes the waiters whose turn has come. Returns also whether it ran
    /// wakers.
    pub(super) fn locked<T>(
        &self,
        now: Instant,
        work: impl FnOnce(&mut QueueState, &mut Places, Nanos) -> T,
    ) -> (T, bool) {
        let (result, mut state) = self.with_lock(now, work);
        let woke = state.waiters.take_wakers().wake_after(state);
        (result, woke)
    }

    /// Takes the lock for `work`, and returns with it held. The wakers of the waiters whose turn has come stay where
    /// they are, for the next who takes the lock by [`locked`](Self::locked).
    pub(super) fn with_lock<T>(
        &self,
        now: Instant,
        work: impl FnOnce(&mut QueueState, &mut Places, Nanos) -> T,
    ) -> (T, MutexGuard<'_, QueueState>) {
        let QueueShared { word, origin, state } = &*self.shared;
        let mut state = lock(state);
        let mut places = word.take_over(&state);
        let now = state.advance_to(origin.to(now));
        let result = work(&mut state, &mut places, now);
        state.expect_next(&places, now);
        word.hand_back(places, &state);
        (result, state)
    }
}
