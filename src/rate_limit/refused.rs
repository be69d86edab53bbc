use std::{
    array, fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

/// How many calls a rate limit has refused, or would have in shadow mode. A cheap handle; clones count together.
///
/// Each of a few threads counts on a line of the cache of its own: those who are refused do not wait for each other.
#[derive(Clone)]
pub struct RefusedCalls(Arc<[Stripe; STRIPES]>);

/// Relaxed throughout: it guards no other memory.
#[repr(align(128))]
struct Stripe(AtomicU64);

const STRIPES: usize = 8;

thread_local! {
    static STRIPE: usize = {
        static THREADS: AtomicUsize = AtomicUsize::new(0);
        THREADS.fetch_add(1, Ordering::Relaxed) % STRIPES
    };
}

impl RefusedCalls {
    /// The calls so far.
    pub fn get(&self) -> u64 {
        self.0.iter().map(|stripe| stripe.0.load(Ordering::Relaxed)).fold(0, u64::wrapping_add)
    }

    pub(super) fn count(&self) {
        // A thread that is ending counts with the first one.
        let own = STRIPE.try_with(|stripe| *stripe).unwrap_or_default();
        if let Some(stripe) = self.0.get(own) {
            stripe.0.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Default for RefusedCalls {
    fn default() -> Self {
        Self(Arc::new(array::from_fn(|_| Stripe(AtomicU64::new(0)))))
    }
}

impl fmt::Debug for RefusedCalls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RefusedCalls").field(&self.get()).finish()
    }
}
