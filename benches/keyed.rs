//! The cost of a decision by a limit with a bucket for each key, with all keys already in the table.

mod support;

use criterion::{Criterion, criterion_group, criterion_main};
use std::{
    cell::Cell,
    hash::{BuildHasher, DefaultHasher, Hasher, RandomState},
    hint::black_box,
    time::Duration,
};
use steadfast::{
    Outcome,
    circuit_breaker::Breaker,
    per_key::PerKey,
    rate_limit::{Keyed, OneTier, Overflow, Quota, TokenBucket},
    shell::{Ending, Frame, Gate},
};
use support::bench;
use tokio::time::Instant;

const SECOND: Duration = Duration::from_secs(1);

const COUNTS: [(u64, &str); 3] = [(1, "1 key"), (10_000, "10,000 keys"), (1_000_000, "1,000,000 keys")];

/// A hasher that mixes a number well and cheaply, to measure the table without the cost of its hasher.
#[derive(Clone, Copy, Default)]
struct Multiply(u64);

impl Hasher for Multiply {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _bytes: &[u8]) {
        unreachable!("keys are numbers");
    }

    #[inline]
    fn write_u64(&mut self, number: u64) {
        let product = u128::from(number ^ 0x9E37_79B9_7F4A_7C15) * 0xA076_1D64_78BD_642F_E703_7ED1_A0B4_28DB;
        self.0 = (product >> 64) as u64 ^ product as u64;
    }
}

impl BuildHasher for Multiply {
    type Hasher = Self;

    fn build_hasher(&self) -> Self {
        *self
    }
}

thread_local! {
    /// Marsaglia's xorshift64: keys in random order, different in each thread.
    static STATE: Cell<u64> = const { Cell::new(0) };
}

fn next_key(count: u64) -> u64 {
    STATE.with(|state| {
        let mut random = match state.get() {
            // The address differs from thread to thread.
            0 => {
                let mut hasher = DefaultHasher::new();
                hasher.write_usize(std::ptr::from_ref(state).addr());
                hasher.finish() | 1
            }
            random => random,
        };
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        state.set(random);
        ((u128::from(random) * u128::from(count)) >> 64) as u64
    })
}

/// A billion tokens per second for each key. All keys are in the table.
fn plenty<S: BuildHasher>(count: u64, hasher: S) -> Keyed<u64, OneTier, S> {
    let quota = Quota::new(1_000_000_000, SECOND).with_burst(4_000_000_000);
    let builder = Keyed::builder(count as usize, quota).overflow(Overflow::Refuse).hasher(hasher);
    let limit = builder.build().unwrap();
    (0..count).for_each(|key| limit.try_acquire(&key, 1).unwrap());
    limit
}

fn acquire(criterion: &mut Criterion) {
    for (count, name) in COUNTS {
        let limit = plenty(count, RandomState::new());
        bench(criterion, &format!("keyed, acquire, {name}"), || {
            black_box(limit.try_acquire(&next_key(count), 1)).unwrap();
        });
        let limit = plenty(count, Multiply::default());
        bench(criterion, &format!("keyed, acquire, {name}, a cheap hasher"), || {
            black_box(limit.try_acquire(&next_key(count), 1)).unwrap();
        });
        let now = Instant::now() + SECOND;
        bench(criterion, &format!("keyed, acquire, {name}, a cheap hasher, clock already read"), || {
            black_box(limit.try_acquire_at(&next_key(count), 1, black_box(now))).unwrap();
        });
    }
}

/// A bucket of its own for each key, with the same rate and burst.
fn one_each(count: u64) -> PerKey<TokenBucket, u64, fn(&u64) -> u64> {
    let quota = Quota::new(1_000_000_000, SECOND).with_burst(4_000_000_000);
    let buckets = PerKey::new((|key: &u64| *key) as fn(&u64) -> u64, TokenBucket::with_quota(quota)).unwrap();
    let buckets = buckets.max_keys(count as usize);
    (0..count).for_each(|key| drop(buckets.handle(key)));
    buckets
}

/// The same keys in `Keyed`, and with a mechanism of its own for each key.
fn per_key(criterion: &mut Criterion) {
    for (count, name) in COUNTS {
        let keyed = plenty(count, RandomState::new());
        bench(criterion, &format!("per key, {name}, keyed"), || {
            black_box(keyed.try_acquire(&next_key(count), 1)).unwrap();
        });
        let buckets = one_each(count);
        bench(criterion, &format!("per key, {name}, a bucket each"), || {
            let now = Instant::now();
            black_box(buckets.handle_at(next_key(count), now).try_acquire_at(1, now)).unwrap();
        });
        bench(criterion, &format!("per key, {name}, get"), || {
            black_box(buckets.get(&next_key(count))).unwrap();
        });
    }
    let breakers = PerKey::new((|key: &u64| *key) as fn(&u64) -> u64, Breaker::builder()).unwrap();
    bench(criterion, "per key, 1,000 keys, a breaker each, a call through the gate", || {
        let (key, frame) = (next_key(1000), &mut Frame::new());
        let permit = breakers.admit(&key, frame).unwrap();
        let success = Ending::Answered(Outcome::Success);
        Gate::<u64>::settle(&breakers, permit, success, frame);
    });
    let bucket = TokenBucket::builder(1_000_000_000, SECOND).burst(4_000_000_000).build().unwrap();
    bench(criterion, "per key, one bucket for all", || {
        black_box(bucket.try_acquire_at(1, Instant::now())).unwrap();
    });
    let breaker = Breaker::builder().build().unwrap();
    bench(criterion, "per key, one breaker, a call through the gate", || {
        let (key, frame) = (next_key(1000), &mut Frame::new());
        let permit = Gate::<u64>::admit(&breaker, &key, frame).unwrap();
        let success = Ending::Answered(Outcome::Success);
        Gate::<u64>::settle(&breaker, permit, success, frame);
    });
}

fn strangers(criterion: &mut Criterion) {
    let quota = Quota::new(1, 1_000_000 * SECOND);
    let limit = Keyed::<u64>::builder(10_000, quota).overflow(Overflow::Refuse).build().unwrap();
    (0..100_000).for_each(|key| drop(limit.try_acquire(&key, 1)));
    bench(criterion, "keyed, refuse a key that finds no slot", || {
        black_box(limit.try_acquire(&(next_key(1 << 60) | 1 << 62), 1)).unwrap_err();
    });
    let limit = Keyed::<u64>::builder(10_000, Quota::new(1_000_000_000, SECOND)).build().unwrap();
    bench(criterion, "keyed, acquire, a key that was never seen", || {
        black_box(limit.try_acquire(&next_key(u64::MAX), 1)).unwrap();
    });
}

criterion_group! {
    name = benches;
    config = Criterion::default().warm_up_time(Duration::from_millis(300)).measurement_time(SECOND).sample_size(20);
    targets = acquire, per_key, strangers
}
criterion_main!(benches);
