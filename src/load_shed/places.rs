//! The calls in flight, counted in one atomic word. A second word counts the calls for which the first has no room.

use crate::{
    context::Criticality,
    sync::{AtomicU64, Ordering},
};

/// The number of classes: one for each [`Criticality`].
pub(super) const CLASSES: usize = 4;
/// The bits of the count of one class. Loom models have fewer.
const CLASS_BITS: u32 = if cfg!(steadfast_loom) { 2 } else { 16 };
/// The most calls of one class that are counted by class.
pub(super) const MOST_IN_CLASS: u64 = (1 << CLASS_BITS) - 1;

/// The number of calls in flight, of all classes together or of each class. Relaxed: the counts guard no other memory,
/// and each change is one atomic step.
#[derive(Debug)]
pub(super) struct Places {
    /// The number of all calls in flight. If `by_class`, instead four numbers of [`CLASS_BITS`] bits: the calls of each
    /// class, at most [`MOST_IN_CLASS`].
    word: AtomicU64,
    /// The calls that entered while their class was at [`MOST_IN_CLASS`]. Zero where calls are not counted by class.
    beyond: AtomicU64,
    /// Whether calls are counted by class, which they are if a class has a guarantee.
    by_class: bool,
}

/// A reading of the calls in flight, in the fields of [`Places`]. `beyond` is read just after `word`, so it can include
/// later calls than `word`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct InFlight {
    word: u64,
    beyond: u64,
    by_class: bool,
}

/// Where a call in flight is counted: in [`word`](Places::word), for which this is the class of the call, or in
/// [`beyond`](Places::beyond). The class matters only where calls are counted by class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place(u64);

impl Place {
    const BEYOND: u64 = CLASSES as u64;

    #[inline]
    pub(super) const fn of(class: Criticality) -> Self {
        Self(class as u64)
    }

    #[inline]
    fn is_beyond(self) -> bool {
        self.0 >= Self::BEYOND
    }
}

impl InFlight {
    #[inline]
    pub(super) fn total(self) -> u64 {
        if self.by_class { (0..CLASSES).map(|class| self.of(class)).sum::<u64>() + self.beyond } else { self.word }
    }

    /// Returns whether calls are counted by class, which they are if a class has a guarantee.
    #[inline]
    pub(super) fn is_by_class(self) -> bool {
        self.by_class
    }

    /// Returns the calls of one class, at most [`MOST_IN_CLASS`], without those counted in [`beyond`](Places::beyond).
    /// The caller asks only where calls are counted by class.
    #[inline]
    pub(super) fn of(self, class: usize) -> u64 {
        (self.word >> (class as u32 * CLASS_BITS)) & MOST_IN_CLASS
    }
}

impl Places {
    pub(super) fn new(by_class: bool) -> Self {
        Self { word: AtomicU64::new(0), beyond: AtomicU64::new(0), by_class }
    }

    #[inline]
    pub(super) fn in_flight(&self) -> InFlight {
        self.with(self.word.load(Ordering::Relaxed))
    }

    /// Takes a place if there is room beside the calls in flight. Returns those calls in both cases, as `Ok` or `Err`.
    ///
    /// A call that finds its class at [`MOST_IN_CLASS`] takes a place beyond the counts of the classes. Where calls are
    /// counted by class, the limit is at most [`MOST_IN_CLASS`]. So only calls that are let in regardless of the limit
    /// take a place beyond the counts.
    #[inline]
    pub(super) fn enter(
        &self,
        class: Criticality,
        has_room: impl Fn(InFlight) -> bool,
    ) -> Result<(InFlight, Place), InFlight> {
        let mut in_flight = self.in_flight();
        loop {
            let index = class as usize;
            if !has_room(in_flight) {
                return Err(in_flight);
            }
            if self.by_class && in_flight.of(index) == MOST_IN_CLASS {
                self.beyond.fetch_add(1, Ordering::Relaxed);
                return Ok((in_flight, Place(Place::BEYOND)));
            }
            let more = in_flight.word + self.one(index);
            match self.word.compare_exchange_weak(in_flight.word, more, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return Ok((in_flight, Place::of(class))),
                Err(newer) => in_flight = self.with(newer),
            }
        }
    }

    /// Gives a place back, and returns the number of calls in flight after that. The caller runs it exactly once for
    /// each place that [`enter`](Self::enter) took.
    #[inline]
    pub(super) fn leave(&self, place: Place) -> u64 {
        if place.is_beyond() {
            self.beyond.fetch_sub(1, Ordering::Relaxed);
            return self.in_flight().total();
        }
        let one = self.one(place.0 as usize);
        let word = self.word.fetch_sub(one, Ordering::Relaxed) - one;
        self.with(word).total()
    }

    /// Returns a reading with this value of `word`, and with the present value of `beyond`.
    #[inline]
    fn with(&self, word: u64) -> InFlight {
        let beyond = if self.by_class { self.beyond.load(Ordering::Relaxed) } else { 0 };
        InFlight { word, beyond, by_class: self.by_class }
    }

    /// Returns the number that counts one call of this class in `word`.
    #[inline]
    fn one(&self, index: usize) -> u64 {
        if self.by_class { 1 << (index as u32 * CLASS_BITS) } else { 1 }
    }
}

#[cfg(all(test, not(steadfast_loom)))]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn places_beyond_the_counts_of_the_classes_neither_wrap_nor_get_lost(
            first in prop::array::uniform4(MOST_IN_CLASS - 3..=MOST_IN_CLASS),
            steps in prop::collection::vec((0..CLASSES, any::<Option<prop::sample::Index>>()), 1..100),
        ) {
            let places = Places::new(true);
            let word = (0..CLASSES).map(|class| first[class] << (class as u32 * CLASS_BITS)).sum::<u64>();
            places.word.store(word, Ordering::Relaxed);
            let total = first.iter().sum::<u64>();
            let mut taken = Vec::new();
            for (class, leaves) in steps {
                match leaves {
                    Some(index) if !taken.is_empty() => {
                        let left = places.leave(taken.swap_remove(index.index(taken.len())));
                        prop_assert_eq!(left, total + taken.len() as u64);
                    }
                    _ => {
                        let (others, place) = places.enter(Criticality::ALL[class], |_| true).unwrap();
                        prop_assert_eq!(others.total(), total + taken.len() as u64);
                        taken.push(place);
                    }
                }
                for (class, first) in first.into_iter().enumerate() {
                    let in_class = taken.iter().filter(|place| place.0 == class as u64).count() as u64;
                    prop_assert_eq!(places.in_flight().of(class), first + in_class);
                }
            }
            for place in taken {
                places.leave(place);
            }
            prop_assert_eq!((places.in_flight().word, places.in_flight().beyond), (word, 0));
        }
    }
}
