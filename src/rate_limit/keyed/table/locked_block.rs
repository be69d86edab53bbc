//! A block of the table whose lock is held. It finds slots, and makes room for a new key.

use super::{Address, CacheLine, Claim, SLOTS, Slot, TAG, Table, state_of};

#[cfg(not(steadfast_loom))]
type Guard<'a> = std::sync::MutexGuard<'a, u64>;
#[cfg(steadfast_loom)]
type Guard<'a> = loom::sync::MutexGuard<'a, u64>;

/// A block whose lock is held, so that no other thread writes its fingerprints.
#[derive(Debug)]
pub(in crate::rate_limit::keyed) struct LockedBlock<'a> {
    pub(super) table: &'a Table,
    pub(super) block: usize,
    /// The lock. Always `Some`, because a table has at least one stripe.
    pub(super) guard: Option<Guard<'a>>,
}

impl<'a> LockedBlock<'a> {
    /// Returns the slot of a key of this block, with any tag.
    pub(in crate::rate_limit::keyed) fn find(&self, address: Address) -> Option<Slot<'a>> {
        self.candidates(address.fingerprint).find(|slot| slot.tagged() & !TAG == address.fingerprint)
    }

    /// Iterates over the slots in which a fingerprint of this block may be.
    pub(in crate::rate_limit::keyed) fn candidates(
        &self,
        fingerprint: u64,
    ) -> impl Iterator<Item = Slot<'a>> + use<'a> {
        let table = self.table;
        let cache_lines = table.cache_lines_of(self.block, fingerprint & !TAG);
        cache_lines.into_iter().filter_map(|cache_line| table.cache_lines.get(cache_line)).flat_map(CacheLine::slots)
    }

    /// Iterates over all slots of the block that are not empty.
    pub(in crate::rate_limit::keyed) fn entries(&self) -> impl Iterator<Item = Slot<'a>> + use<'a> {
        let start = self.block << self.table.block_log2;
        let cache_lines = self.table.cache_lines.iter().skip(start).take(1 << self.table.block_log2);
        cache_lines.flat_map(CacheLine::slots).filter(|slot| slot.tagged() != 0)
    }

    /// Claims a slot for a key that has none. Takes the first of these that exists:
    ///
    /// 1. An empty slot.
    /// 2. The slot of the full bucket with the largest surplus.
    /// 3. A slot in the key's first cache line whose bucket can move. The bucket moves to a slot of kind 1 or 2, among
    ///    the slots in which its own key may be.
    ///
    /// `surplus(tag, word)` returns the subtokens above a burst that a bucket would hold if it had no bound. It is
    /// negative if the bucket is not full.
    pub(in crate::rate_limit::keyed) fn make_room(
        &self,
        address: Address,
        surplus: impl Fn(u64, u64) -> i64,
    ) -> Option<Claim<'a>> {
        if let Some(claim) = self.claim_any(address.fingerprint, &surplus) {
            return Some(claim);
        }
        self.candidates(address.fingerprint).take(SLOTS).find_map(|slot| {
            let tagged = slot.tagged();
            let target = self.claim_any(tagged, &surplus)?;
            // `target` is this slot itself if its bucket is full by a quota that came into force after the search
            // above.
            if std::ptr::eq(target.slot.word, slot.word) {
                return Some(target);
            }
            let claim = slot.claim(self);
            target.publish(tagged, state_of(claim.word));
            Some(claim)
        })
    }

    /// Returns whether [`make_room`](Self::make_room) would find a slot. Changes nothing.
    pub(in crate::rate_limit::keyed) fn has_room(&self, address: Address, surplus: impl Fn(u64, u64) -> i64) -> bool {
        let gives_way = |slot: &Slot<'_>| slot.tagged() == 0 || surplus(slot.tagged() & TAG, slot.word()) >= 0;
        let fits = |fingerprint: u64| self.candidates(fingerprint).any(|slot| gives_way(&slot));
        let mut first_line = self.candidates(address.fingerprint).take(SLOTS);
        fits(address.fingerprint) || first_line.any(|slot| fits(slot.tagged()))
    }

    /// Claims an empty slot or, if there is none, the slot of the full bucket with the largest surplus.
    fn claim_any(&self, fingerprint: u64, surplus: impl Fn(u64, u64) -> i64) -> Option<Claim<'a>> {
        loop {
            let mut longest = (0, None);
            for slot in self.candidates(fingerprint) {
                let (tagged, word) = (slot.tagged(), slot.word());
                if tagged == 0 {
                    // No other thread writes the word of an empty slot.
                    return Some(slot.claim(self));
                }
                let surplus = surplus(tagged & TAG, word);
                if surplus >= longest.0 {
                    longest = (surplus, Some((slot, word)));
                }
            }
            let (slot, word) = longest.1?;
            // An error means that the bucket was used just now. Look again.
            if let Ok(claim) = slot.claim_at(word) {
                return Some(claim);
            }
        }
    }
}
