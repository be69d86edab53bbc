//! The part of a [`Keyed`](super::Keyed) that all its handles share: the table of buckets, and their quotas.

use super::{
    table::{Address, Change, LockedBlock, Slot, TAG, Table},
    tier::{KeyedRefusal, Tier},
};
use crate::{
    clock::{Nanos, Origin},
    error::RateLimited,
    rate_limit::{quota::Quota, tokens::Tokens},
    sync::{AtomicU64, Mutex, Ordering, lock},
};
use std::mem;
use tokio::time::Instant;

/// Every call that takes tokens reads the fields from `table` to `more`. These are rarely written: the slots of the
/// table lie in memory of their own.
pub(super) struct KeyedShared {
    pub(super) table: Table,
    pub(super) origin: Origin,
    /// When all buckets have to be visited again, before their states wrap, in nanoseconds since the origin. Written
    /// with the lock on the quotas held. Relaxed, because an old value is earlier than the new one. A thread whose time
    /// is after the old value takes that lock, and then reads the new value.
    pub(super) renewal: AtomicU64,
    /// The tier of the builder's quota. Keys without a tier belong to it.
    pub(super) first: Tier,
    /// The tiers from index 1 on, in order.
    pub(super) more: Box<[Tier]>,
    pub(super) max_keys: usize,
    /// A thread holds the lock to change a quota, to convert all buckets to new quotas, or to forget the full buckets.
    pub(super) quotas: Mutex<Quotas>,
}

/// The user's types that hash a key and return its tier.
pub(super) struct KeyFunctions<T, S> {
    pub(super) hasher: S,
    pub(super) tier_of: T,
}

pub(super) struct Quotas {
    pub(super) in_force: Vec<Quota>,
    /// A quota was switched, and the old quota may still count some buckets. They have to be converted before the next
    /// switch.
    pub(super) unconverted: bool,
}

/// The time between two visits to all buckets: 417 days, longer than any bucket takes to fill. A bucket that no call
/// uses again is forgotten by a visit, or [known to be full](KeyedShared::all_are_full). One of the two happens within
/// the bucket's time to fill plus two of these times, at most 3.3 years. The bucket's state would wrap into a debt only
/// after four and a half years.
pub(super) const RENEWAL: Nanos = Nanos(1 << 55);

/// The hash of a key, and its tier.
#[derive(Clone, Copy, Debug)]
pub(super) struct HashedKey {
    pub(super) address: Address,
    /// The index of a tier that exists.
    pub(super) tier: usize,
}

/// The bucket that counted the tokens of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CountedOn {
    OwnBucket,
    OverflowBucket,
}

impl KeyedShared {
    /// Returns when all buckets have to be visited again.
    #[inline]
    fn renewal(&self) -> Nanos {
        Nanos(self.renewal.load(Ordering::Relaxed))
    }

    #[inline]
    pub(super) fn tier(&self, index: usize) -> &Tier {
        match index {
            0 => &self.first,
            index => self.more.get(index - 1).unwrap_or(&self.first),
        }
    }

    /// Takes tokens of this key. Renews the buckets if the renewal is due and the call is admitted.
    #[inline]
    pub(super) fn take(&self, key: HashedKey, tokens: Tokens, now: Instant) -> Result<CountedOn, RateLimited> {
        let nanos = self.origin.to(now);
        if nanos > self.renewal() {
            return self.take_and_renew(key, tokens, nanos, now);
        }
        self.take_at(key, tokens, nanos, now)
    }

    /// Takes tokens when all buckets are due for a visit. A refusal changes nothing, so only an admitted call renews
    /// them.
    #[cold]
    fn take_and_renew(
        &self,
        key: HashedKey,
        tokens: Tokens,
        nanos: Nanos,
        now: Instant,
    ) -> Result<CountedOn, RateLimited> {
        let mut quotas = lock(&self.quotas);
        if self.all_are_full(nanos) {
            // The states may have wrapped, so the renewal comes first. Before it, the call is refused if it costs more
            // than a burst, the only cost that a full bucket refuses.
            let tier = self.tier(key.tier);
            let rate = tier.rate(tier.tag());
            if rate.subtokens(tokens) > rate.full() {
                return Err(KeyedRefusal::ForEver.into());
            }
            self.renew(&mut quotas, nanos);
            return self.take_at(key, tokens, nanos, now);
        }
        let counted = self.take_at(key, tokens, nanos, now)?;
        self.renew(&mut quotas, nanos);
        Ok(counted)
    }

