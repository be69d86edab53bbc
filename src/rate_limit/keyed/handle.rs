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

/// A token bucket for each of many keys: users, tenants, addresses.
///
/// Each key has what a [`TokenBucket`](crate::rate_limit::TokenBucket) of its tier's [`Quota`] would give it. A key
/// that was not seen before has a full bucket, and so one whose bucket is full again need not be remembered: its place
/// is free for another.
///
/// ```
/// use std::time::Duration;
/// use steadfast::rate_limit::{Keyed, Quota};
/// use tokio::time::Instant;
///
/// # fn main() -> Result<(), steadfast::ConfigError> {
/// // A hundred per second for each address, with room for ten thousand addresses at a time.
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
/// A table of fixed size is allocated by [`build`](KeyedBuilder::build), and nothing after that: 24 bytes for each of
/// `max_keys`, whatever the type of the keys. Keys are not stored. A bucket is found by 64 bits of its key's hash; two
/// keys whose hashes are equal share a bucket, and so are admitted less than their share, never more. Of a million live
/// keys any two do with a probability of 3 in 100 million; of ten million, 3 in a million.
///
/// A key is live until its bucket is full again: each token that it took keeps it live for `period / count`, up to the
/// time in which a burst is minted. So the live keys are those that come in that time; a quota by the hour needs room
/// for the keys of an hour. As long as no more than `max_keys` are live at a time, less than one in a million newcomers
/// finds no slot: 3 in 10 million, by simulation, of those who come to a table of a million live keys each time when
/// one of them has gone. A table for fewer than 342 keys is rounded up to a power of two.
///
/// # Strangers
///
/// The bucket of a live key never gives way. So a caller that sends ever new keys, to evade its limit or to fill the
/// table, takes neither a token nor a slot from live keys. It competes with other newcomers only, for the free slots
/// and then for what [`Overflow`](crate::rate_limit::Overflow) leaves them. A key that was quiet until its bucket was
/// full is a newcomer too, whose slot may be gone. Of full buckets, the one that was full for longest gives way first.
/// A stranger's slot is as good as free once the tokens that it took are minted again. To hold all slots the stranger
/// has to bring one and a half times `max_keys` new keys, and spend on each what a bucket mints in the meantime.
///
/// The default hasher has secret keys, so no caller can choose keys which share the slots, or the bucket, of another.
/// [`hasher`](KeyedBuilder::hasher) takes others for keys that no caller can choose.
///
/// # Tiers
///
/// Keys may have different quotas: [`tiers`](KeyedBuilder::tiers). A key whose tier changes keeps what it has, in
/// tokens, up to the new burst. [`set_quota`](Self::set_quota) changes the quota of a tier for all its keys.
///
/// # Cost
///
/// To admit a known key: one hash, one cache line or (for one key in five, in a full table) two to four, one
/// compare-and-swap; no lock, no allocation. To refuse it, the same without the compare-and-swap. Threads share no
/// cache line that is written, unless their keys do. It is flat in the number of keys but for what misses the
/// processor's caches: the example `keyed_cost` draws it. A key that has no slot takes a short lock, one of up to 64.
/// Clones share all buckets.
///
/// # How it counts
///
/// As [`TokenBucket`](crate::rate_limit::TokenBucket) does, with parts of a token that are minted at up to one per
/// nanosecond. Where the period is a multiple of the count in nanoseconds everything is exact; at other rates a token
/// may come up to two nanoseconds too early or too late, and up to four for a burst that takes half a year to fill. A
/// clock that goes back by up to two years mints nothing for a key that is in its slot; but where the clocks of threads
/// differ, the slot of one that is full by the latest of them may be given away, and then it is full for all.
pub struct Keyed<K: ?Sized, T = OneTier, S = RandomState> {
    pub(super) shared: Arc<KeyedShared>,
    /// Apart, so that others can read the buckets whatever these types are.
    pub(super) functions: Arc<KeyFunctions<T, S>>,
    pub(super) keys: PhantomData<fn(&K)>,
}

impl<K: ?Sized> Keyed<K> {
    /// A bucket of this quota for each key, and room for `max_keys` live keys at a time.
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
    /// Takes `tokens` of this key's now, by tokio's clock. See [`try_acquire_at`](Self::try_acquire_at).
    ///
    /// # Errors
    ///
    /// As [`try_acquire_at`](Self::try_acquire_at).
    #[inline]
    pub fn try_acquire(&self, key: &K, tokens: u64) -> Result<(), RateLimited> {
        self.try_acquire_at(key, tokens, Instant::now())
    }

