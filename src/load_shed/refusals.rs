use super::places::CLASSES;
use crate::{
    context::Criticality,
    error::OverloadedCause,
    stripes::Counter,
    sync::{AtomicU64, Ordering},
};

/// The refusals of a limiter, by class and cause. Each is counted once.
#[derive(Default)]
pub(super) struct Refusals {
    by_class: [[Counter; OverloadedCause::COUNT]; CLASSES],
    /// Not striped: exempt calls are few.
    exempted: AtomicU64,
}

impl Refusals {
    #[inline]
    pub(super) fn count(&self, class: Criticality, cause: OverloadedCause) {
        self.by_class[class as usize][cause as usize].add_one();
    }

    pub(super) fn count_exempt(&self) {
        self.exempted.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn exempted(&self) -> u64 {
        self.exempted.load(Ordering::Relaxed)
    }

    /// For each class and each cause: how often.
    pub(super) fn all(&self) -> impl Iterator<Item = (Criticality, OverloadedCause, u64)> + '_ {
        let classes = Criticality::ALL.into_iter().zip(&self.by_class);
        classes.flat_map(|(class, counters)| {
            OverloadedCause::ALL.into_iter().zip(counters).map(move |(cause, counter)| (class, cause, counter.get()))
        })
    }

    /// Those that occurred.
    pub(super) fn read(&self) -> Vec<(Criticality, OverloadedCause, u64)> {
        self.all().filter(|(_, _, count)| *count > 0).collect()
    }
}