    #[inline]
    fn take_at(&self, key: HashedKey, tokens: Tokens, nanos: Nanos, now: Instant) -> Result<CountedOn, RateLimited> {
        let tier = self.tier(key.tier);
        let tag = tier.tag();
        if let Some(slot) = self.table.find(key.address, tag) {
            match slot.change(key.address.fingerprint | tag, |state| tier.take(tag, state, tokens, nanos)) {
                Change::Done => return Ok(CountedOn::OwnBucket),
                Change::Refused(refusal) => return Err(refusal.into()),
                Change::Elsewhere => {}
            }
        }
        self.take_with_lock(key, tokens, nanos, now)
    }

    /// Takes tokens with the lock on the key's block. The key has no slot, its slot is changing, or its bucket does not
    /// count by the present quota of the key's tier.
    #[inline(never)]
    fn take_with_lock(
        &self,
        key: HashedKey,
        tokens: Tokens,
        nanos: Nanos,
        now: Instant,
    ) -> Result<CountedOn, RateLimited> {
        let HashedKey { address, tier } = key;
        let tier = self.tier(tier);
        let mut block = self.table.lock(address);
        let tag = tier.tag();
        if let Some(slot) = block.find(address) {
            self.convert(&block, slot, tier, tag, nanos);
            slot.change_locked(&block, |state| tier.take(tag, state, tokens, nanos))?;
            return Ok(CountedOn::OwnBucket);
        }
        let rate = tier.rate(tag);
        let after = tier.take(tag, rate.state(rate.full(), nanos), tokens, nanos)?;
        if let Some(claim) = block.make_room(address, |tag, word| self.surplus(&block, tag, word, nanos)) {
            claim.publish(address.fingerprint | tag, after);
            return Ok(CountedOn::OwnBucket);
        }
        block.count_overflow();
        match tier.overflow() {
            Some(overflow) => {
                drop(block);
                overflow.try_acquire_at(tokens.0, now).map(|()| CountedOn::OverflowBucket)
            }
            None => {
                // The time until the first of the slots is free: at least 1 ns, because none of them is free now.
                let first =
                    block.candidates(address.fingerprint).map(|slot| self.time_until_full(&block, slot, nanos)).min();
                Err(KeyedRefusal::For(first.unwrap_or_default().max(Nanos(1))).into())
            }
        }
    }

    /// Gives tokens back to the key's own bucket, up to a burst.
    pub(super) fn give_back(&self, key: HashedKey, tokens: Tokens, now: Instant) {
        let nanos = self.origin.to(now);
        if nanos > self.renewal() {
            self.renew(&mut lock(&self.quotas), nanos);
        }
        let block = self.table.lock(key.address);
        // A key without a slot has a full bucket.
        let Some(slot) = block.find(key.address) else { return };
        // The tier that counts the bucket now may differ from the tier of the call.
        let tier = self.tier_of_tag(slot.tagged());
        let tag = tier.tag();
        self.convert(&block, slot, tier, tag, nanos);
        let rate = tier.rate(tag);
        let more = |state: u64| {
            let left = rate.left(state, nanos).saturating_add(rate.subtokens(tokens));
            Ok::<_, KeyedRefusal>(rate.state(left.min(rate.full()), nanos))
        };
        // `more` never refuses.
        let _ = slot.change_locked(&block, more);
    }

    /// Converts a bucket to the quota of this tier that `tag` names, if another quota counts it.
    fn convert(&self, block: &LockedBlock<'_>, slot: Slot<'_>, tier: &Tier, tag: u64, nanos: Nanos) {
        let tagged = slot.tagged();
        if tagged & TAG != tag {
            let claim = slot.claim(block);
            let left = self.left_by(block, tier, tag, tagged, claim.word, nanos);
            claim.publish((tagged & !TAG) | tag, tier.rate(tag).state(left, nanos));
        }
    }

    /// Returns the tier of a tag.
    fn tier_of_tag(&self, tagged: u64) -> &Tier {
        self.tier(((tagged & TAG) >> 1) as usize)
    }

