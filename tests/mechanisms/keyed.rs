//! Compares the keyed rate limit with plain buckets in a map.

use crate::support::size;
use proptest::prelude::*;
use std::{
    collections::HashMap,
    hash::{BuildHasher, BuildHasherDefault, DefaultHasher, Hasher},
    sync::{
        Arc, Barrier,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};
use steadfast::{
    ConfigError,
    rate_limit::{Keyed, KeyedBuilder, OneTier, Overflow, Quota, TokenBucket},
};
use tokio::{runtime, time::Instant};

const NANO: Duration = Duration::from_nanos(1);
const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);
const YEAR: Duration = Duration::from_secs(366 * 24 * 60 * 60);

/// A stopped clock, so that a table is built at the instant from which the tests count.
fn standing_clock() -> runtime::Runtime {
    runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap()
}

/// Hashes equally in every run, so that the same keys always share cache lines.
type SameEveryRun = BuildHasherDefault<DefaultHasher>;

/// One token per hour, with a small burst: no token is minted while a test runs.
fn slow(burst: u64) -> Quota {
    Quota::new(1, HOUR).with_burst(burst)
}

fn builder(max_keys: usize, quota: Quota) -> KeyedBuilder<u64, OneTier, SameEveryRun> {
    Keyed::builder(max_keys, quota).hasher(SameEveryRun::default())
}

/// Refuses keys that find no slot.
fn strict(max_keys: usize, quota: Quota) -> Keyed<u64, OneTier, SameEveryRun> {
    builder(max_keys, quota).overflow(Overflow::Refuse).build().unwrap()
}

/// A token, in units of 10^-18 of a token. The rates below mint a whole number of units per nanosecond.
const TOKEN: i128 = 1_000_000_000_000_000_000;

/// A plain bucket: one number, updated by hand.
#[derive(Clone, Copy, Debug)]
struct Plain {
    level: i128,
    at: u64,
    tier: usize,
    /// The most by which conversions from one quota to another may have rounded the level. Each conversion adds as much
    /// as the faster quota mints in four nanoseconds.
    rounded: i128,
}

fn per_nano(quota: Quota) -> i128 {
    let (count, period) = (i128::from(quota.count()) * TOKEN, quota.period().as_nanos() as i128);
    assert_eq!(count % period, 0, "a rate for which the plain bucket is exact");
    count / period
}

fn full(quota: Quota) -> i128 {
    i128::from(quota.burst()) * TOKEN
}

impl Plain {
    fn level_at(&self, nanos: u64, quota: Quota) -> i128 {
        (self.level + per_nano(quota) * (i128::from(nanos) - i128::from(self.at))).min(full(quota))
    }

    fn converted(self, old: Quota, new: Quota) -> Self {
        let rounded = self.rounded + 4 * per_nano(old).max(per_nano(new));
        Self { level: self.level.min(full(new)), rounded, ..self }
    }

    fn advance_to(&mut self, nanos: u64, quota: Quota) {
        (self.level, self.at) = (self.level_at(nanos, quota), nanos);
    }
}

/// The keyed limit and a map of plain buckets, which get the same calls.
struct Trial {
    keyed: Keyed<usize, steadfast::rate_limit::TierBy<Box<dyn Fn(&usize) -> usize>>, SameEveryRun>,
    tiers: Arc<Vec<AtomicUsize>>,
    quotas: Vec<Quota>,
    /// The keys whose buckets may not be full. Any other key has a full bucket.
    plain: HashMap<usize, Plain>,
    origin: Instant,
    nanos: u64,
    /// Whether the table has slots for all keys.
    roomy: bool,
    taken: Vec<(usize, u64)>,
}

const KEYS: usize = 40;

/// Rates for which a plain bucket is exact. The keyed limit counts in subtokens, fractions of a token. At some of these
/// rates, a subtoken does not take a whole number of nanoseconds.
fn quotas() -> Vec<Quota> {
    let count = |count| Quota::new(count, SECOND);
    vec![
        count(100).with_burst(5),
        count(1_000_000).with_burst(50),
        count(3).with_burst(7),
        count(999_999_937).with_burst(1_000_000),
        count(600_000_000).with_burst(3),
        Quota::new(1, Duration::from_secs(1_000)).with_burst(2),
        count(1_000_000_000).with_burst(1),
        Quota::new(7, Duration::from_secs(10)).with_burst(1_000),
    ]
}

