//! Striped counters: the threads are spread over 8 stripes, so that few threads contend for one cache line.
//!
//! At its first access, a thread takes the next stripe in turn, and keeps it. The first 8 threads have different
//! stripes.

use std::{
    array,
    sync::atomic::{AtomicU64, AtomicUsize, Ordering},
};

/// The number of stripes. Loom models have fewer, because loom tries every interleaving.
pub(crate) const STRIPES: usize = if cfg!(steadfast_loom) { 2 } else { 8 };

thread_local! {
    static OWN: usize = {
        static THREADS: AtomicUsize = AtomicUsize::new(0);
        THREADS.fetch_add(1, Ordering::Relaxed) % STRIPES
    };
}

/// A value on its own cache lines, against false sharing: 128 bytes, because processors prefetch cache lines in pairs.
#[derive(Default)]
#[repr(align(128))]
pub(crate) struct Stripe<T>(pub(crate) T);

/// Returns the stripe of this thread. A thread whose thread locals have been destroyed uses the first stripe.
#[inline]
pub(crate) fn own<T>(stripes: &[Stripe<T>; STRIPES]) -> &T {
    let index = OWN.try_with(|own| *own).unwrap_or_default();
    &stripes[index % STRIPES].0
}

/// A count that all threads increment. Its orderings are relaxed, because it guards no other memory.
pub(crate) struct Counter([Stripe<AtomicU64>; STRIPES]);

impl Counter {
    #[inline]
    pub(crate) fn add_one(&self) {
        own(&self.0).fetch_add(1, Ordering::Relaxed);
    }

    /// Returns the sum of all stripes. It wraps around.
    pub(crate) fn get(&self) -> u64 {
        self.0.iter().map(|stripe| stripe.0.load(Ordering::Relaxed)).fold(0, u64::wrapping_add)
    }
}

impl Default for Counter {
    fn default() -> Self {
        Self(array::from_fn(|_| Stripe::default()))
    }
}
