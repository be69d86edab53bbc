//! The source of randomness.

use crate::sync::{Mutex, lock};
use rand::{Rng, SeedableRng, rngs::Xoshiro256PlusPlus};
use std::{
    fmt,
    hash::{BuildHasher, RandomState},
    sync::Arc,
};

/// A random generator. Clones share one state, so that no clone repeats the draws of another.
///
/// It spreads retries over time and is not suitable for secrets. A draw takes one short lock. Draws happen only on slow
/// paths, such as a retry or the start of a new retry budget. A call that uses existing mechanisms and succeeds at its
/// first attempt draws nothing.
#[derive(Clone)]
pub struct Random(Arc<Mutex<Xoshiro256PlusPlus>>);

impl Random {
    /// Makes a generator that differs in every process and every instance.
    pub fn new() -> Self {
        // The keys of a `RandomState` come from the operating system and differ between instances.
        Self::seeded(RandomState::new().hash_one("steadfast"))
    }

    /// Makes a generator that draws the same numbers for the same seed, for tests and simulations.
    pub fn seeded(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(Xoshiro256PlusPlus::seed_from_u64(seed))))
    }

    /// Runs `draw` with exclusive access to the generator.
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