#[derive(Clone, Debug)]
enum Step {
    /// A key, and a cost in 8ths of the burst, rounded up.
    Acquire(usize, u64),
    TooMuch(usize),
    Refund,
    Wait(u64),
    WaitToFill(usize),
    WaitAYear,
    /// Gives a key another tier.
    Move(usize, usize),
    /// Gives a tier another quota.
    Change(usize, usize),
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        24 => (0..KEYS, 0..=8u64).prop_map(|(key, share)| Step::Acquire(key, share)),
        1 => (0..KEYS).prop_map(Step::TooMuch),
        3 => Just(Step::Refund),
        3 => (0..10u64).prop_map(Step::Wait),
        3 => (0..30u32, any::<u64>()).prop_map(|(size, random)| Step::Wait(random % (1 << size))),
        2 => (0..3usize).prop_map(Step::WaitToFill),
        1 => Just(Step::WaitAYear),
        3 => (0..KEYS, 0..4usize).prop_map(|(key, tier)| Step::Move(key, tier)),
        2 => (0..3usize, 0..8usize).prop_map(|(tier, quota)| Step::Change(tier, quota)),
    ]
}

impl Trial {
    fn new(max_keys: usize) -> Self {
        let quotas = quotas()[..3].to_vec();
        let tiers: Arc<Vec<_>> = Arc::new((0..KEYS).map(|_| AtomicUsize::new(0)).collect());
        let tier_now = tiers.clone();
        let tier_of: Box<dyn Fn(&usize) -> usize> = Box::new(move |key| tier_now[*key].load(Ordering::Relaxed));
        let builder = Keyed::builder(max_keys, quotas[0]).tiers(quotas[1..].to_vec(), tier_of);
        let keyed = builder.hasher(SameEveryRun::default()).overflow(Overflow::Refuse).build().unwrap();
        let (origin, roomy) = (Instant::now(), max_keys >= KEYS);
        Self { keyed, tiers, quotas, plain: HashMap::new(), origin, nanos: 0, roomy, taken: Vec::new() }
    }

    fn now(&self) -> Instant {
        self.origin + Duration::from_nanos(self.nanos)
    }

    fn tier(&self, key: usize) -> usize {
        let tier = self.tiers[key].load(Ordering::Relaxed);
        if tier < self.quotas.len() { tier } else { 0 }
    }

    /// Returns the plain bucket of a key, converted to the present tier of the key, and the quota of that tier.
    fn plain(&mut self, key: usize) -> (Plain, Quota) {
        let tier = self.tier(key);
        let quota = self.quotas[tier];
        let fresh = Plain { level: full(quota), at: self.nanos, tier, rounded: 0 };
        let mut plain = *self.plain.get(&key).unwrap_or(&fresh);
        plain.advance_to(self.nanos, self.quotas[plain.tier]);
        // The table may have forgotten a key whose bucket is full. The key then counts as new.
        let was_full = plain.level >= full(self.quotas[plain.tier]);
        if plain.tier != tier && was_full && self.keyed.available_at(&key, self.now()) == quota.burst() {
            return (fresh, quota);
        }
        if plain.tier != tier {
            plain = Plain { tier, ..plain.converted(self.quotas[plain.tier], quota) };
        }
        (plain, quota)
    }

    fn acquire(&mut self, key: usize, tokens: u64) -> Result<(), TestCaseError> {
        if tokens == 0 {
            prop_assert!(self.keyed.try_acquire_at(&key, 0, self.now()).is_ok(), "a call for zero tokens was refused");
            return Ok(());
        }
        let (plain, quota) = self.plain(key);
        let was_known = self.plain.contains_key(&key);
        let cost = i128::from(tokens) * TOKEN;
        // What the quota mints in two nanoseconds, plus what conversions may have rounded.
        let tolerance = 2 * per_nano(quota) + plain.rounded;
        match self.keyed.try_acquire_at(&key, tokens, self.now()) {
            Ok(()) => {
                prop_assert!(cost <= plain.level + tolerance, "{} of {:?} is too many: {:?}", tokens, quota, plain);
                self.plain.insert(key, Plain { level: plain.level - cost, ..plain });
                self.taken.push((key, tokens));
            }
            Err(refused) if tokens > quota.burst() => {
                prop_assert_eq!(refused.retry_after(), None);
                if was_known {
                    self.plain.insert(key, plain);
                }
            }
            Err(refused) => {
                let wait = refused.retry_after().unwrap().as_nanos() as i128;
                prop_assert!(wait > 0, "refused for nothing");
                if !self.roomy && (!was_known || plain.level >= full(quota) - tolerance) {
                    // All slots are taken.
                    return Ok(());
                }
                prop_assert!(plain.level - tolerance < cost, "{} of {:?} are there: {:?}", tokens, quota, plain);
                let missing = cost - plain.level;
                let wrong = (wait * per_nano(quota) - missing).abs();
                let most = tolerance + 2 * per_nano(quota);
                prop_assert!(wrong <= most, "{} ns for {} of {:?}: {:?}", wait, tokens, quota, plain);
                // By now the key has a bucket of this tier.
                self.plain.insert(key, plain);
            }
        }
        Ok(())
    }

