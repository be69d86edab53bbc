//! Rate limits by key: one token of one of many keys, all known before.

use crate::{
    harness::{Contestant, Role, Row},
    rate::plenty_for_governor,
};
use governor::{
    DefaultKeyedRateLimiter, RateLimiter,
    clock::{Clock, MonotonicClock, QuantaClock},
    middleware::NoOpMiddleware,
    state::keyed::DashMapStateStore,
};
use std::{
    hash::BuildHasher,
    hint::black_box,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

pub fn rows() -> Vec<Row> {
    let counts = [(1, "1 key"), (10_000, "10,000 keys"), (1_000_000, "1,000,000 keys")];
    let same_clock = counts.map(|(count, name)| {
        Row::new(
            format!("keyed rate limit: acquire, {name}"),
            vec![
                contestant("governor", count, || MonotonicClock, std::hash::RandomState::new),
                contestant("governor (foldhash)", count, || MonotonicClock, foldhash::fast::RandomState::default),
            ],
        )
    });
    let own_clock = counts.map(|(count, name)| {
        let governor = contestant("governor (TSC)", count, QuantaClock::default, std::hash::RandomState::new);
        Row::new(format!("keyed rate limit: acquire, {name}, each by its own clock"), vec![governor]).informational()
    });
    same_clock.into_iter().chain(own_clock).collect()
}

type Governor<C, H> = RateLimiter<u64, DashMapStateStore<u64, H>, C, NoOpMiddleware<<C as Clock>::Instant>>;

const _: fn(DefaultKeyedRateLimiter<u64>) -> Governor<QuantaClock, std::hash::RandomState> = |default| default;

fn contestant<C, H>(name: &'static str, count: u64, clock: fn() -> C, hasher: fn() -> H) -> Contestant
where
    C: Clock + Send + Sync + 'static,
    C::Instant: 'static,
    H: BuildHasher + Default + Clone + Send + Sync + 'static,
{
    // Filled once: a million keys take a while.
    let filled: OnceLock<Arc<Governor<C, H>>> = OnceLock::new();
    let make = move || {
        let limiter = filled.get_or_init(|| {
            let limiter = RateLimiter::dashmap_with_clock_and_hasher(plenty_for_governor(), clock(), hasher());
            for key in 0..count {
                assert!(limiter.check_key(&key).is_ok());
            }
            Arc::new(limiter)
        });
        (limiter.clone(), Keys::new(count))
    };
    Contestant::on_threads(Role::Peer, name, make, |(limiter, keys)| {
        let key = keys.next();
        black_box(limiter.check_key(&key)).is_ok()
    })
}

/// Keys in no order. Each clone draws others.
struct Keys {
    count: u64,
    state: u64,
}

impl Keys {
    fn new(count: u64) -> Self {
        static SEED: AtomicU64 = AtomicU64::new(1);
        let seed = SEED.fetch_add(1, Relaxed);
        Self { count, state: seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) }
    }

    /// Marsaglia's xorshift64, scaled to the number of keys.
    #[inline]
    fn next(&mut self) -> u64 {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        ((u128::from(self.state) * u128::from(self.count)) >> 64) as u64
    }
}

impl Clone for Keys {
    fn clone(&self) -> Self {
        Self::new(self.count)
    }
}
