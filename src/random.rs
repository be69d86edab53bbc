//! The one source of randomness.

use crate::sync::{Mutex, lock};
use rand::{Rng, SeedableRng, rngs::Xoshiro256PlusPlus};
use std::{
    fmt,
    hash::{BuildHasher, RandomState},
    sync::Arc,
};

/// A random generator that clones share: each draw moves it on for all, so no clone repeats another.
///
/// It is not for secrets; it spreads retries over time. A draw takes one short lock and happens only where a
/// decision is already slow (a retry), never on the path of a call that succeeds.
#[derive(Clone)]
pub struct Random(Arc<Mutex<Xoshiro256PlusPlus>>);

impl Random {
    /// A generator that differs in every process and every instance.
    pub fn new() -> Self {
        // The keys of a `RandomState` come from the operating system and differ from one instance to the next.
        Self::seeded(RandomState::new().hash_one("steadfast"))
    }

    /// A generator that draws the same numbers for the same seed, for tests and simulations.
    pub fn seeded(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(Xoshiro256PlusPlus::seed_from_u64(seed))))
    }

    /// Runs `draw` with the generator to itself.
    pub(crate) fn with<T>(&self, draw: impl FnOnce(&mut dyn Rng) -> T) -> T {
        draw(&mut *lock(&self.0))
    }
}

impl Default for Random {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Random {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Random").finish_non_exhaustive()
    }
}