    /// Changes a quota. Forgets full buckets, as the table does.
    fn change(&mut self, tier: usize, quota: Quota) -> Result<(), TestCaseError> {
        let (nanos, old) = (self.nanos, self.quotas.clone());
        if old[tier] != quota {
            // A bucket that is full within the tolerance may be forgotten or not. The test then skips the change.
            let unclear = |plain: &Plain| {
                let quota = old[plain.tier];
                let missing = full(quota) - plain.level_at(nanos, quota);
                missing > 0 && missing <= 4 * per_nano(quota) + plain.rounded
            };
            if self.plain.values().any(unclear) {
                return Ok(());
            }
            self.plain.retain(|_, plain| plain.level_at(nanos, old[plain.tier]) < full(old[plain.tier]));
            for plain in self.plain.values_mut().filter(|plain| plain.tier == tier) {
                plain.advance_to(nanos, old[tier]);
                *plain = plain.converted(old[tier], quota);
            }
            self.plain.retain(|_, plain| plain.tier != tier || plain.level < full(quota));
        }
        self.quotas[tier] = quota;
        self.keyed.set_quota_at(tier, quota, self.now()).unwrap();
        prop_assert_eq!(self.keyed.quota(tier), quota);
        Ok(())
    }

    fn step(&mut self, step: Step) -> Result<(), TestCaseError> {
        match step {
            Step::Acquire(key, share) => {
                let burst = self.quotas[self.tier(key)].burst();
                self.acquire(key, (burst * share).div_ceil(8))?;
            }
            Step::TooMuch(key) => {
                let burst = self.quotas[self.tier(key)].burst();
                self.acquire(key, burst + 1)?;
            }
            Step::Refund => {
                if let Some((key, tokens)) = self.taken.pop() {
                    // A refund counts by the tier of the bucket, which may differ from the key's present tier.
                    if let Some(plain) = self.plain.get_mut(&key) {
                        let quota = self.quotas[plain.tier];
                        plain.advance_to(self.nanos, quota);
                        plain.level = (plain.level + i128::from(tokens) * TOKEN).min(full(quota));
                    }
                    self.keyed.refund_at(&key, tokens, self.now());
                }
            }
            Step::Wait(nanos) => self.nanos += nanos,
            Step::WaitToFill(tier) => {
                let quota = self.quotas[tier];
                self.nanos += (full(quota) / per_nano(quota)) as u64;
            }
            Step::WaitAYear => self.nanos += YEAR.as_nanos() as u64,
            Step::Move(key, tier) if self.roomy => self.tiers[key].store(tier, Ordering::Relaxed),
            Step::Move(..) => {}
            Step::Change(tier, quota) => self.change(tier, quotas()[quota])?,
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(crate::support::cases(600))]

    #[test]
    fn every_key_is_limited_like_its_own_bucket(steps in prop::collection::vec(any_step(), 1..80)) {
        let clock = standing_clock();
        let _guard = clock.enter();
        let mut trial = Trial::new(KEYS);
        for step in steps {
            trial.step(step)?;
        }
    }

    #[test]
    fn known_keys_are_limited_like_their_own_buckets_when_the_table_is_full(
        steps in prop::collection::vec(any_step(), 1..300),
    ) {
        let clock = standing_clock();
        let _guard = clock.enter();
        // 16 slots for 40 keys.
        let mut trial = Trial::new(1);
        for step in steps {
            trial.step(step)?;
        }
    }
}

/// Takes all available tokens of a key, one by one, and returns their number.
fn drain<S: BuildHasher>(keyed: &Keyed<u64, OneTier, S>, key: u64, now: Instant) -> u64 {
    (0..).find(|_| keyed.try_acquire_at(&key, 1, now).is_err()).unwrap()
}

#[test]
fn a_key_is_admitted_as_a_bucket_of_its_quota_would_admit_it() {
    let clock = standing_clock();
    let _guard = clock.enter();
    for quota in quotas() {
        let start = Instant::now();
        let (keyed, bucket) = (strict(1000, quota), TokenBucket::with_quota(quota).build().unwrap());
        let step = quota.period().as_nanos() as u64 / quota.count() / 3 + 1;
        let (mut ours, mut theirs) = (0u64, 0u64);
        for n in 0..2_000 {
            let now = start + Duration::from_nanos(n * step);
            let tokens = 1 + n % quota.burst().min(3);
            ours += keyed.try_acquire_at(&7, tokens, now).map_or(0, |()| tokens);
            theirs += bucket.try_acquire_at(tokens, now).map_or(0, |()| tokens);
        }
        // The two limits may differ by 2 ns, in which the fastest quota mints two tokens.
        assert!(ours.abs_diff(theirs) <= 2, "{quota:?}: {ours}, not {theirs}");
    }
}

#[test]
fn no_key_is_admitted_more_than_a_burst_and_the_tokens_minted() {
    let clock = standing_clock();
    let _guard = clock.enter();
    let start = Instant::now();
    // 1,500 keys for 256 slots. Each key calls every 350 ms.
    // A token is minted every 700 ms, at half the rate of the calls.
    let keyed = strict(100, Quota::new(10, 7 * SECOND).with_burst(3));
    let mut admitted: HashMap<u64, Vec<u64>> = HashMap::new();
    for millis in (0..20_000).step_by(50) {
        for key in (millis / 50 % 7..1500).step_by(7) {
            if keyed.try_acquire_at(&key, 1, start + Duration::from_millis(millis)).is_ok() {
                admitted.entry(key).or_default().push(millis);
            }
        }
    }
    assert!(admitted.len() > 200, "only {} keys were ever admitted", admitted.len());
    for (key, times) in admitted {
        for (first, start) in times.iter().enumerate() {
            for (last, end) in times.iter().enumerate().skip(first) {
                let most = 3 + (end - start) / 700;
                assert!(last - first < most as usize, "key {key}: {} from {start} to {end} ms", last - first + 1);
            }
        }
    }
}

#[test]
fn a_table_refuses_no_key_while_at_most_max_keys_are_live() {
    let clock = standing_clock();
    let _guard = clock.enter();
    for max_keys in [1, 2, 10, 11, 21, 42, 85, 100, 170, 341, 342, 512, 1_000, size(10_000, 300_000)] {
        let keyed = strict(max_keys, slow(2));
        let now = Instant::now();
        let refused = (0..max_keys as u64).filter(|key| keyed.try_acquire_at(key, 1, now).is_err()).count();
        assert_eq!(refused, 0, "of {max_keys}");
        assert_eq!(keyed.live_keys_at(now), max_keys);
        // Each has its own bucket, with one token left.
        let again = (0..max_keys as u64).filter(|key| keyed.available_at(key, now) == 1).count();
        assert_eq!(again, max_keys);
    }
}

#[test]
fn keys_that_come_and_go_find_slots_while_at_most_max_keys_are_live() {
    let clock = standing_clock();
    let _guard = clock.enter();
    let start = Instant::now();
    // A key is live for 10,000 µs, and each microsecond brings a new key.
    let keyed = strict(10_000, Quota::new(100, SECOND).with_burst(1));
    let now = |micros: u64| start + Duration::from_micros(micros);
    let keys = size(60_000, 500_000);
    let refused = (0..keys).filter(|micros| keyed.try_acquire_at(micros, 1, now(*micros)).is_err()).count();
    assert_eq!(refused, 0);
    assert_eq!(keyed.live_keys_at(now(keys - 1)), 10_000);
    assert_eq!(keyed.live_keys_at(now(keys + 10_000)), 0);
}

#[test]
fn many_new_keys_do_not_affect_known_keys() {
    let clock = standing_clock();
    let _guard = clock.enter();
    for overflow in [Overflow::Shared, Overflow::Refuse] {
        let keyed = builder(1_000, slow(4)).overflow(overflow).build().unwrap();
        let now = Instant::now();
        for key in 0..1_000 {
            keyed.try_acquire_at(&key, 1 + key % 3, now).unwrap();
        }
        let strangers = 1_000..size(21_000, 1_001_000);
        let admitted = strangers.filter(|key| keyed.try_acquire_at(key, 1, now).is_ok()).count();
        // There were 536 more slots, and the strangers found nearly all of them. The other strangers share one bucket,
        // or are refused.
        let slots = keyed.live_keys_at(now) - 1_000;
        assert!((400..=536).contains(&slots), "{slots}");
        assert_eq!(admitted, slots + if overflow == Overflow::Shared { 4 } else { 0 });
        for key in 0..1_000 {
            assert_eq!(drain(&keyed, key, now), 3 - key % 3, "key {key}, {overflow:?}");
        }
    }
}

#[test]
fn only_full_buckets_lose_their_slots() {
    let clock = standing_clock();
    let _guard = clock.enter();
    // In this small table, each key may be in any of the 16 slots.
    let keyed = strict(1, slow(10));
    let now = Instant::now();
    for key in 0..16 {
        keyed.try_acquire_at(&key, 1 + key % 4, now).unwrap();
    }
    let refused = keyed.try_acquire_at(&99, 1, now).unwrap_err();
    assert_eq!(refused.retry_after(), Some(HOUR), "when the first bucket is full");
    assert!(keyed.try_acquire_at(&99, 1, now + HOUR - NANO).is_err());
    // The four keys that took one token are full.
    for stranger in 100..104 {
        assert!(keyed.try_acquire_at(&stranger, 1, now + HOUR).is_ok(), "{stranger}");
    }
    assert_eq!(keyed.try_acquire_at(&104, 1, now + HOUR).unwrap_err().retry_after(), Some(HOUR));
    for key in 0..16 {
        assert_eq!(keyed.available_at(&key, now + HOUR), 10 - key % 4, "key {key}");
    }
}

#[test]
fn the_bucket_that_has_been_full_for_longest_loses_its_slot_first() {
    let clock = standing_clock();
    let _guard = clock.enter();
    let start = Instant::now();
    let keyed = strict(1, Quota::new(1, SECOND).with_burst(1));
    for key in 0..16 {
        keyed.try_acquire_at(&key, 1, start + key as u32 * HOUR).unwrap();
    }
    let now = start + 16 * HOUR;
    keyed.try_acquire_at(&16, 1, now).unwrap();
    // Only key 0 has lost its slot. The other keys call before it and become live, so that no slot is left for key 0.
    for key in (1..16).rev() {
        keyed.try_acquire_at(&key, 1, now).unwrap();
    }
    assert!(keyed.try_acquire_at(&0, 1, now).is_err());
}

#[test]
fn keys_of_a_tier_without_a_slot_share_one_bucket() {
    let clock = standing_clock();
    let _guard = clock.enter();
    let keyed = Keyed::<u64>::builder(1, slow(3)).tiers([slow(5)], |key| (*key >= 1_000) as usize).build().unwrap();
    let now = Instant::now();
    for key in 0..16 {
        keyed.try_acquire_at(&key, 1, now).unwrap();
    }
    let admitted = |keys: std::ops::Range<u64>| keys.filter(|key| keyed.try_acquire_at(key, 1, now).is_ok()).count();
    assert_eq!(admitted(100..200), 3);
    assert_eq!(admitted(1_000..1_100), 5);
    let refused = keyed.try_acquire_at(&2_000, 1, now).unwrap_err();
    assert_eq!(refused.retry_after(), Some(HOUR));
    assert_eq!(keyed.try_acquire_at(&2_000, 6, now).unwrap_err().retry_after(), None);
    // The shared bucket follows the quota of its tier.
    keyed.set_quota_at(0, Quota::new(1, SECOND).with_burst(3), now).unwrap();
    assert_eq!(keyed.try_acquire_at(&2_000, 1, now).unwrap_err().retry_after(), Some(HOUR));
}

/// A hasher that gives all keys the same hash.
#[derive(Clone, Copy, Default)]
struct Same(u64);

impl Hasher for Same {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _bytes: &[u8]) {}
}

