use super::{
    builder::KeyedBuilder,
    shared::{CountedOn, HashedKey, KeyFunctions, KeyedShared},
    tier,
    tier_of::{OneTier, TierOf},
};
use crate::{
    error::{ConfigError, RateLimited},
    rate_limit::{quota::Quota, tokens::Tokens},
    sync::lock,
};
use std::{
    fmt,
    hash::{BuildHasher, Hash, RandomState},
    marker::PhantomData,
    sync::Arc,
    time::Duration,
};
use tokio::time::Instant;

/// A token bucket for each of many keys: users, tenants or addresses.
///
/// Each key is limited as by its own [`TokenBucket`](crate::rate_limit::TokenBucket) with its tier's [`Quota`]. A new
/// key has a full bucket. A key whose bucket is full again is therefore equal to a new key. The table may forget such a
/// key, and give its slot to another key. For a key that finds no slot, [`Overflow`](crate::rate_limit::Overflow)
/// decides.
///
/// ```
/// use std::time::Duration;
/// use steadfast::rate_limit::{Keyed, Quota};
/// use tokio::time::Instant;
///
/// # fn main() -> Result<(), steadfast::ConfigError> {
/// // 100 per second for each address, with room for 10,000 addresses at a time.
/// let per_address = Keyed::<str>::builder(10_000, Quota::new(100, Duration::from_secs(1)).with_burst(2)).build()?;
/// let now = Instant::now();
/// assert!(per_address.try_acquire_at("192.0.2.1", 2, now).is_ok());
/// let refused = per_address.try_acquire_at("192.0.2.1", 1, now).unwrap_err();
/// assert_eq!(refused.retry_after(), Some(Duration::from_millis(10)));
/// assert!(per_address.try_acquire_at("192.0.2.2", 1, now).is_ok());
/// # Ok(())
/// # }
/// ```
///
/// # Memory
///
/// [`build`](KeyedBuilder::build) allocates a table of fixed size: 24 bytes for each of `max_keys`, for any type of
/// key. Nothing is allocated after that. The table does not store keys. It finds a bucket by 64 bits of its key's hash.
/// Two keys with equal hashes share a bucket, and get less than their share, never more. Among a million live keys, the
/// probability that any two share is 3 in 100 million; among ten million, 3 in a million.
///
/// A key is live until its bucket is full again. Each token that it takes keeps it live for `period / count`, up to the
/// time in which a burst is minted. An hourly quota therefore needs room for the keys of an hour. While at most
/// `max_keys` keys are live, fewer than one in a million new keys find no slot. In a simulation with a million live
/// keys, a new key replaced each key whose bucket became full. Of these new keys, 3 in 10 million found no slot. In a
/// table for fewer than 342 keys, the number of slots is rounded up to a power of two.
///
/// # Attacks with many keys
///
/// A live key never loses its slot. A caller that sends ever new keys, to evade its limit or to fill the table, takes
/// no token and no slot from live keys. It competes only with other new keys, for the free slots and then for the
/// [`Overflow`](crate::rate_limit::Overflow). A key that was quiet until its bucket was full counts as new, and its
/// slot may be gone. A new key may use the slots of four cache lines. Of the full buckets of one tier there, it
/// replaces the one that has been full for longest.
///
/// An attacker's slot is free again once the tokens that it took are minted. To keep all slots, the attacker needs 1.5
/// times `max_keys` new keys, and has to spend the tokens that each of their buckets mints.
///
/// The default hasher has a secret seed, so no caller can choose keys that share the slots or the bucket of another
/// key. If callers cannot choose keys, [`hasher`](KeyedBuilder::hasher) can set a faster hasher.
///
/// # Tiers
///
/// Keys may have different quotas: [`tiers`](KeyedBuilder::tiers). A key whose tier changes keeps its tokens, up to the
/// new burst. [`set_quota`](Self::set_quota) changes the quota of a tier for all its keys.
///
/// # Cost
///
/// To admit a key with a slot: one hash, one cache line and one compare-and-swap; no lock, no allocation. In a full
/// table, one key in five reads two to four cache lines. A refusal makes no compare-and-swap. Threads write a common
/// cache line only if their keys share one. The cost does not grow with the number of keys, except for misses in the
/// processor's caches. The example `keyed_cost` draws a chart of the cost. A key without a slot takes a short lock, one
/// of up to 64. Clones share all buckets.
///
/// # How it counts
///
/// A bucket counts as a [`TokenBucket`](crate::rate_limit::TokenBucket) does, in subtokens: fractions of a token. At
/// most one subtoken is minted per nanosecond. If the period in nanoseconds is a multiple of the count, everything is
/// exact. At other rates a token may come up to 2 ns too early or too late. If a burst takes more than half a year to
/// fill, the error may be up to 4 ns.
///
/// A clock that goes back by up to two years mints nothing for a key with a slot. The clocks of threads may differ. A
/// key whose bucket is full by the latest clock may lose its slot. The bucket is then full for all threads.
#[doc(alias("keyed rate limiter", "rate limit per tenant", "RateLimiter"))]
pub struct Keyed<K: ?Sized, T = OneTier, S = RandomState> {
    pub(super) shared: Arc<KeyedShared>,
    /// The hasher and the function that returns the tier of a key. Kept apart from `shared`, so that instruments can
    /// read the buckets without knowing the types `T` and `S`.
    pub(super) functions: Arc<KeyFunctions<T, S>>,
    pub(super) keys: PhantomData<fn(&K)>,
}

