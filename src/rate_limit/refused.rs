use crate::stripes::{self, STRIPES, Stripe};
use std::{
    array, fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

/// How many calls a rate limit has refused, or would have in shadow mode. A cheap handle; clones count together.
///
/// Each of a few threads counts on a line of the cache of its own: those who are refused do not wait for each other.
#[derive(Clone)]
pub struct RefusedCalls(Arc<[Stripe<AtomicU64>; STRIPES]>);

impl RefusedCalls {
    /// The calls so far.
    pub fn get(&self) -> u64 {
        // Relaxed, here and below: they guard no other memory.
        self.0.iter().map(|stripe| stripe.0.load(Ordering::Relaxed)).fold(0, u64::wrapping_add)
    }

    pub(super) fn count(&self) {
        stripes::own(&self.0).fetch_add(1, Ordering::Relaxed);
    }
}

impl Default for RefusedCalls {
    fn default() -> Self {
        Self(Arc::new(array::from_fn(|_| Stripe::default())))
    }
}

impl fmt::Debug for RefusedCalls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RefusedCalls").field(&self.get()).finish()
    }
}