impl BuildHasher for Same {
    type Hasher = Self;

    fn build_hasher(&self) -> Self {
        *self
    }
}

#[test]
fn keys_with_the_same_hash_share_a_bucket() {
    let clock = standing_clock();
    let _guard = clock.enter();
    for hash in [0, 1, u64::MAX, 1 << 63] {
        let keyed = Keyed::<u64>::builder(1_000, slow(10)).hasher(Same(hash)).build().unwrap();
        let now = Instant::now();
        let admitted = (0..100).filter(|key| keyed.try_acquire_at(key, 1, now).is_ok()).count();
        assert_eq!(admitted, 10);
        assert_eq!(keyed.live_keys_at(now), 1);
    }
}

/// A hasher that returns the key itself as its hash.
#[derive(Clone, Copy, Default)]
struct Itself(u64);

impl Hasher for Itself {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        self.0 = u64::from_ne_bytes(bytes.try_into().unwrap());
    }
}

impl BuildHasher for Itself {
    type Hasher = Self;

    fn build_hasher(&self) -> Self {
        *self
    }
}

#[test]
fn keys_of_one_cache_line_overflow_into_three_others_and_are_never_admitted_too_much() {
    let clock = standing_clock();
    let _guard = clock.enter();
    let limit = Keyed::<u64>::builder(100_000, slow(2)).overflow(Overflow::Refuse).hasher(Itself::default());
    let limit = limit.build().unwrap();
    let now = Instant::now();
    // The lowest and the highest bits of a hash choose the four cache lines of a key. All keys have the same four.
    let keys: Vec<u64> = (1..=100).map(|n| n << 40).collect();
    let admitted: Vec<usize> =
        keys.iter().map(|key| (0..3).filter(|_| limit.try_acquire_at(key, 1, now).is_ok()).count()).collect();
    assert!(admitted.iter().all(|admitted| [0, 2].contains(admitted)), "{admitted:?}");
    assert_eq!(admitted.iter().sum::<usize>(), 2 * 16);
    assert!(keys.iter().zip(&admitted).all(|(key, admitted)| limit.available_at(key, now) == 2 - *admitted as u64));
}

