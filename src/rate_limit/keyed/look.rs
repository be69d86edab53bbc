//! What can be seen of the buckets. Nothing changes by looking, whatever instant is asked about.

use super::{Keyed, RENEWAL, Shared, TierOf};
use crate::{rate_limit::table::Slot, sync::Ordering};
use std::hash::{BuildHasher, Hash};
use tokio::time::Instant;

impl<K, T, S> Keyed<K, T, S>
where
    K: Hash + ?Sized,
    T: TierOf<K>,
    S: BuildHasher,
{
    /// The whole tokens that there are at `now` for this key: a burst, if it has no slot. Nothing changes by looking, not even
    /// into the future.
    pub fn available_at(&self, key: &K, now: Instant) -> u64 {
        let (shared, key) = (&*self.shared, self.hash(key));
        let nanos = shared.look_at(now);
        let block = shared.table.lock(key.address);
        let tier = shared.tier(key.tier);
        let tag = tier.tag();
        let rate = tier.rate(tag);
        let left = match (nanos, block.find(key.address)) {
            (Some(nanos), Some(slot)) => shared.left_by(tier, tag, slot.tagged(), slot.word(), nanos),
            _ => rate.full(),
        };
        rate.tokens(left)
    }
}

impl<K: ?Sized, T, S> Keyed<K, T, S> {
    /// How many keys are live at `now`: their buckets are not full. It looks at all slots, a block at a time.
    pub fn live_keys_at(&self, now: Instant) -> usize {
        let Some(nanos) = self.shared.look_at(now) else { return 0 };
        let live = |slot: &Slot<'_>| self.shared.surplus(slot.tagged(), slot.word(), nanos) < 0;
        self.shared.table.locked_blocks().map(|block| block.entries().filter(live).count()).sum()
    }
}

impl<T, S> Shared<T, S> {
    /// The nanoseconds to an instant that is only looked at. `None` where all buckets are full by then.
    fn look_at(&self, now: Instant) -> Option<u64> {
        let nanos = self.origin.nanos_to(now);
        (!self.all_are_full(nanos)).then_some(nanos)
    }
}
