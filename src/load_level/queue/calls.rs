//! The way of a call through the queue. In the fast mode of its [word](crate::load_level::places) a call enters without
//! the lock while a place is free. Otherwise it takes the lock.

use super::{Queue, QueueShared};
use crate::{
    clock::Nanos,
    context::Criticality,
    deadline::Deadline,
    load_level::{
        pace::PaceSlot,
        places::{Mode, ServicePlaces},
        state::{CLASSES, CallPhase, NEVER, Newcomer, QueueState},
    },
    sync::{MutexGuard, lock},
    waiters::{WaiterId, drop_waker},
};
use std::task::Waker;
use tokio::time::Instant;

/// An arriving call, as a stage or an `Acquire` future describes it.
#[derive(Clone, Copy, Debug)]
pub(in crate::load_level) struct ArrivingCall {
    pub(in crate::load_level) weight: u64,
    pub(in crate::load_level) criticality: Criticality,
    pub(in crate::load_level) deadline: Deadline,
}

impl Queue {
    /// Takes a place in the service if one is free and no lock is needed. [`end`](Self::end) gives the place back.
    #[inline]
    pub(in crate::load_level) fn enter(&self) -> bool {
        self.shared.word.enter()
    }

    /// Takes a place in the service under the lock, if a call may begin now. Does not wait.
    #[cold]
    pub(super) fn enter_slowly(&self, now: Instant) -> bool {
        self.locked(now, |state, places, now| state.try_arrive(places, now).is_some()).0
    }

    /// Takes a place in the service, or a place in the queue, or refuses the call. Also returns whether it ran wakers.
    pub(in crate::load_level) fn arrive(&self, call: ArrivingCall, now: Instant) -> (CallPhase<WaiterId>, bool) {
        self.locked(now, |state, places, now| {
            let class = if state.by_criticality { (call.criticality as usize).min(CLASSES - 1) } else { 0 };
            let deadline = call.deadline.instant().map_or(NEVER, |instant| self.shared.origin.to(instant));
            state.arrive(Newcomer { class, weight: call.weight, deadline }, places, now)
        })
    }

    /// Returns whether the turn of this waiter has come. While the call waits, its task polls again at the instant in
    /// `Waiting`, or when `waker` is woken. An admitted waiter has a place in the service; a refused one has left the
    /// queue.
    pub(in crate::load_level) fn poll(&self, id: WaiterId, waker: &Waker, now: Instant) -> CallPhase<Instant> {
        // A waker is user code, and no user code may run while the lock is held. The waker is therefore cloned before
        // the lock is taken, and dropped after it is released.
        let mut waker = Some(waker.clone());
        let ((phase, wait), _) = self.locked(now, |state, places, nanos| {
            let phase = state.poll(id, &mut waker, places, nanos);
            let wait = if let CallPhase::Waiting(next_poll_at) = phase {
                next_poll_at.saturating_sub(nanos)
            } else {
                Nanos::ZERO
            };
            (phase, wait)
        });
        drop_waker(waker);
        match phase {
            CallPhase::Waiting(_) => match now.checked_add(wait.duration()) {
                Some(next_poll_at) => CallPhase::Waiting(next_poll_at),
                // The next poll would be later than the last instant that the clock can represent, so the call is
                // refused now.
                None => {
                    let (refusal, _) = self.locked(now, |state, places, now| {
                        let refusal = state.waited_too_long(id, now);
                        state.leave(id, places, now);
                        refusal
                    });
                    CallPhase::Refused(refusal)
                }
            },
            CallPhase::Admitted(slot) => CallPhase::Admitted(slot),
            CallPhase::Refused(refusal) => CallPhase::Refused(refusal),
        }
    }

    /// Removes a call from the queue, or returns its place in the service if it was admitted.
    pub(in crate::load_level) fn leave(&self, id: WaiterId, now: Instant) {
        self.locked(now, |state, places, now| state.leave(id, places, now));
    }

    /// Gives back a place in the service, and `unused`: the slot of the pace, if the call took one and did not use it.
    /// The caller does this exactly once for each place that it took. Returns whether it ran wakers.
    #[inline]
    pub(in crate::load_level) fn end(&self, unused: PaceSlot, now: impl FnOnce() -> Instant) -> bool {
        !self.shared.word.end() && self.end_slowly(unused, now())
    }

    #[cold]
    fn end_slowly(&self, unused: PaceSlot, now: Instant) -> bool {
        self.locked(now, |state, places, now| state.end(unused, places, now)).1
    }

    /// Returns whether the queue would refuse a call that weighs 1, has no deadline, and would be served after all
    /// waiters. A closed queue refuses every call. Reads the clock and takes the lock in the slow mode only.
    pub(in crate::load_level) fn is_full(&self, now: impl FnOnce() -> Instant) -> bool {
        let QueueShared { word, origin, state } = &*self.shared;
        if word.mode() == Mode::Fast {
            return false;
        }
        let now = origin.to(now());
        let state = lock(state);
        state.is_closed() || state.is_full(state.time_at(now))
    }

    /// Takes the lock for `work` and releases it. Then wakes each waiter that `work` admitted or refused, and the next
    /// waiter if the pace lets it begin before its timer fires. Also returns whether it ran wakers.
    pub(super) fn locked<T>(
        &self,
        now: Instant,
        work: impl FnOnce(&mut QueueState, &mut ServicePlaces, Nanos) -> T,
    ) -> (T, bool) {
        let (result, mut state) = self.with_lock(now, work);
        let woke = state.waiters.take_wakers().wake_after(state);
        (result, woke)
    }

    /// Takes the lock, does `work`, and returns with the lock still held. Wakes no waiter: the wakers stay in the list,
    /// and the next caller of [`locked`](Self::locked) wakes them.
    pub(super) fn with_lock<T>(
        &self,
        now: Instant,
        work: impl FnOnce(&mut QueueState, &mut ServicePlaces, Nanos) -> T,
    ) -> (T, MutexGuard<'_, QueueState>) {
        let QueueShared { word, origin, state } = &*self.shared;
        let mut state = lock(state);
        let mut places = word.take_over(&state);
        let now = state.advance_to(origin.to(now));
        let result = work(&mut state, &mut places, now);
        state.wake_next_for_pace(&places, now);
        word.hand_back(places, &state);
        (result, state)
    }
}
