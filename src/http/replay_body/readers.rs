use crate::panics::survives;
use std::task::Waker;

/// The number of the attempt after which no other follows. It is above every number that `join` gives.
pub(super) const LAST: u64 = u64::MAX;

/// The live readers of one body. The methods run under the lock. They neither clone nor drop a waker, because that may
/// run user code.
#[derive(Debug, Default)]
pub(super) struct BodyReaders {
    /// At most two, unless a stage of the user makes more attempts at once.
    slots: Vec<ReaderSlot>,
    /// How many readers have joined without a given number. The next one gets this number plus one.
    joined: u64,
}

/// One reader.
#[derive(Debug)]
pub(super) struct ReaderSlot {
    number: u64,
    is_waiting: bool,
    /// Stays for the next wait if the reader stops waiting without a wake-up.
    waker: Option<Waker>,
}

/// Wakers to call after the lock is released.
#[derive(Debug, Default)]
#[must_use]
pub(super) struct ReaderWakers {
    first: Option<Waker>,
    more: Vec<Waker>,
}

impl ReaderWakers {
    /// Wakes all readers, even if a waker panics.
    pub(super) fn wake(self) {
        for waker in self.first.into_iter().chain(self.more) {
            survives(|| waker.wake());
        }
    }
}

impl BodyReaders {
    /// Adds a reader with this number, or with the next one. Returns its number.
    pub(super) fn join(&mut self, number: Option<u64>) -> u64 {
        let number = number.unwrap_or_else(|| {
            self.joined = self.joined.saturating_add(1);
            self.joined
        });
        self.place_of(number);
        number
    }

    /// Returns the index of the slot of this reader. Adds the slot if it is missing.
    fn place_of(&mut self, number: u64) -> usize {
        self.slots.iter().position(|slot| slot.number == number).unwrap_or_else(|| {
            self.slots.push(ReaderSlot { number, is_waiting: false, waker: None });
            self.slots.len() - 1
        })
    }

    /// Removes a reader. The caller drops its slot without the lock.
    pub(super) fn leave(&mut self, number: u64) -> Option<ReaderSlot> {
        let place = self.slots.iter().position(|slot| slot.number == number)?;
        Some(self.slots.swap_remove(place))
    }

    pub(super) fn is_newest(&self, number: u64) -> bool {
        self.slots.iter().all(|slot| slot.number <= number)
    }

    /// Registers a waiting reader with this waker. Returns `false` if the caller first has to put a clone of the waker
    /// into `spare`. Moves a replaced waker into `spare`.
    pub(super) fn wait(&mut self, number: u64, waker: &Waker, spare: &mut Option<Waker>) -> bool {
        let place = self.place_of(number);
        let slot = &mut self.slots[place];
        if !slot.waker.as_ref().is_some_and(|known| known.will_wake(waker)) {
            let Some(clone) = spare.take() else { return false };
            *spare = slot.waker.replace(clone);
        }
        slot.is_waiting = true;
        true
    }

    pub(super) fn stop_waiting(&mut self, number: u64) {
        if let Some(slot) = self.slots.iter_mut().find(|slot| slot.number == number) {
            slot.is_waiting = false;
        }
    }

    /// Takes the wakers of all waiting readers except this one.
    pub(super) fn take_wakers(&mut self, except: Option<u64>) -> ReaderWakers {
        let mut wakes = ReaderWakers::default();
        for slot in self.slots.iter_mut().filter(|slot| slot.is_waiting && Some(slot.number) != except) {
            slot.is_waiting = false;
            match (slot.waker.take(), &mut wakes) {
                (first, ReaderWakers { first: none @ None, .. }) => *none = first,
                (waker, ReaderWakers { more, .. }) => more.extend(waker),
            }
        }
        wakes
    }
}