#[test]
fn a_changed_quota_leaves_each_key_its_tokens_up_to_the_new_burst() {
    let clock = standing_clock();
    let _guard = clock.enter();
    let keyed = strict(100, slow(10));
    let now = Instant::now();
    keyed.try_acquire_at(&1, 1, now).unwrap();
    keyed.try_acquire_at(&7, 7, now).unwrap();
    keyed.try_acquire_at(&10, 10, now).unwrap();
    for (burst, left) in [(20, [9, 3, 0]), (5, [5, 3, 0]), (1, [1, 1, 0])] {
        for quota in
            [slow(burst), Quota::new(3, 2 * HOUR).with_burst(burst), Quota::new(1, YEAR / 100).with_burst(burst)]
        {
            keyed.set_quota_at(0, quota, now).unwrap();
            assert_eq!([1, 7, 10].map(|key| keyed.available_at(&key, now)), left, "{quota:?}");
        }
    }
    keyed.set_quota_at(0, Quota::new(1, SECOND).with_burst(2), now).unwrap();
    assert_eq!(keyed.try_acquire_at(&10, 1, now).unwrap_err().retry_after(), Some(SECOND));
    assert!(keyed.try_acquire_at(&10, 1, now + SECOND).is_ok(), "no key is locked out");
}

#[test]
fn a_larger_burst_does_not_make_full_keys_live() {
    let clock = standing_clock();
    let _guard = clock.enter();
    let keyed = strict(1, Quota::new(1, SECOND).with_burst(1));
    let now = Instant::now();
    for key in 0..16 {
        keyed.try_acquire_at(&key, 1, now).unwrap();
    }
    let later = now + SECOND;
    keyed.set_quota_at(0, slow(100), later).unwrap();
    assert_eq!(keyed.live_keys_at(later), 0);
    assert_eq!((0..16).map(|stranger| drain(&keyed, 100 + stranger, later)).sum::<u64>(), 1_600);
}

