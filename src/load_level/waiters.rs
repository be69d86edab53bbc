use super::{pace::Share, state::Refusal};
use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    task::Waker,
};

/// Those who wait, and those who have been answered but have not asked since.
///
/// It keeps the order of arrival in each class and nothing else: who is next is decided by whoever holds the lock on
/// it. Places are reused, so that a queue allocates only when it grows longer than it ever was.
#[derive(Debug)]
pub(super) struct Waiters {
    slots: Vec<Slot>,
    /// The first of the free slots, which are linked.
    free: u32,
    classes: [Class; CLASSES],
    waiting: usize,
    /// Of up to 2^32 calls: that of 64 bits each fits.
    weight: u128,
}

/// Of each [`Criticality`](crate::Criticality).
pub(super) const CLASSES: usize = 4;

/// No slot. So many slots there are never.
const NONE: u32 = u32::MAX;

/// One place: to be given up by whoever holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place(u32);

/// Those of one class, in order of arrival.
#[derive(Clone, Copy, Debug)]
struct Class {
    first: u32,
    last: u32,
    waiting: usize,
    weight: u128,
}

#[derive(Debug)]
struct Slot {
    waiter: Waiter,
    answer: Option<Answer>,
    waker: Option<Waker>,
    previous: u32,
    next: u32,
}

/// What is known of one who waits. Times are in nanoseconds since the queue's origin.
#[derive(Clone, Copy, Debug)]
pub(super) struct Waiter {
    pub(super) class: usize,
    pub(super) weight: u64,
    pub(super) since: u64,
    /// From when on it is refused.
    pub(super) gives_up_at: u64,
    /// From when on it is not served, even if it was let in before.
    pub(super) deadline: u64,
    /// When it asks again by itself, because the pace may allow it then.
    pub(super) asks_at: u64,
}

/// What became of one who waited.
#[derive(Clone, Copy, Debug)]
pub(super) enum Answer {
    Admitted(Share),
    Refused(Refusal),
}

impl Waiters {
    pub(super) fn new() -> Self {
        let class = Class { first: NONE, last: NONE, waiting: 0, weight: 0 };
        Self { slots: Vec::new(), free: NONE, classes: [class; CLASSES], waiting: 0, weight: 0 }
    }

    pub(super) fn waiting(&self) -> usize {
        self.waiting
    }

    pub(super) fn weight(&self) -> u128 {
        self.weight
    }

    /// How many of a class wait, and their weight.
    pub(super) fn of_class(&self, class: usize) -> (usize, u128) {
        let Class { waiting, weight, .. } = self.classes[class];
        (waiting, weight)
    }

    /// The one of a class that has waited for longest.
    pub(super) fn oldest(&self, class: usize) -> Option<Place> {
        Some(Place(self.classes[class].first)).filter(|place| place.0 != NONE)
    }

    /// The one of a class that came last.
    pub(super) fn newest(&self, class: usize) -> Option<Place> {
        Some(Place(self.classes[class].last)).filter(|place| place.0 != NONE)
    }

    /// Takes a place at the end of its class. `None` where there are as many as can be numbered.
    pub(super) fn join(&mut self, waiter: Waiter) -> Option<Place> {
        let class = &mut self.classes[waiter.class];
        let slot = Slot { waiter, answer: None, waker: None, previous: class.last, next: NONE };
        let place = match self.slots.get_mut(self.free as usize) {
            Some(free) => {
                let place = self.free;
                self.free = free.next;
                *free = slot;
                place
            }
            None => {
                let place = u32::try_from(self.slots.len()).ok().filter(|place| *place != NONE)?;
                self.slots.push(slot);
                place
            }
        };
        let last = std::mem::replace(&mut class.last, place);
        class.waiting += 1;
        class.weight += u128::from(waiter.weight);
        self.weight += u128::from(waiter.weight);
        self.waiting += 1;
        match self.slots.get_mut(last as usize) {
            Some(last) => last.next = place,
            None => class.first = place,
        }
        Some(Place(place))
    }

    /// What is known of one who waits.
    pub(super) fn get(&self, place: Place) -> Option<Waiter> {
        self.slots.get(place.0 as usize).filter(|slot| slot.answer.is_none()).map(|slot| slot.waiter)
    }

