//! A list of waiters: their slots, their order, and their wakers.
//!
//! The load-leveling queue and the token bucket are the owners of such lists. Each owner keeps its list inside a mutex,
//! so it holds the lock while it calls a method. The owner decides whose turn it is. A slot of the list is free,
//! waiting or answered, and changes as follows:
//!
//! | from | to | by | when |
//! |---|---|---|---|
//! | free | waiting | [`join`](Waiters::join) | a call has to wait |
//! | waiting | answered | [`answer`](Waiters::answer) | the owner admits or refuses the call; the list wakes the task of the call, unless that task polls now |
//! | waiting | free | [`leave`](Waiters::leave) | the task gives up, or is refused in its own poll |
//! | answered | free | [`take_answer`](Waiters::take_answer) | the task polls, or gives up |

#[cfg(all(test, not(steadfast_loom)))]
mod tests;

use crate::{clock::Nanos, panics::survives, sync::MutexGuard};
use std::{iter, mem, task::Waker};

/// The waiters of each class in order of arrival, and those that were answered but have not polled since.
///
/// `W` is the owner's data about a waiter, `A` the answer to it. `CLASSES` is the number of classes: one for each
/// criticality in the queue, a single one in the token bucket. Joining, answering and leaving take constant time. Slots
/// are reused: `slots` grows only when more slots are taken than ever before.
#[derive(Debug)]
pub(crate) struct Waiters<W, A, const CLASSES: usize> {
    slots: Vec<Slot<W, A>>,
    /// The head of the linked list of free slots.
    free: u32,
    lists: [WaitList; CLASSES],
    all: Backlog,
    /// The waiter whose task polls now. It gets its answer without a wake-up.
    asking: Option<WaiterId>,
    wakers: Wakers,
}

/// Names a waiter in the list, until its task takes the answer or leaves. The number is the index of its slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WaiterId(pub(crate) u32);

/// Ends each linked list of slots. No slot has this index.
const NONE: u32 = u32::MAX;

/// The number of calls that wait, and their weight.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Backlog {
    pub(crate) calls: usize,
    /// The sum of the weights: up to 2^32 calls of up to 2^64 each.
    pub(crate) weight: u128,
}

#[derive(Debug)]
enum Slot<W, A> {
    Free { next: u32 },
    Waiting(Waiting<W>),
    Answered { waiter: W, answer: A },
}

#[derive(Debug)]
struct Waiting<W> {
    waiter: W,
    class: usize,
    weight: u64,
    /// When the task polls again without a wake-up.
    next_poll_at: Nanos,
    /// `None` before the first [`wait_on`](Waiters::wait_on), and from a wake-up until the next `wait_on`.
    waker: Option<Waker>,
    previous: u32,
    next: u32,
}

/// The waiters of one class, from the oldest to the newest.
#[derive(Clone, Copy, Debug)]
struct WaitList {
    first: u32,
    last: u32,
    backlog: Backlog,
}

impl Backlog {
    pub(crate) fn plus(self, other: Self) -> Self {
        Self { calls: self.calls + other.calls, weight: self.weight + other.weight }
    }

    fn with(self, weight: u64) -> Self {
        self.plus(Self { calls: 1, weight: weight.into() })
    }

    fn without(self, weight: u64) -> Self {
        Self { calls: self.calls.saturating_sub(1), weight: self.weight.saturating_sub(weight.into()) }
    }
}

impl<W: Copy, A: Copy, const CLASSES: usize> Waiters<W, A, CLASSES> {
    pub(crate) fn new() -> Self {
        let list = WaitList { first: NONE, last: NONE, backlog: Backlog::default() };
        Self {
            slots: Vec::new(),
            free: NONE,
            lists: [list; CLASSES],
            all: Backlog::default(),
            asking: None,
            wakers: Wakers::default(),
        }
    }

    /// Returns the backlog of all classes.
    pub(crate) fn all(&self) -> Backlog {
        self.all
    }

    pub(crate) fn of_class(&self, class: usize) -> Backlog {
        self.lists[class].backlog
    }

    /// Returns the waiter of a class that joined first.
    pub(crate) fn oldest(&self, class: usize) -> Option<WaiterId> {
        Some(WaiterId(self.lists[class].first)).filter(|id| id.0 != NONE)
    }

    /// Returns the waiter of a class that joined last.
    pub(crate) fn newest(&self, class: usize) -> Option<WaiterId> {
        Some(WaiterId(self.lists[class].last)).filter(|id| id.0 != NONE)
    }