#[test]
fn a_key_that_changes_its_tier_keeps_its_tokens_up_to_the_new_burst() {
    let clock = standing_clock();
    let _guard = clock.enter();
    let tier = Arc::new(AtomicUsize::new(0));
    let tier_now = tier.clone();
    let builder =
        Keyed::<u64>::builder(10, slow(10)).tiers([slow(100), slow(4)], move |_| tier_now.load(Ordering::Relaxed));
    let keyed = builder.build().unwrap();
    let now = Instant::now();
    keyed.try_acquire_at(&1, 2, now).unwrap();
    // An index without a tier counts as the first tier.
    for (index, left) in [(0, 8), (3, 8), (usize::MAX, 8), (1, 8), (2, 4), (0, 4), (1, 4)] {
        tier.store(index, Ordering::Relaxed);
        assert_eq!(keyed.available_at(&1, now), left, "in tier {index}");
        keyed.try_acquire_at(&1, left + 1, now).unwrap_err();
        assert_eq!(keyed.available_at(&1, now), left, "in tier {index}");
    }
    // Changing back and forth mints nothing.
    for round in 0..1_000 {
        tier.store(round % 3, Ordering::Relaxed);
        keyed.refund_at(&1, 0, now);
    }
    assert_eq!(keyed.available_at(&1, now), 4);
}

#[test]
fn refunds_never_fill_a_bucket_beyond_its_burst() {
    let clock = standing_clock();
    let _guard = clock.enter();
    let keyed = strict(10, slow(5));
    let now = Instant::now();
    keyed.try_acquire_at(&1, 5, now).unwrap();
    keyed.refund_at(&1, 2, now);
    assert_eq!(keyed.available_at(&1, now), 2);
    for tokens in [3, 5, 1_000, u64::MAX, u64::MAX] {
        keyed.refund_at(&1, tokens, now);
        assert_eq!(keyed.available_at(&1, now), 5);
    }
    keyed.refund_at(&2, u64::MAX, now);
    assert_eq!(keyed.available_at(&2, now), 5, "a key that was never seen");
    assert_eq!(keyed.live_keys_at(now), 0);
    assert_eq!(drain(&keyed, 1, now), 5);
}