    /// It asks again by itself at this time.
    pub(super) fn asks_at(&mut self, place: Place, at: u64) {
        if let Some(slot) = self.slots.get_mut(place.0 as usize) {
            slot.waiter.asks_at = at;
        }
    }

    /// Remembers whom to wake, in exchange for the one who was to be woken before.
    pub(super) fn remember(&mut self, place: Place, waker: &mut Option<Waker>) {
        if let Some(slot) = self.slots.get_mut(place.0 as usize) {
            std::mem::swap(&mut slot.waker, waker);
        }
    }

    /// Takes the waker of one who waits.
    pub(super) fn take_waker(&mut self, place: Place) -> Option<Waker> {
        self.slots.get_mut(place.0 as usize).and_then(|slot| slot.waker.take())
    }

    /// Answers one who waits: it waits no longer. Returns its waker.
    pub(super) fn answer(&mut self, place: Place, answer: Answer) -> Option<Waker> {
        self.unlink(place);
        let slot = self.slots.get_mut(place.0 as usize)?;
        slot.answer = Some(answer);
        slot.waker.take()
    }

    /// Whether a place was answered, and to whom it belonged. Then it is gone.
    pub(super) fn take_answer(&mut self, place: Place) -> Option<(Answer, Waiter)> {
        let &Slot { answer, waiter, .. } = self.slots.get(place.0 as usize)?;
        let answer = answer?;
        self.release(place);
        Some((answer, waiter))
    }

    /// Gives up the place of one who still waits. Returns its waker.
    pub(super) fn leave(&mut self, place: Place) -> Option<Waker> {
        self.unlink(place);
        self.release(place)
    }

    fn unlink(&mut self, place: Place) {
        let Some(&Slot { waiter, previous, next, .. }) = self.slots.get(place.0 as usize) else { return };
        let class = &mut self.classes[waiter.class];
        class.waiting = class.waiting.saturating_sub(1);
        class.weight = class.weight.saturating_sub(u128::from(waiter.weight));
        self.weight = self.weight.saturating_sub(u128::from(waiter.weight));
        self.waiting = self.waiting.saturating_sub(1);
        match self.slots.get_mut(previous as usize) {
            Some(previous) => previous.next = next,
            None => class.first = next,
        }
        match self.slots.get_mut(next as usize) {
            Some(next) => next.previous = previous,
            None => class.last = previous,
        }
    }

    fn release(&mut self, place: Place) -> Option<Waker> {
        let slot = self.slots.get_mut(place.0 as usize)?;
        slot.next = std::mem::replace(&mut self.free, place.0);
        slot.waker.take()
    }
}

/// Those to be woken once the lock is released, and those to be dropped then: with the last one a task may go, and all
/// places that it holds.
#[derive(Debug, Default)]
pub(super) struct Wakers {
    /// Nearly always there is but one.
    first: Option<Waker>,
    more: Vec<Waker>,
    dropped: Option<Waker>,
}

impl Wakers {
    pub(super) fn wake_later(&mut self, waker: Option<Waker>) {
        let Some(waker) = waker else { return };
        match self.first {
            None => self.first = Some(waker),
            Some(_) => self.more.push(waker),
        }
    }

    /// Drops a waker later. Of one poll there is at most one.
    pub(super) fn drop_later(&mut self, waker: Option<Waker>) {
        if waker.is_some() {
            self.dropped = waker;
        }
    }

    /// Wakes and drops. A waker is another task's code: if it panics, that costs neither the result of the call at hand
    /// nor the wake-ups of others.
    #[inline]
    pub(super) fn wake(self) {
        let Self { first, more, dropped } = self;
        for waker in first.into_iter().chain(more) {
            let _ = catch_unwind(AssertUnwindSafe(|| waker.wake()));
        }
        drop_waker(dropped);
    }
}

/// Drops a waker. If that panics, the place that was taken in the same step is not lost.
#[inline]
pub(super) fn drop_waker(waker: Option<Waker>) {
    if let Some(waker) = waker {
        let _ = catch_unwind(AssertUnwindSafe(|| drop(waker)));
    }
}
