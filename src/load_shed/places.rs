//! The calls in flight, counted in one atomic word.

use crate::{
    context::Criticality,
    sync::{AtomicU64, Ordering},
};

pub(super) const CLASSES: usize = 4;
/// The bits of the count of one class.
const LANE: u32 = 16;
/// The most calls of one class that are counted by class.
pub(super) const MOST_IN_CLASS: u64 = (1 << LANE) - 1;

/// How many calls are in flight, together or in each class. Relaxed: the count guards no other memory, and each change
/// is one atomic step.
#[derive(Debug)]
pub(super) struct Places {
    word: AtomicU64,
    by_class: bool,
}

/// The calls in flight at one instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct InFlight {
    word: u64,
    by_class: bool,
}

impl InFlight {
    #[inline]
    pub(super) fn total(self) -> u64 {
        if self.by_class { (0..CLASSES).map(|class| self.of(class)).sum() } else { self.word }
    }

    /// Those of one class, where they are counted.
    #[inline]
    pub(super) fn of(self, class: usize) -> u64 {
        (self.word >> (class as u32 * LANE)) & MOST_IN_CLASS
    }
}

impl Places {
    pub(super) fn new(by_class: bool) -> Self {
        Self { word: AtomicU64::new(0), by_class }
    }

    #[inline]
    pub(super) fn in_flight(&self) -> InFlight {
        InFlight { word: self.word.load(Ordering::Relaxed), by_class: self.by_class }
    }

    /// Takes a place if there is room beside the calls in flight. Returns those calls, whether it took one or not.
    #[inline]
    pub(super) fn enter(&self, class: Criticality, has_room: impl Fn(InFlight) -> bool) -> Result<InFlight, InFlight> {
        let mut in_flight = self.in_flight();
        loop {
            let lane = class as usize;
            if self.by_class && in_flight.of(lane) == MOST_IN_CLASS || !has_room(in_flight) {
                return Err(in_flight);
            }
            let more = in_flight.word + self.one(lane);
            match self.word.compare_exchange_weak(in_flight.word, more, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return Ok(in_flight),
                Err(newer) => in_flight.word = newer,
            }
        }
    }

    /// Gives a place back. Returns the number that are in flight then.
    #[inline]
    pub(super) fn leave(&self, class: Criticality) -> u64 {
        let one = self.one(class as usize);
        let word = self.word.fetch_sub(one, Ordering::Relaxed) - one;
        InFlight { word, by_class: self.by_class }.total()
    }

    #[inline]
    fn one(&self, lane: usize) -> u64 {
        if self.by_class { 1 << (lane as u32 * LANE) } else { 1 }
    }
}