    /// Returns the contents of a bucket, in subtokens of this tier's quota with the tag `tag`.
    ///
    /// The caller reads the tag once for the whole computation. Another quota may come into force during it, but a
    /// quota that still counts a bucket of this block is never overwritten.
    pub(super) fn left_by(
        &self,
        _block: &LockedBlock<'_>,
        tier: &Tier,
        tag: u64,
        tagged: u64,
        word: u64,
        nanos: Nanos,
    ) -> i64 {
        let own = self.tier_of_tag(tagged);
        let is_same = std::ptr::eq(own, tier);
        let in_force = if is_same { tag } else { own.tag() };
        let rate = own.rate(in_force);
        let left = rate.full() + own.surplus(in_force, tagged & TAG, word, nanos).min(0);
        if is_same { left } else { rate.convert(left, &tier.rate(tag)) }
    }

    /// Returns the subtokens that a bucket would hold above a burst if it had no bound. If it is not full, returns the
    /// subtokens that it lacks, as a negative number.
    pub(super) fn surplus(&self, _block: &LockedBlock<'_>, tagged: u64, word: u64, nanos: Nanos) -> i64 {
        let tier = self.tier_of_tag(tagged);
        tier.surplus(tier.tag(), tagged & TAG, word, nanos)
    }

    /// Returns the time until a bucket is full.
    fn time_until_full(&self, _block: &LockedBlock<'_>, slot: Slot<'_>, nanos: Nanos) -> Nanos {
        let tier = self.tier_of_tag(slot.tagged());
        let in_force = tier.tag();
        let missing = tier.surplus(in_force, slot.tagged() & TAG, slot.word(), nanos).saturating_neg();
        tier.rate(in_force).time_until(missing, nanos)
    }

    /// Changes the quota of a tier. Does nothing if there is no such tier, or if the tier has this quota. The old quota
    /// counts the tier's buckets until they are converted.
    pub(super) fn switch(&self, quotas: &mut Quotas, tier: usize, quota: Quota, now: Instant) {
        let Some(in_force) = quotas.in_force.get_mut(tier) else { return };
        if mem::replace(in_force, quota) != quota {
            quotas.unconverted = true;
            let changed = self.tier(tier);
            changed.change(quota, self.origin.to(now));
            if let Some(overflow) = changed.overflow() {
                // The quota was checked.
                let _ = overflow.set_quota_at(quota, now);
            }
        }
    }

    /// Renews the buckets if the renewal is due, and converts them if a quota was switched.
    pub(super) fn convert_all(&self, quotas: &mut Quotas, now: Instant) {
        let nanos = self.origin.to(now);
        self.renew(quotas, nanos);
        if quotas.unconverted {
            self.look_at_all(quotas, nanos);
        }
    }

    /// Converts all buckets that an old quota counts, and forgets the full ones.
    fn look_at_all(&self, quotas: &mut Quotas, nanos: Nanos) {
        quotas.unconverted = false;
        let look_at = |block: LockedBlock<'_>| {
            for slot in block.entries() {
                let tier = self.tier_of_tag(slot.tagged());
                match slot.claim_if_full(&block, |tag, word| self.surplus(&block, tag, word, nanos)) {
                    Some(claim) => claim.clear(),
                    None => self.convert(&block, slot, tier, tier.tag(), nanos),
                }
            }
        };
        self.table.locked_blocks().for_each(look_at);
    }

    /// Returns whether every bucket is full at `nanos`, because the renewal is overdue by more than [`RENEWAL`]. A call
    /// that takes tokens after the due time renews the buckets. So no call took tokens since the due time, which is
    /// longer ago than any bucket takes to fill. The states of the buckets may have wrapped by `nanos`.
    pub(super) fn all_are_full(&self, nanos: Nanos) -> bool {
        nanos.saturating_sub(self.renewal()) > RENEWAL
    }

    /// If the renewal is due, forgets the full buckets before their states wrap, and converts the others to the quotas
    /// in force. Does nothing otherwise.
    fn renew(&self, quotas: &mut Quotas, nanos: Nanos) {
        if nanos <= self.renewal() {
            return;
        }
        if self.all_are_full(nanos) {
            self.table.locked_blocks().for_each(|block| block.entries().for_each(|slot| slot.claim(&block).clear()));
            quotas.unconverted = false;
        } else {
            self.look_at_all(quotas, nanos);
        }
        self.renewal.store(nanos.saturating_add(RENEWAL).0, Ordering::Relaxed);
    }
}
