//! Rate limits by key: one token of one of many keys, all known before.
//!
//! Bytes per key, of a million: ours 24 whatever the key, by `Keyed::memory`; governor 37 for a number, 102 for a
//! string of 13 bytes, 134 for one of 36.

use crate::{
    harness::{Contestant, Role, Row},
    rate::{plenty, plenty_for_governor},
};
use governor::{
    DefaultKeyedRateLimiter, RateLimiter,
    clock::{Clock, MonotonicClock, QuantaClock},
    middleware::NoOpMiddleware,
    state::keyed::DashMapStateStore,
};
use std::{
    hash::{BuildHasher, RandomState},
    hint::black_box,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};
use steadfast::rate_limit::{Keyed, OneTier, Overflow};

pub fn rows() -> Vec<Row> {
    let counts = [(1, "1 key"), (10_000, "10,000 keys"), (1_000_000, "1,000,000 keys")];
    // By the hasher that each has if none is chosen: the same one.
    let secret_hasher = counts.map(|(count, name)| {
        Row::new(
            format!("keyed rate limit: acquire, {name}"),
            vec![
                ours("steadfast", count, RandomState::new),
                contestant("governor", count, || MonotonicClock, RandomState::new),
            ],
        )
    });
    let fast_hasher = counts.map(|(count, name)| {
        Row::new(
            format!("keyed rate limit: acquire, {name}, foldhash"),
            vec![
                ours("steadfast", count, foldhash::fast::RandomState::default),
                contestant("governor", count, || MonotonicClock, foldhash::fast::RandomState::default),
            ],
        )
    });
    let own_clock = counts.map(|(count, name)| {
        let governor = contestant("governor (TSC)", count, QuantaClock::default, RandomState::new);
        let contestants = vec![ours("steadfast", count, RandomState::new), governor];
        Row::new(format!("keyed rate limit: acquire, {name}, each by its own clock"), contestants)
            .informational("each by its own clock")
    });
    secret_hasher.into_iter().chain(fast_hasher).chain(own_clock).collect()
}

fn ours<H>(name: &'static str, count: u64, hasher: fn() -> H) -> Contestant
where
    H: BuildHasher + Send + Sync + 'static,
{
    let filled: OnceLock<Keyed<u64, OneTier, H>> = OnceLock::new();
    let make = move || {
        let limit = filled.get_or_init(|| {
            let builder = Keyed::builder(count as usize, plenty()).overflow(Overflow::Refuse).hasher(hasher());
            let limit = builder.build().expect("a valid limit");
            for key in 0..count {
                assert!(limit.try_acquire(&key, 1).is_ok());
            }
            limit
        });
        (limit.clone(), Keys::new(count))
    };
    Contestant::on_threads(Role::Ours, name, make, |(limit, keys)| {
        let key = keys.next();
        black_box(&limit.try_acquire(&key, 1)).is_ok()
    })
}

type Governor<C, H> = RateLimiter<u64, DashMapStateStore<u64, H>, C, NoOpMiddleware<<C as Clock>::Instant>>;

const _: fn(DefaultKeyedRateLimiter<u64>) -> Governor<QuantaClock, RandomState> = |default| default;

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
        black_box(&limiter.check_key(&key)).is_ok()
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
