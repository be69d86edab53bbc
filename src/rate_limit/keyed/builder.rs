use super::{
    handle::Keyed,
    shared::{KeyFunctions, KeyedShared, Quotas, RENEWAL},
    table::Table,
    tier::{self, MOST_TIERS, Tier},
    tier_of::{OneTier, TierBy},
};
use crate::{
    clock::Origin,
    error::ConfigError,
    rate_limit::{bucket::TokenBucket, quota::Quota},
    sync::{AtomicU64, Mutex},
};
use std::{
    fmt,
    hash::{BuildHasher, RandomState},
    marker::PhantomData,
    sync::Arc,
};
use tokio::time::Instant;

/// How to decide a call whose key is not in the table and finds no slot. A key may use only a few slots. It finds none
/// if each of them belongs to a live key that the table cannot move to another slot. A key is live until its bucket is
/// full again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Overflow {
    /// All such keys of a tier share one bucket with the tier's quota. The default: if there are a few keys too many,
    /// those few are limited together. A flood of new keys gets the share of a single key.
    #[default]
    Shared,
    /// The call is refused until the bucket of one of those live keys is full.
    Refuse,
}

/// Configures a [`Keyed`].
#[must_use]
pub struct KeyedBuilder<K: ?Sized, T = OneTier, S = RandomState> {
    max_keys: usize,
    quotas: Vec<Quota>,
    overflow: Overflow,
    tier_of: T,
    hasher: S,
    keys: PhantomData<fn(&K)>,
}

impl<K: ?Sized> KeyedBuilder<K> {
    pub(super) fn new(max_keys: usize, quota: Quota) -> Self {
        Self {
            max_keys,
            quotas: vec![quota],
            overflow: Overflow::default(),
            tier_of: OneTier,
            hasher: RandomState::new(),
            keys: PhantomData,
        }
    }
}

impl<K: ?Sized, T, S> KeyedBuilder<K, T, S> {
    /// Sets the tiers after the first, with quotas of their own. Replaces those of an earlier call. `tier_of` returns
    /// the index of a key's tier: 0 is the builder's quota, 1 is the first quota of `more`, and so on. An index without
    /// a tier counts as 0.
    ///
    /// `tier_of` runs for every call that costs tokens, before the call is counted. It may return another tier for a
    /// key than before. A key whose tier changes keeps its tokens, up to the new burst.
    pub fn tiers<F>(self, more: impl IntoIterator<Item = Quota>, tier_of: F) -> KeyedBuilder<K, TierBy<F>, S>
    where
        F: Fn(&K) -> usize,
    {
        let Self { max_keys, mut quotas, overflow, tier_of: _, hasher, keys } = self;
        quotas.truncate(1);
        // This bounds an endless iterator, which `build` then refuses.
        quotas.extend(more.into_iter().take(MOST_COUNTED_TIERS));
        KeyedBuilder { max_keys, quotas, overflow, tier_of: TierBy(tier_of), hasher, keys }
    }

    /// Replaces the default hasher, which has a secret seed. All 64 bits of a hash must be well mixed.
    ///
    /// Without a secret seed, a caller that chooses its keys can choose which keys share a bucket. In a simulation use
    /// `Sim::hasher`, which follows the seed of the run.
    pub fn hasher<H: BuildHasher>(self, hasher: H) -> KeyedBuilder<K, T, H> {
        let Self { max_keys, quotas, overflow, tier_of, hasher: _, keys } = self;
        KeyedBuilder { max_keys, quotas, overflow, tier_of, hasher, keys }
    }

    /// Sets how to decide a call when there is no slot for its key. Default: [`Overflow::Shared`].
    pub fn overflow(self, overflow: Overflow) -> Self {
        Self { overflow, ..self }
    }

    /// Builds the table, empty: every key has a full bucket.
    ///
    /// # Errors
    ///
    /// - `max_keys` must be from 1 to 100 million, and the memory for them must be available.
    /// - There must be at most 128 tiers.
    /// - Each quota must be valid for a [`TokenBucket`], and an empty bucket must fill within 366 days.
    pub fn build(self) -> Result<Keyed<K, T, S>, ConfigError> {
        let Self { max_keys, quotas, overflow, tier_of, hasher, keys: _ } = self;
        tier::check_all(&quotas)?;
        if quotas.len() > MOST_COUNTED_TIERS {
            let given = format_args!("more than {MOST_COUNTED_TIERS}");
            return Err(ConfigError::new("rate_limit.tiers", given, "must be at most 128"));
        }
        if quotas.len() > MOST_TIERS {
            return Err(ConfigError::new("rate_limit.tiers", quotas.len(), "must be at most 128"));
        }
        if max_keys == 0 || max_keys > MOST_KEYS {
            return Err(ConfigError::new("rate_limit.max_keys", max_keys, "must be from 1 to 100 million"));
        }
        let no_memory = || ConfigError::new("rate_limit.max_keys", max_keys, "must fit into memory, 24 bytes each");
        let table = Table::for_keys(max_keys).ok_or_else(no_memory)?;
        let tier = |(index, quota): (usize, &Quota)| {
            let overflow = match overflow {
                Overflow::Shared => Some(TokenBucket::with_quota(*quota).build()?),
                Overflow::Refuse => None,
            };
            Ok(Tier::new(index, *quota, overflow))
        };
        let mut tiers = quotas.iter().enumerate().map(tier);
        // There is always a first tier: that of the builder's quota.
        let first = tiers.next().ok_or_else(|| ConfigError::new("rate_limit.tiers", 0, "must be at least 1"))??;
        let more = tiers.collect::<Result<_, _>>()?;
        let shared = KeyedShared {
            table,
            origin: Origin::at(Instant::now()),
            renewal: AtomicU64::new(RENEWAL.0),
            first,
            more,
            max_keys,
            quotas: Mutex::new(Quotas { in_force: quotas, unconverted: false }),
        };
        Ok(Keyed { shared: Arc::new(shared), functions: Arc::new(KeyFunctions { hasher, tier_of }), keys: PhantomData })
    }
}

const MOST_KEYS: usize = 100_000_000;

/// The most tiers whose exact number an error names. The builder keeps one more, which shows that there are too many.
const MOST_COUNTED_TIERS: usize = 10_000;

impl<K: ?Sized, T, S> fmt::Debug for KeyedBuilder<K, T, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { max_keys, quotas, overflow, .. } = self;
        let mut debug = f.debug_struct("KeyedBuilder");
        debug.field("max_keys", max_keys).field("quotas", quotas).field("overflow", overflow).finish_non_exhaustive()
    }
}