impl<K: ?Sized> Keyed<K> {
    /// Configures a bucket of this quota for each key, with room for `max_keys` live keys at a time.
    pub fn builder(max_keys: usize, quota: Quota) -> KeyedBuilder<K> {
        KeyedBuilder::new(max_keys, quota)
    }
}

impl<K, T, S> Keyed<K, T, S>
where
    K: Hash + ?Sized,
    T: TierOf<K>,
    S: BuildHasher,
{
    /// Takes `tokens` of this key now, by tokio's clock. See [`try_acquire_at`](Self::try_acquire_at).
    ///
    /// # Errors
    ///
    /// Those of [`try_acquire_at`](Self::try_acquire_at).
    #[inline]
    pub fn try_acquire(&self, key: &K, tokens: u64) -> Result<(), RateLimited> {
        self.try_acquire_at(key, tokens, Instant::now())
    }

    /// Takes `tokens` of this key at `now`, all or none. A call for zero tokens always passes, and changes nothing.
    ///
    /// `now` is the present by the caller's clock. If `now` is before the table was built, the call counts as made at
    /// that time.
    ///
    /// A `now` ahead of the clock does not plan a call. The call takes its tokens as of that instant, and returns at
    /// once. Until the clock reaches that instant, the key may also lack all tokens that are minted until then, and be
    /// refused. A refund does not always give those tokens back. To plan, read
    /// [`available_at`](Self::available_at), which changes nothing. A [`TokenBucket`](crate::rate_limit::TokenBucket)
    /// also lets calls wait, and [`Acquire::due_at`](crate::rate_limit::Acquire::due_at) returns when the wait ends.
    ///
    /// # Errors
    ///
    /// [`RateLimited`] with the time until there are enough tokens. Without a time if the cost is above the burst: the
    /// call is refused until the burst is raised. For a key that finds no slot see
    /// [`Overflow`](crate::rate_limit::Overflow).
    #[inline]
    pub fn try_acquire_at(&self, key: &K, tokens: u64, now: Instant) -> Result<(), RateLimited> {
        if tokens == 0 {
            return Ok(());
        }
        self.take_at(self.hash(key), tokens, now).map(|_| ())
    }

    /// Gives back `tokens` of this key that were taken for a call that was not made, or need not count. A bucket never
    /// holds more than a burst.
    ///
    /// Tokens taken from the [overflow](crate::rate_limit::Overflow) bucket stay taken. A key without a slot has a full
    /// bucket, to which no tokens can be added. In a stack, the layer refunds such tokens to the overflow bucket.
    pub fn refund(&self, key: &K, tokens: u64) {
        self.refund_at(key, tokens, Instant::now());
    }

    /// Gives tokens back as [`refund`](Self::refund) does, at `now`, the present by the caller's clock.
    pub fn refund_at(&self, key: &K, tokens: u64, now: Instant) {
        self.give_back_at(self.hash(key), CountedOn::OwnBucket, tokens, now);
    }

    /// Hashes a key and finds its tier. Each method that takes a key calls this at most once.
    #[inline]
    pub(super) fn hash(&self, key: &K) -> HashedKey {
        let (shared, functions) = (&*self.shared, &*self.functions);
        let tier = functions.tier_of.tier_of(key);
        HashedKey {
            address: shared.table.address(functions.hasher.hash_one(key)),
            tier: if tier > shared.more.len() { 0 } else { tier },
        }
    }
}

impl<K: ?Sized, T, S> Keyed<K, T, S> {
    /// Takes tokens, at least one, and returns the bucket that counted them.
    #[inline]
    pub(super) fn take_at(&self, key: HashedKey, tokens: u64, now: Instant) -> Result<CountedOn, RateLimited> {
        self.shared.take(key, Tokens(tokens), now)
    }