#[test]
fn a_call_for_zero_tokens_and_one_above_the_burst_leave_no_trace() {
    let clock = standing_clock();
    let _guard = clock.enter();
    let keyed = strict(10, slow(5));
    let now = Instant::now();
    assert!(keyed.try_acquire_at(&1, 0, now).is_ok());
    for tokens in [6, 1_000, u64::MAX] {
        assert_eq!(keyed.try_acquire_at(&1, tokens, now).unwrap_err().retry_after(), None);
    }
    assert_eq!(keyed.live_keys_at(now), 0);
    keyed.try_acquire_at(&1, 5, now).unwrap();
    assert!(keyed.try_acquire_at(&1, 0, now).is_ok());
    assert_eq!(keyed.try_acquire_at(&1, 6, now).unwrap_err().retry_after(), None);
}

#[test]
fn a_clock_that_goes_back_mints_nothing() {
    let clock = standing_clock();
    let _guard = clock.enter();
    let keyed = strict(10, Quota::new(1_000_000, SECOND).with_burst(50));
    let now = Instant::now();
    assert_eq!(drain(&keyed, 1, now + YEAR), 50);
    assert_eq!(drain(&keyed, 1, now), 0);
    assert_eq!(drain(&keyed, 1, now + YEAR / 2), 0);
    assert_eq!(drain(&keyed, 1, now + YEAR), 0);
    assert_eq!(drain(&keyed, 1, now + YEAR + SECOND), 50);
}

#[test]
fn a_bucket_works_on_when_its_state_wraps() {
    let clock = standing_clock();
    let _guard = clock.enter();
    let start = Instant::now();
    for quota in [Quota::new(1, SECOND).with_burst(3), Quota::new(999_999_937, SECOND), Quota::new(1, YEAR)] {
        let keyed = strict(10, quota);
        let mut now = start;
        // A key that is used often, a key that is used every three years, and a key that is unused until the end.
        assert_eq!(drain_all(&keyed, 1, now), quota.burst());
        assert_eq!(drain_all(&keyed, 2, now), quota.burst());
        assert_eq!(drain_all(&keyed, 3, now), quota.burst());
        for months in 1..=500 {
            now += YEAR / 12;
            keyed.try_acquire_at(&1, 1, now).ok();
            if months % 36 == 0 {
                assert_eq!(drain_all(&keyed, 2, now), quota.burst(), "after {months} months");
                assert_eq!(drain_all(&keyed, 2, now), 0, "after {months} months");
            }
        }
        assert_eq!(drain_all(&keyed, 3, now), quota.burst());
        // Then the clock jumps by up to 20 years.
        for years in [2, 4, 5, 9, 10, 20] {
            now += years * YEAR;
            assert_eq!(drain_all(&keyed, 1, now), quota.burst(), "after {years} years");
            assert_eq!(drain_all(&keyed, 1, now), 0, "after {years} years");
        }
    }
}

/// Takes all available tokens of a key, as many as possible at a time, and returns their number.
fn drain_all<S: BuildHasher>(keyed: &Keyed<u64, OneTier, S>, key: u64, now: Instant) -> u64 {
    let (mut tokens, mut taken) = (keyed.quota(0).burst(), 0);
    while tokens > 0 {
        match keyed.try_acquire_at(&key, tokens, now) {
            Ok(()) => taken += tokens,
            Err(_) => tokens /= 2,
        }
    }
    taken
}