    /// Iterates over the waiters of a class, from the oldest to the newest.
    pub(crate) fn in_order(&self, class: usize) -> impl Iterator<Item = (WaiterId, W)> {
        let after = |id: u32| Some(self.waiting(id)?.next);
        let places = iter::successors(Some(self.lists[class].first), move |id| after(*id));
        places.map_while(|id| Some((WaiterId(id), self.waiting(id)?.waiter)))
    }

    /// Returns the owner's data about a waiter. `None` once it was answered.
    pub(crate) fn get(&self, id: WaiterId) -> Option<W> {
        self.waiting(id.0).map(|waiting| waiting.waiter)
    }

    /// Returns the weight of a waiter. Zero once it was answered.
    pub(crate) fn weight(&self, id: WaiterId) -> u64 {
        self.waiting(id.0).map_or(0, |waiting| waiting.weight)
    }

    /// Returns when a waiter's task polls again without a wake-up. `None` once it was answered.
    pub(crate) fn next_poll_at(&self, id: WaiterId) -> Option<Nanos> {
        self.waiting(id.0).map(|waiting| waiting.next_poll_at)
    }

    /// Adds a waiter at the end of a class. Returns `None` if 2^32 - 1 slots are taken.
    // Free => Waiting
    pub(crate) fn join(&mut self, class: usize, weight: u64, next_poll_at: Nanos, waiter: W) -> Option<WaiterId> {
        let last = self.lists[class].last;
        let waiting = Waiting { waiter, class, weight, next_poll_at, waker: None, previous: last, next: NONE };
        let id = match self.slots.get_mut(self.free as usize) {
            Some(slot) => {
                let Slot::Free { next } = *slot else { return None };
                *slot = Slot::Waiting(waiting);
                mem::replace(&mut self.free, next)
            }
            None => {
                let id = u32::try_from(self.slots.len()).ok().filter(|id| *id != NONE)?;
                self.slots.push(Slot::Waiting(waiting));
                id
            }
        };
        self.all = self.all.with(weight);
        let list = &mut self.lists[class];
        list.backlog = list.backlog.with(weight);
        list.last = id;
        match self.waiting_mut(last) {
            Some(last) => last.next = id,
            None => self.lists[class].first = id,
        }
        Some(WaiterId(id))
    }

    /// Says that the task of this waiter polls now. The task needs no wake-up until [`wait_on`](Self::wait_on) is
    /// called or the lock is released.
    pub(crate) fn announce(&mut self, id: WaiterId) {
        self.asking = Some(id);
    }

    /// Keeps the call waiting. Its task polls again at `next_poll_at` if it is not woken before. Swaps `waker` with the
    /// waker registered before, which the caller drops once the lock is released.
    // Waiting => Waiting
    pub(crate) fn wait_on(&mut self, id: WaiterId, next_poll_at: Nanos, waker: &mut Option<Waker>) {
        self.asking = None;
        if let Some(waiting) = self.waiting_mut(id.0) {
            waiting.next_poll_at = next_poll_at;
            mem::swap(&mut waiting.waker, waker);
        }
    }

    /// Says that the turn of this waiter may come at `due`. Wakes its task once the lock is released, if the task would
    /// poll later and does not [poll now](Self::announce).
    // Waiting => Waiting
    pub(crate) fn expect(&mut self, id: WaiterId, due: Nanos) {
        let is_asking = self.asking == Some(id);
        let Some(waiting) = self.waiting_mut(id.0) else { return };
        let next_poll_at = mem::replace(&mut waiting.next_poll_at, due);
        if next_poll_at > due && !is_asking {
            // A task that was woken and has not polled since will poll anyway, and has no waker here.
            let waker = waiting.waker.take();
            self.wakers.wake_later(waker);
        }
    }

    /// Answers a waiter, and wakes its task once the lock is released. A task that [polls now](Self::announce) needs no
    /// wake-up.
    // Waiting => Answered
    pub(crate) fn answer(&mut self, id: WaiterId, answer: A) {
        let Some(Waiting { waiter, waker, .. }) = self.take_out(id) else { return };
        if let Some(slot) = self.slots.get_mut(id.0 as usize) {
            *slot = Slot::Answered { waiter, answer };
        }
        if self.asking == Some(id) {
            self.wakers.drop_later(waker);
        } else {
            self.wakers.wake_later(waker);
        }
    }

    /// Takes the answer to a waiter, and frees its slot. `None` while it waits.
    // Answered => Free
    pub(crate) fn take_answer(&mut self, id: WaiterId) -> Option<(A, W)> {
        let Some(&Slot::Answered { answer, waiter }) = self.slots.get(id.0 as usize) else { return None };
        self.release(id);
        Some((answer, waiter))
    }