    /// Gives tokens back to the bucket that counted them.
    pub(super) fn give_back_at(&self, key: HashedKey, counted: CountedOn, tokens: u64, now: Instant) {
        match counted {
            CountedOn::OwnBucket => self.shared.give_back(key, Tokens(tokens), now),
            CountedOn::OverflowBucket => {
                self.shared.tier(key.tier).overflow().into_iter().for_each(|all| all.refund(tokens))
            }
        }
    }

    /// Changes the quota of this tier while calls pass. Tier 0 is that of the builder's quota.
    ///
    /// The keys of the tier keep their tokens, up to the new burst. A key whose bucket is full counts as new, and gets
    /// the new burst. The function visits all buckets before it returns, one block at a time, while calls pass.
    ///
    /// # Errors
    ///
    /// Those of [`build`](KeyedBuilder::build), or if there is no such tier. The old quota then stays.
    pub fn set_quota(&self, tier: usize, quota: Quota) -> Result<(), ConfigError> {
        self.set_quota_at(tier, quota, Instant::now())
    }

    /// Changes the quota as [`set_quota`](Self::set_quota) does, at `now`.
    ///
    /// # Errors
    ///
    /// Those of [`set_quota`](Self::set_quota).
    pub fn set_quota_at(&self, tier: usize, quota: Quota, now: Instant) -> Result<(), ConfigError> {
        tier::check(quota)?;
        let shared = &*self.shared;
        let mut quotas = lock(&shared.quotas);
        let tiers = quotas.in_force.len();
        if tier >= tiers {
            let rule = match tiers {
                1 => "must be 0, the only tier that was built".to_owned(),
                _ => format!("must be less than {tiers}, the number of tiers that were built"),
            };
            return Err(ConfigError::new("rate_limit.tier", tier, rule));
        }
        shared.convert_all(&mut quotas, now);
        shared.switch(&mut quotas, tier, quota, now);
        shared.convert_all(&mut quotas, now);
        Ok(())
    }

    /// Changes to these [checked](tier::check) quotas, one for each tier. A bucket is converted when its key is used.
    /// [`convert_all`](Self::convert_all) converts the others. If `convert_all` ran since the last switch, this
    /// function returns soon. Otherwise it first converts the buckets that the last switch left.
    pub(in crate::rate_limit) fn switch_quotas(&self, to: &[Quota]) {
        let (shared, now) = (&*self.shared, Instant::now());
        let mut quotas = lock(&shared.quotas);
        shared.convert_all(&mut quotas, now);
        for (tier, quota) in to.iter().enumerate().take(quotas.in_force.len()) {
            shared.switch(&mut quotas, tier, *quota, now);
        }
    }

    /// Converts all buckets that an old quota still counts, one block at a time, while calls pass.
    pub(in crate::rate_limit) fn convert_all(&self) {
        let shared = &*self.shared;
        shared.convert_all(&mut lock(&shared.quotas), Instant::now());
    }

    /// Returns the quota of this tier. For an index without a tier, returns the quota of tier 0.
    pub fn quota(&self, tier: usize) -> Quota {
        let quotas = &lock(&self.shared.quotas).in_force;
        // There is always a first one.
        quotas.get(tier).or(quotas.first()).copied().unwrap_or(Quota::new(1, Duration::from_secs(1)))
    }

    /// Returns the number of tiers.
    pub fn tiers(&self) -> usize {
        1 + self.shared.more.len()
    }

    /// Returns the number of live keys for which there is room.
    pub fn max_keys(&self) -> usize {
        self.shared.max_keys
    }

    /// Returns the memory that the table takes, in bytes, without the overflow buckets of the tiers. It never changes.
    pub fn memory(&self) -> usize {
        let KeyedShared { table, more, .. } = &*self.shared;
        size_of::<KeyedShared>() + size_of::<KeyFunctions<T, S>>() + table.bytes() + size_of_val(&**more)
    }
}

impl<K: ?Sized, T, S> Clone for Keyed<K, T, S> {
    fn clone(&self) -> Self {
        Self { shared: self.shared.clone(), functions: self.functions.clone(), keys: PhantomData }
    }
}

impl<K: ?Sized, T, S> fmt::Debug for Keyed<K, T, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let quotas = lock(&self.shared.quotas);
        f.debug_struct("Keyed")
            .field("max_keys", &self.max_keys())
            .field("quotas", &quotas.in_force)
            .finish_non_exhaustive()
    }
}