/// Runs `body` on threads that start together, and returns the sum of the results.
fn on_threads(threads: usize, body: impl Fn(usize) -> u64 + Sync) -> u64 {
    let start = Barrier::new(threads);
    let run = |index| {
        start.wait();
        body(index)
    };
    thread::scope(|scope| {
        let run = &run;
        let threads: Vec<_> = (0..threads).map(|index| scope.spawn(move || run(index))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    })
}

#[test]
fn contending_threads_with_one_key_are_admitted_exactly_its_burst() {
    let clock = standing_clock();
    let _guard = clock.enter();
    let now = Instant::now();
    let keyed = strict(10, Quota::new(1, 1_000 * SECOND).with_burst(20_000));
    let admitted = on_threads(4, |_| (0..10_000).filter(|_| keyed.try_acquire_at(&7, 1, now).is_ok()).count() as u64);
    assert_eq!(admitted, 20_000);
}

#[test]
fn threads_that_add_the_same_new_keys_never_double_a_bucket() {
    let clock = standing_clock();
    let _guard = clock.enter();
    let now = Instant::now();
    for round in 0..20 {
        let keyed = strict(2_000, slow(2));
        let ask = |_| (0..2_000).filter(|key| keyed.try_acquire_at(&(key + round), 1, now).is_ok()).count() as u64;
        assert_eq!(on_threads(3, ask), 4_000);
        assert_eq!(keyed.live_keys_at(now), 2_000);
    }
}

#[test]
fn slots_that_are_reused_all_the_time_never_count_one_key_for_another() {
    let clock = standing_clock();
    let _guard = clock.enter();
    let start = Instant::now();
    let rounds = size(400, 2_000);
    // 16 slots for 30 keys. Each round brings new keys, when all earlier ones are full again.
    let keyed = strict(1, Quota::new(1, SECOND).with_burst(3));
    let admitted: Vec<AtomicUsize> = (0..30 * rounds).map(|_| AtomicUsize::new(0)).collect();
    let round_begins = Barrier::new(3);
    on_threads(3, |thread| {
        for round in 0..rounds {
            round_begins.wait();
            let now = start + Duration::from_secs(10 * round as u64);
            for n in 0..60 {
                let key = 30 * round + (n + 10 * thread) % 30;
                if keyed.try_acquire_at(&(key as u64), 1, now).is_ok() {
                    admitted[key].fetch_add(1, Ordering::Relaxed);
                }
            }
        }
        0
    });
    for (round, keys) in admitted.chunks(30).enumerate() {
        let keys: Vec<usize> = keys.iter().map(|admitted| admitted.load(Ordering::Relaxed)).collect();
        assert!(keys.iter().all(|admitted| [0, 3].contains(admitted)), "round {round}: {keys:?}");
        assert_eq!(keys.iter().sum::<usize>(), 3 * 16, "round {round}: {keys:?}");
    }
}

#[test]
fn a_quota_that_changes_all_the_time_neither_costs_a_key_a_token_nor_gives_one() {
    let clock = standing_clock();
    let _guard = clock.enter();
    let now = Instant::now();
    let keyed = strict(100, slow(3_000));
    let admitted = on_threads(3, |thread| {
        if thread == 0 {
            for round in 0..3_000 {
                let quota = [slow(3_000), Quota::new(1, 2 * HOUR).with_burst(3_000)][round % 2];
                keyed.set_quota_at(0, quota, now).unwrap();
            }
            return 0;
        }
        (0..40_000).filter(|n| keyed.try_acquire_at(&(n % 10), 1, now).is_ok()).count() as u64
    });
    assert_eq!(admitted, 10 * 3_000);
}

#[test]
fn the_table_takes_24_bytes_for_each_of_a_million_keys_of_any_type() {
    let of_numbers = Keyed::<u64>::builder(1_000_000, slow(1)).build().unwrap();
    let of_strings = Keyed::<str>::builder(1_000_000, slow(1)).build().unwrap();
    assert_eq!(of_numbers.memory(), of_strings.memory());
    assert!((24_000_000..24_100_000).contains(&of_numbers.memory()), "{}", of_numbers.memory());
    assert!(Keyed::<u64>::builder(1, slow(1)).build().unwrap().memory() < 2_000);
}

#[test]
fn clones_share_all_buckets() -> Result<(), ConfigError> {
    let keyed = Keyed::<str>::builder(10, slow(1)).build()?;
    let clone = keyed.clone();
    assert!(keyed.try_acquire("a", 1).is_ok());
    assert!(clone.try_acquire("a", 1).is_err());
    clone.set_quota(0, slow(2))?;
    assert_eq!(keyed.quota(0).burst(), 2);
    assert_eq!((keyed.max_keys(), keyed.tiers()), (10, 1));
    Ok(())
}

#[test]
fn a_read_far_in_the_future_changes_nothing() {
    standing_clock().block_on(async {
        let now = Instant::now();
        let keyed = strict(10, Quota::new(1, YEAR));
        keyed.try_acquire_at(&1, 1, now).unwrap();
        for days in [300, 366, 417, 418, 800, 1200, 2000, 5000] {
            let then = now + SECOND * 86_400 * days;
            let is_full = then >= now + YEAR;
            assert_eq!(keyed.available_at(&1, then), u64::from(is_full), "{days}");
            assert_eq!(keyed.live_keys_at(then), usize::from(!is_full), "{days}");
            assert!(keyed.try_acquire_at(&1, 1, now).is_err(), "{days}");
            assert_eq!((keyed.available_at(&1, now), keyed.live_keys_at(now)), (0, 1), "{days}");
        }
    });
}
