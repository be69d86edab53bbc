//! Counts over the whole table, or estimates from a sample of its blocks.

use super::{LockedBlock, SLOTS, Table};
use crate::sync::lock;

/// An estimate of the number of keys visits at most this many slots: 16 MiB of memory, in a few milliseconds.
const MOST_SLOTS: usize = 1 << 20;

impl LockedBlock<'_> {
    /// Counts a call whose key found no slot.
    pub(in crate::rate_limit::keyed) fn count_overflow(&mut self) {
        if let Some(overflows) = &mut self.guard {
            **overflows = overflows.wrapping_add(1);
        }
    }
}

impl Table {
    /// Returns the number of calls whose key found no slot. The count wraps.
    pub(in crate::rate_limit::keyed) fn overflows(&self) -> u64 {
        self.stripes.iter().map(|stripe| *lock(&stripe.0)).fold(0, u64::wrapping_add)
    }

    /// Returns the sum of `count` over all blocks, each with its lock held. In a large table, estimates the sum from a
    /// sample of blocks at equal distances. A hash chooses the block of a key, so all blocks have about equally many
    /// keys.
    pub(in crate::rate_limit::keyed) fn estimate(&self, count: impl Fn(LockedBlock<'_>) -> usize) -> usize {
        self.estimate_from(MOST_SLOTS, count)
    }

    fn estimate_from(&self, most_slots: usize, count: impl Fn(LockedBlock<'_>) -> usize) -> usize {
        let blocks = self.blocks as usize;
        let most_blocks = (most_slots / (SLOTS << self.block_log2)).max(1);
        let distance = blocks.div_ceil(most_blocks).max(1);
        let looked_at = blocks.div_ceil(distance).max(1);
        let counted: usize = (0..blocks).step_by(distance).map(|block| count(self.lock_block(block))).sum();
        (counted as u128 * blocks as u128 / looked_at as u128) as usize
    }
}

#[cfg(all(test, not(steadfast_loom)))]
mod tests {
    use super::*;
    use std::hash::{BuildHasher, RandomState};

    #[test]
    fn a_count_is_exact_in_a_small_table_and_close_in_a_sample_of_blocks() {
        let (table, hasher) = (Table::for_keys(100_000).unwrap(), RandomState::new());
        for key in 0..50_000 {
            let address = table.address(hasher.hash_one(key));
            if let Some(claim) = table.lock(address).make_room(address, |_, _| -1) {
                claim.publish(address.fingerprint, 0);
            }
        }
        let entries = |block: LockedBlock<'_>| block.entries().count();
        assert_eq!(table.estimate(entries), 50_000);
        // Every tenth of the 293 blocks, so 30 blocks, which together have about 5100 keys, with a standard deviation
        // of about 70. The estimate is about ten times the number of keys in these blocks.
        let estimate = table.estimate_from(1 << 14, entries);
        assert!((47_000..53_000).contains(&estimate), "{estimate}");
        assert_ne!(estimate, 50_000);
    }
}
