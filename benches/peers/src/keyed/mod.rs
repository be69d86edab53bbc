//! Keyed rate limits: one token of one of many keys, all known before.

mod flood;
mod limits;
pub mod memory;

use crate::harness::{Contestant, Role, Row};
use foldhash::fast::RandomState as FastHasher;
use governor::clock::QuantaClock;
use limits::{Limit, Ours, OursAt, Size, governor, later, monotonic_governor, rate_net, throttle_net};
use std::{
    hash::{BuildHasher, RandomState},
    hint::black_box,
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};
use steadfast::rate_limit::Overflow;

const COUNTS: [(usize, &str); 3] = [(1, "1 key"), MANY[0], MANY[1]];
const MANY: [(usize, &str); 2] = [(10_000, "10,000 keys"), (1_000_000, "1,000,000 keys")];

pub fn rows() -> Vec<Row> {
    let secret_hasher = COUNTS.map(|(count, name)| Row::new(format!("{ACQUIRE}, {name}"), secretly_hashed(count)));
    let fast_hasher =
        COUNTS.map(|(count, name)| Row::new(format!("{ACQUIRE}, {name}, fast hasher"), quickly_hashed(count)));
    let already_read = MANY.map(|(count, name)| {
        Row::new(format!("{ACQUIRE}, {name}, fast hasher, clock already read"), already_read(count))
    });
    let own_clock = MANY[..1].iter().map(|(count, name)| {
        Row::new(format!("{ACQUIRE}, {name}, each by its own clock"), by_own_clock(*count))
            .informational("each by its own clock")
    });
    secret_hasher.into_iter().chain(fast_hasher).chain(already_read).chain(own_clock).chain(flood::rows()).collect()
}

const ACQUIRE: &str = "keyed rate limit: acquire";

/// Of a million live keys, one may find no slot in a table sized for them. It then shares a bucket with other such
/// keys.
fn ours<H: BuildHasher + Send + Sync + 'static>(count: usize, hasher: H) -> Ours<H> {
    Ours::new(Size::plenty(count), Overflow::Shared, hasher)
}

/// With the default hasher, which is the same for both.
fn secretly_hashed(count: usize) -> Vec<Contestant> {
    vec![
        contestant(Role::Ours, "steadfast", count, move || ours(count, RandomState::new())),
        contestant(Role::Peer, "governor", count, move || monotonic_governor(Size::plenty(count), RandomState::new())),
    ]
}

fn quickly_hashed(count: usize) -> Vec<Contestant> {
    vec![
        contestant(Role::Ours, "steadfast", count, move || ours(count, FastHasher::default())),
        contestant(Role::Peer, "governor", count, move || {
            monotonic_governor(Size::plenty(count), FastHasher::default())
        }),
    ]
}

/// Without the clock. Our limit and governor use foldhash; rate-net and throttle-net use ahash, which cannot be
/// changed.
fn already_read(count: usize) -> Vec<Contestant> {
    let size = Size::plenty(count);
    vec![
        contestant(Role::Ours, "steadfast", count, move || OursAt::new(ours(count, FastHasher::default()))),
        contestant(Role::Peer, "governor", count, move || later(|clock| governor(size, clock, FastHasher::default()))),
        contestant(Role::Peer, "rate-net", count, move || later(|clock| rate_net(size, clock))),
        contestant(Role::Peer, "throttle-net", count, move || later(|clock| throttle_net(size, clock))),
    ]
}

fn by_own_clock(count: usize) -> Vec<Contestant> {
    vec![
        contestant(Role::Ours, "steadfast", count, move || ours(count, RandomState::new())),
        contestant(Role::Peer, "governor (TSC)", count, move || {
            governor(Size::plenty(count), QuantaClock::default(), RandomState::new())
        }),
    ]
}

fn contestant<L: Limit>(
    role: Role,
    name: &'static str,
    count: usize,
    make: impl Fn() -> L + Send + Sync + 'static,
) -> Contestant {
    // Filled once, because filling a million keys takes a while.
    let filled: OnceLock<L> = OnceLock::new();
    let make = move || {
        let limit = filled.get_or_init(|| {
            let limit = make();
            fill(&limit, count);
            limit
        });
        (limit.clone(), Keys::new(count as u64))
    };
    Contestant::on_threads(role, name, make, |(limit, keys)| limit.take(black_box(keys.next()), 1))
}

/// Adds all keys to the limit.
fn fill(limit: &impl Limit, count: usize) {
    for key in 0..count as u64 {
        assert!(limit.take(key, 1), "key {key} of {count} was refused");
    }
}

/// Keys in random order. Each clone draws others.
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
