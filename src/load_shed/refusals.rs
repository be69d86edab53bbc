use super::places::CLASSES;
use crate::{
    context::Criticality,
    error::OverloadedCause,
    stripes::{STRIPES, Stripe, own},
    sync::{AtomicU64 as Exempted, Ordering},
};
use std::sync::atomic::AtomicU64;

/// The refusals of a limiter that is not a plain fixed limit, by class and cause. Each is counted once.
///
/// Striped, so that few of the threads whose calls are refused contend for one cache line. A thread counts in one
/// stripe, and the 16 counts of 8 bytes fill it.
#[derive(Default)]
pub(super) struct Refusals {
    by_class: [Stripe<[[AtomicU64; OverloadedCause::COUNT]; CLASSES]>; STRIPES],
    /// The exempt calls, which were all admitted. Not striped, because they are few.
    exempted: Exempted,
}

impl Refusals {
    #[inline]
    pub(super) fn count(&self, class: Criticality, cause: OverloadedCause) {
        own(&self.by_class)[class as usize][cause as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn count_exempt(&self) {
        self.exempted.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn exempted(&self) -> u64 {
        self.exempted.load(Ordering::Relaxed)
    }

    /// Returns the count of each class and cause. Counts wrap around.
    pub(super) fn all(&self) -> impl Iterator<Item = (Criticality, OverloadedCause, u64)> + '_ {
        let causes = |class| OverloadedCause::ALL.into_iter().map(move |cause| (class, cause));
        Criticality::ALL.into_iter().flat_map(causes).map(|(class, cause)| {
            let counts = self.by_class.iter().map(|stripe| &stripe.0[class as usize][cause as usize]);
            (class, cause, counts.map(|count| count.load(Ordering::Relaxed)).fold(0, u64::wrapping_add))
        })
    }

    /// Returns the sum of all counts. It wraps around.
    pub(super) fn total(&self) -> u64 {
        self.all().fold(0, |sum, (_, _, count)| sum.wrapping_add(count))
    }

    /// Returns the counts that are not zero.
    pub(super) fn read(&self) -> Vec<(Criticality, OverloadedCause, u64)> {
        self.all().filter(|(_, _, count)| *count > 0).collect()
    }
}
