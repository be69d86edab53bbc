//! The way of a call through the queue: without the lock in the fast mode of its [word](crate::load_level::places), and
//! under the lock in the slow mode.

use super::{Queue, QueueShared};
use crate::{
    clock::Nanos,
    context::Criticality,
    deadline::Deadline,
    load_level::{
        pace::PaceStart,
        places::{Mode, Places},
        state::{CLASSES, CallPhase, NEVER, Newcomer, QueueState},
    },
    sync::{MutexGuard, lock},
    waiters::{Place, drop_waker},
};
use std::task::Waker;
use tokio::time::Instant;

/// An arriving call, as its stage describes it.
#[derive(Clone, Copy, Debug)]
pub(in crate::load_level) struct ArrivingCall {
    pub(in crate::load_level) weight: u64,
    pub(in crate::load_level) criticality: Criticality,
    pub(in crate::load_level) deadline: Deadline,
}

impl Queue {
    /// Takes a place in the service if this needs no lock. [`end`](Self::end) returns the place.
    #[inline]
    pub(in crate::load_level) fn enter(&self) -> bool {
        self.shared.word.enter()
    }

    /// Takes a place in the service under the lock, if one is free. Does not wait.
    #[cold]
    pub(super) fn enter_slowly(&self, now: Instant) -> bool {
        self.locked(now, |state, places, now| state.try_arrive(places, now).is_some()).0
    }

    /// Takes a place in the service, or a place in the queue, or refuses the call. Also returns whether it ran wakers.
    pub(in crate::load_level) fn arrive(&self, call: ArrivingCall, now: Instant) -> (CallPhase<Place>, bool) {
        self.locked(now, |state, places, now| {
            let class = if state.by_criticality { (call.criticality as usize).min(CLASSES - 1) } else { 0 };
            let deadline = call.deadline.instant().map_or(NEVER, |instant| self.shared.origin.to(instant));
            state.arrive(Newcomer { class, weight: call.weight, deadline }, places, now)
        })
    }

    /// Asks whether the turn of this place has come. A place that keeps waiting asks again at the instant in `Waiting`,
    /// or when `waker` is woken. An admitted place has become a place in the service; a refused place is gone.
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
                // Its turn would come after the last instant that the clock can represent.
                None => {
                    let (refusal, _) = self.locked(now, |state, places, now| {
                        let refusal = state.too_long_of(place, now);
                        state.leave(place, places, now);
                        refusal
                    });
                    CallPhase::Refused(refusal)
                }
            },
            CallPhase::Admitted(start) => CallPhase::Admitted(start),
            CallPhase::Refused(refusal) => CallPhase::Refused(refusal),
        }
    }

    /// Gives up a place in the queue, or the place in the service that it has become.
    pub(in crate::load_level) fn leave(&self, place: Place, now: Instant) {
        self.locked(now, |state, places, now| state.leave(place, places, now));
    }

    /// Returns a place in the service, exactly once for each that was taken, and the start time of the pace that the
    /// call did not use. Returns whether it ran wakers.
    #[inline]
    pub(in crate::load_level) fn end(&self, unused: PaceStart, now: impl FnOnce() -> Instant) -> bool {
        !self.shared.word.end() && self.end_slowly(unused, now())
    }

    #[cold]
    fn end_slowly(&self, unused: PaceStart, now: Instant) -> bool {
        self.locked(now, |state, places, now| state.end(unused, places, now)).1
    }

    /// Returns whether the queue would refuse a call that weighs 1 and is worth no more than any waiter. A closed queue
    /// refuses every call. Reads the clock and takes the lock in the slow mode only.
    pub(in crate::load_level) fn is_full(&self, now: impl FnOnce() -> Instant) -> bool {
        let QueueShared { word, origin, state } = &*self.shared;
        if word.mode() == Mode::Fast {
            return false;
        }
        let now = origin.to(now());
        let state = lock(state);
        state.is_closed() || state.is_full(state.time_at(now))
    }

    /// Takes the lock for `work`, releases it, and wakes the waiters whose turn has come. Also returns whether it ran
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

    /// Takes the lock for `work`, and returns while it is still held. The wakers of the waiters whose turn has come
    /// stay in the list, for the next caller of [`locked`](Self::locked).
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