    /// Frees the slot of a waiter that was not answered.
    // Waiting => Free
    pub(crate) fn leave(&mut self, id: WaiterId) {
        let Some(Waiting { waker, .. }) = self.take_out(id) else { return };
        self.wakers.drop_later(waker);
        self.release(id);
    }

    /// Takes the wakers to wake or drop once the lock is released. Also forgets which task polls now.
    pub(crate) fn take_wakers(&mut self) -> Wakers {
        self.asking = None;
        mem::take(&mut self.wakers)
    }

    fn waiting(&self, id: u32) -> Option<&Waiting<W>> {
        match self.slots.get(id as usize)? {
            Slot::Waiting(waiting) => Some(waiting),
            Slot::Answered { .. } | Slot::Free { .. } => None,
        }
    }

    fn waiting_mut(&mut self, id: u32) -> Option<&mut Waiting<W>> {
        match self.slots.get_mut(id as usize)? {
            Slot::Waiting(waiting) => Some(waiting),
            Slot::Answered { .. } | Slot::Free { .. } => None,
        }
    }

    /// Takes a waiter out of the list of its class. The slot is then in no list. The caller of this function must store
    /// an answer in the slot, or [release](Self::release) it.
    fn take_out(&mut self, id: WaiterId) -> Option<Waiting<W>> {
        self.waiting(id.0)?;
        let slot = self.slots.get_mut(id.0 as usize)?;
        let Slot::Waiting(waiting) = mem::replace(slot, Slot::Free { next: NONE }) else { return None };
        let Waiting { class, weight, previous, next, .. } = waiting;
        self.all = self.all.without(weight);
        let list = &mut self.lists[class];
        list.backlog = list.backlog.without(weight);
        match self.waiting_mut(previous) {
            Some(previous) => previous.next = next,
            None => self.lists[class].first = next,
        }
        match self.waiting_mut(next) {
            Some(next) => next.previous = previous,
            None => self.lists[class].last = previous,
        }
        Some(waiting)
    }

    /// Puts a slot into the list of free slots. The slot must be in no other list.
    fn release(&mut self, id: WaiterId) {
        if let Some(slot) = self.slots.get_mut(id.0 as usize) {
            *slot = Slot::Free { next: mem::replace(&mut self.free, id.0) };
        }
    }
}

/// Wakers to wake or drop once the lock is released. Waking and dropping a waker both run user code. Dropping the last
/// waker may drop the task, and with it the waiting calls of that task. The drop of a waiting call takes the lock.
#[derive(Debug, Default)]
#[must_use = "the waiters are woken by `wake_after`"]
pub(crate) struct Wakers {
    /// The first waker to wake. There is rarely a second one, so `more` rarely allocates.
    woken: Option<Waker>,
    /// The first waker to drop.
    dropped: Option<Waker>,
    /// All further wakers.
    more: Vec<Due>,
}

#[derive(Debug)]
enum Due {
    Wake(Waker),
    Drop(Waker),
}

impl Wakers {
    fn wake_later(&mut self, waker: Option<Waker>) {
        let Some(waker) = waker else { return };
        match self.woken {
            None => self.woken = Some(waker),
            Some(_) => self.more.push(Due::Wake(waker)),
        }
    }

    fn drop_later(&mut self, waker: Option<Waker>) {
        let Some(waker) = waker else { return };
        match self.dropped {
            None => self.dropped = Some(waker),
            Some(_) => self.more.push(Due::Drop(waker)),
        }
    }

    /// Releases the lock, then wakes and drops the wakers. Catches panics of wakers, so that the current call keeps its
    /// result and other tasks are woken. Returns whether there was a waker. If there was, user code has run.
    #[inline]
    pub(crate) fn wake_after<T>(self, guard: MutexGuard<'_, T>) -> bool {
        drop(guard);
        let Self { woken, dropped, more } = self;
        let ran = woken.is_some() || dropped.is_some() || !more.is_empty();
        if let Some(waker) = woken {
            survives(|| waker.wake());
        }
        for due in more {
            survives(|| match due {
                Due::Wake(waker) => waker.wake(),
                Due::Drop(waker) => drop(waker),
            });
        }
        drop_waker(dropped);
        ran
    }
}

/// Drops a waker that was taken or swapped out of the list, and catches its panic. Called once the lock is released.
#[inline]
pub(crate) fn drop_waker(waker: Option<Waker>) {
    if let Some(waker) = waker {
        survives(|| drop(waker));
    }
}

#[cfg(test)]
impl<W, A, const CLASSES: usize> Waiters<W, A, CLASSES> {
    pub(crate) const SLOT_BYTES: usize = size_of::<Slot<W, A>>();
}