    /// Takes `tokens` of this key's at `now`, all or none. Zero tokens are always there, and leave no trace.
    ///
    /// `now` is the present by the caller's clock. An instant before the table was built counts as that one.
    ///
    /// An instant ahead of the clock is no plan for that instant. The call takes its tokens as of then, and returns at
    /// once. At every earlier instant the key then lacks the tokens that are minted from that instant until then, and
    /// may be refused until then. Giving the tokens back does not undo that. To plan, ask
    /// [`available_at`](Self::available_at), which changes nothing. A [`TokenBucket`](crate::rate_limit::TokenBucket)
    /// also lets calls wait, and [`Acquire::due_at`](crate::rate_limit::Acquire::due_at) says until when.
    ///
    /// # Errors
    ///
    /// [`RateLimited`] with the time until there are enough, or with none where the cost is above the burst: such a
    /// call is refused for ever. For a key that finds no slot see [`Overflow`](crate::rate_limit::Overflow).
    #[inline]
    pub fn try_acquire_at(&self, key: &K, tokens: u64, now: Instant) -> Result<(), RateLimited> {
        if tokens == 0 {
            return Ok(());
        }
        self.take_at(self.hash(key), tokens, now).map(|_| ())
    }

    /// Gives `tokens` of this key's back that were taken for a call which then was not made, or need not count. Never
    /// more than a burst is kept.
    ///
    /// Tokens taken of the bucket that newcomers share stay taken: a key without a slot has a full bucket, to which
    /// nothing is added.
    pub fn refund(&self, key: &K, tokens: u64) {
        self.refund_at(key, tokens, Instant::now());
    }

    /// Gives tokens back like [`refund`](Self::refund), at `now`, the present by the caller's clock.
    pub fn refund_at(&self, key: &K, tokens: u64, now: Instant) {
        self.give_back_at(self.hash(key), CountedOn::OwnBucket, tokens, now);
    }

    /// Hashes a key and finds its tier, once per call.
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
    /// Takes tokens, at least one, and says where.
    #[inline]
    pub(super) fn take_at(&self, key: HashedKey, tokens: u64, now: Instant) -> Result<CountedOn, RateLimited> {
        self.shared.take(key, Tokens(tokens), now)
    }

    /// Gives tokens back to where they were taken.
    pub(super) fn give_back_at(&self, key: HashedKey, counted: CountedOn, tokens: u64, now: Instant) {
        match counted {
            CountedOn::OwnBucket => self.shared.give_back(key, Tokens(tokens), now),
            CountedOn::OverflowBucket => {
                self.shared.tier(key.tier).overflow().into_iter().for_each(|all| all.refund(tokens))
            }
        }
    }

    /// Follows another quota in this tier from now on: 0 is that of the builder's quota. The tokens of its keys stay,
    /// up to the new burst. A key whose bucket is full counts as one that was never seen: it has the new burst.
    ///
    /// All buckets are looked at before this returns, a block at a time, while traffic flows.
    ///
    /// # Errors
    ///
    /// As [`build`](KeyedBuilder::build); or if there is no such tier. The old quota stays.
    pub fn set_quota(&self, tier: usize, quota: Quota) -> Result<(), ConfigError> {
        self.set_quota_at(tier, quota, Instant::now())
    }

    /// Changes the quota like [`set_quota`](Self::set_quota), at `now`.
    ///
    /// # Errors
    ///
    /// As [`set_quota`](Self::set_quota).
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

    /// Follows these quotas from now on, one for each tier, which were [checked](tier::check). It is short; buckets are
    /// converted as their keys come, and the rest by [`convert_all`](Self::convert_all), before the next switch.
    pub(in crate::rate_limit) fn switch_quotas(&self, to: &[Quota]) {
        let (shared, now) = (&*self.shared, Instant::now());
        let mut quotas = lock(&shared.quotas);
        shared.convert_all(&mut quotas, now);
        for (tier, quota) in to.iter().enumerate().take(quotas.in_force.len()) {
            shared.switch(&mut quotas, tier, *quota, now);
        }
    }

    /// Looks at all buckets that may be counted by a quota which is no longer in force, a block at a time, while
    /// traffic flows.
    pub(in crate::rate_limit) fn convert_all(&self) {
        let shared = &*self.shared;
        shared.convert_all(&mut lock(&shared.quotas), Instant::now());
    }

    /// The quota of the keys of this tier. For an index without a tier, that of the first tier.
    pub fn quota(&self, tier: usize) -> Quota {
        let quotas = &lock(&self.shared.quotas).in_force;
        // There is a first one.
        quotas.get(tier).or(quotas.first()).copied().unwrap_or(Quota::new(1, Duration::from_secs(1)))
    }

    /// How many tiers there are.
    pub fn tiers(&self) -> usize {
        1 + self.shared.more.len()
    }

    /// For how many live keys there is room.
    pub fn max_keys(&self) -> usize {
        self.shared.max_keys
    }

    /// The bytes that all this takes, now and for ever.
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
