//! Reads the buckets. Reading changes nothing, even for an instant in the future.

use super::{
    handle::Keyed,
    shared::{HashedKey, KeyedShared},
    table::LockedBlock,
    tier_of::TierOf,
};
use crate::{clock::Nanos, rate_limit::tokens::Tokens};
use std::hash::{BuildHasher, Hash};
use tokio::time::Instant;

impl<K, T, S> Keyed<K, T, S>
where
    K: Hash + ?Sized,
    T: TierOf<K>,
    S: BuildHasher,
{
    /// Returns the whole tokens of this key at `now`: a burst, if it has no slot. Reading changes nothing, even for an
    /// instant in the future.
    pub fn available_at(&self, key: &K, now: Instant) -> u64 {
        let (shared, key) = (&*self.shared, self.hash(key));
        let nanos = shared.look_at(now);
        let block = shared.table.lock(key.address);
        let tier = shared.tier(key.tier);
        let tag = tier.tag();
        let rate = tier.rate(tag);
        let left = match (nanos, block.find(key.address)) {
            (Some(nanos), Some(slot)) => shared.left_by(&block, tier, tag, slot.tagged(), slot.word(), nanos),
            _ => rate.full(),
        };
        rate.tokens(left).0
    }

    /// Returns whether `tokens` of this key would be refused at `due`, if no other call takes or returns any before.
    pub(in crate::rate_limit) fn would_refuse_at(&self, key: &K, tokens: u64, due: Instant) -> bool {
        self.shared.would_refuse(self.hash(key), Tokens(tokens), due)
    }
}

impl<K: ?Sized, T, S> Keyed<K, T, S> {
    /// Returns the number of keys that are live at `now`: their buckets are not full. Visits all slots, one block at a
    /// time.
    pub fn live_keys_at(&self, now: Instant) -> usize {
        let Some(nanos) = self.shared.look_at(now) else { return 0 };
        let shared = &self.shared;
        shared.table.locked_blocks().map(|block| shared.live_in(&block, nanos)).sum()
    }
}

impl KeyedShared {
    /// Converts an instant to the table's time, for a read. Returns `None` if [`all_are_full`](Self::all_are_full) is
    /// true: the states of the buckets may then have wrapped.
    fn look_at(&self, now: Instant) -> Option<Nanos> {
        let nanos = self.origin.to(now);
        (!self.all_are_full(nanos)).then_some(nanos)
    }

    /// Returns the number of live keys at `now`, which is an estimate if the table is large.
    pub(super) fn about_live_keys(&self, now: Instant) -> usize {
        let Some(nanos) = self.look_at(now) else { return 0 };
        self.table.estimate(|block| self.live_in(&block, nanos))
    }

    /// Returns the number of keys in this block that are live at `nanos`.
    fn live_in(&self, block: &LockedBlock<'_>, nanos: Nanos) -> usize {
        block.entries().filter(|slot| self.surplus(block, slot.tagged(), slot.word(), nanos) < 0).count()
    }

    fn would_refuse(&self, key: HashedKey, tokens: Tokens, due: Instant) -> bool {
        let nanos = self.look_at(due);
        let tier = self.tier(key.tier);
        let block = self.table.lock(key.address);
        let tag = tier.tag();
        let rate = tier.rate(tag);
        let (left, slot_is_sure) = match (nanos, block.find(key.address)) {
            (Some(nanos), Some(slot)) => (self.left_by(&block, tier, tag, slot.tagged(), slot.word(), nanos), true),
            // All buckets are full at `due`, and a key with a full bucket gives up its slot. So this key has a slot or
            // finds one.
            (None, _) => (rate.full(), true),
            (Some(nanos), None) => {
                let surplus = |tagged: u64, word: u64| self.surplus(&block, tagged, word, nanos);
                (rate.full(), block.has_room(key.address, surplus))
            }
        };
        if slot_is_sure || rate.subtokens(tokens) > left {
            return rate.subtokens(tokens) > left;
        }
        drop(block);
        tier.overflow().is_none_or(|overflow| overflow.would_refuse_at(tokens.0, due))
    }
}
