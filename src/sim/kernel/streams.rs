//! The random numbers of a world.

use rand::{Rng, SeedableRng, rngs::Xoshiro256PlusPlus};
use std::{
    cell::RefCell,
    hash::{BuildHasher, DefaultHasher, Hasher},
    rc::Rc,
};

/// The kinds of streams of random numbers. Each load has three streams: arrivals, keys and clients. Each backend, link,
/// layer and hasher has one. A stream depends only on the seed, its kind, and the number of earlier streams of its
/// kind. With one seed, the first load therefore draws the same numbers for any stack.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(in crate::sim) enum Draws {
    /// The arrival times of a load.
    Arrivals,
    /// The keys of a load's calls.
    Keys,
    /// The client that makes each call of a load.
    Clients,
    Backend,
    Link,
    Layer,
    Hasher,
}

/// A stream of random numbers. Clones share one stream: a number that one of them draws is gone for the others.
#[derive(Clone)]
pub(in crate::sim) struct Stream(Rc<RefCell<Xoshiro256PlusPlus>>);

impl Stream {
    /// Returns the stream with this number of its kind.
    pub(super) fn new(seed: u64, draws: Draws, number: u64) -> Self {
        // Hashes the seed before each addition. Streams whose seeds, kinds or numbers differ by one therefore have
        // nothing in common.
        let mix = |seed: u64, word: u64| Xoshiro256PlusPlus::seed_from_u64(seed).next_u64().wrapping_add(word);
        let seed = mix(mix(seed, draws as u64), number);
        Self(Rc::new(RefCell::new(Xoshiro256PlusPlus::seed_from_u64(seed))))
    }

    pub(in crate::sim) fn draw<T>(&self, draw: impl FnOnce(&mut dyn Rng) -> T) -> T {
        draw(&mut *self.0.borrow_mut())
    }
}

/// A hasher that follows the seed of the run, from [`Sim::hasher`](super::Sim::hasher).
#[derive(Clone, Copy, Debug)]
pub struct SeededHasher(u64);

impl SeededHasher {
    pub(super) fn new(stream: &Stream) -> Self {
        Self(stream.draw(|random| random.next_u64()))
    }
}

impl BuildHasher for SeededHasher {
    type Hasher = DefaultHasher;

    fn build_hasher(&self) -> DefaultHasher {
        let mut hasher = DefaultHasher::new();
        hasher.write_u64(self.0);
        hasher
    }
}
