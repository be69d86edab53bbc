//! Stripes: counters of which each of a few threads writes one of its own, so that threads do not wait for each other.

use std::{
    array,
    sync::atomic::{AtomicU64, AtomicUsize, Ordering},
};

/// How many there are: few in a model, which looks at all that may happen to each.
pub(crate) const STRIPES: usize = if cfg!(steadfast_loom) { 2 } else { 8 };

thread_local! {
    static OWN: usize = {
        static THREADS: AtomicUsize = AtomicUsize::new(0);
        THREADS.fetch_add(1, Ordering::Relaxed) % STRIPES
    };
}

/// A cache line of its own.
#[derive(Default)]
#[repr(align(128))]
pub(crate) struct Stripe<T>(pub(crate) T);

/// The stripe of this thread. A thread that is ending has the first one.
#[inline]
pub(crate) fn own<T>(stripes: &[Stripe<T>; STRIPES]) -> &T {
    let index = OWN.try_with(|own| *own).unwrap_or_default();
    &stripes[index % STRIPES].0
}

/// Counts on all threads. Relaxed throughout: a count guards no other memory.
pub(crate) struct Counter([Stripe<AtomicU64>; STRIPES]);

impl Counter {
    #[inline]
    pub(crate) fn add_one(&self) {
        own(&self.0).fetch_add(1, Ordering::Relaxed);
    }

    /// The count so far. It wraps around.
    pub(crate) fn get(&self) -> u64 {
        self.0.iter().map(|stripe| stripe.0.load(Ordering::Relaxed)).fold(0, u64::wrapping_add)
    }
}

impl Default for Counter {
    fn default() -> Self {
        Self(array::from_fn(|_| Stripe::default()))
    }
}
