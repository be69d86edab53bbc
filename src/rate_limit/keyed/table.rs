//! A hash table of fixed size. It finds a bucket by the hash of its key, and chooses the bucket whose slot a new key
//! gets.

mod census;
mod locked_block;

use crate::sync::{AtomicU64, Mutex, Ordering, lock};
pub(super) use locked_block::LockedBlock;

/// The number of slots in a cache line. One in the models of loom, to keep them small.
pub(super) const SLOTS: usize = if cfg!(steadfast_loom) { 1 } else { 4 };
/// The number of cache lines in which a key may be.
const CHOICES: usize = 4;
/// A block has at least 2^2 cache lines, because a key may be in [`CHOICES`] of them.
const LEAST_BLOCK_LOG2: u32 = 2;
/// A block has at most 2^7 cache lines, or 8 KiB. Blocks are then large enough to have about equally many keys, and
/// small enough that a lock on a block is short.
const MOST_BLOCK_LOG2: u32 = 7;
/// The number of slots for every two keys: 1.5 slots per key.
const SLOTS_FOR_2_KEYS: usize = 3;
/// The largest number of locks. With `n` locks, block `b` uses lock `b % n`.
const STRIPES: usize = 64;

/// The lowest bits of a tagged fingerprint: 7 for the tier, and 1 for which of the tier's two quotas counts the bucket.
pub(super) const TAG: u64 = (1 << TAG_BITS) - 1;
const TAG_BITS: u32 = 8;

/// The lowest bits of a word: its version. The version changes whenever the slot gets another key or another tag.
///
/// The version wraps after 32 such changes. A thread that is suspended for a multiple of 32 changes does not notice
/// them if the state is the one that it loaded before. This is accepted, because all 58 bits of the state would have to
/// be equal.
const VERSION: u64 = (1 << VERSION_BITS) - 1;
const VERSION_BITS: u32 = 6;
/// Odd versions: the thread with the block's lock is writing the slot.
const CLAIMED: u64 = 1;

/// Slots in cache lines, and cache lines in blocks. A key has at most one slot, in one of four cache lines of its
/// block.
///
/// A fingerprint is written only with the lock on its block held, while its word is claimed. Any thread changes a word
/// by compare-and-swap. Only the owner of a [`Claim`] stores its word directly.
#[derive(Debug)]
pub(super) struct Table {
    cache_lines: Box<[CacheLine]>,
    /// The number of blocks.
    blocks: u64,
    /// A block has 2^`block_log2` cache lines.
    block_log2: u32,
    stripes: Box<[Stripe]>,
}

#[derive(Debug)]
#[repr(align(64))]
struct CacheLine {
    /// Tagged fingerprints: 56 bits of a hash, and a tag. Zero if the slot is empty.
    fingerprints: [AtomicU64; SLOTS],
    /// The state of a bucket, in the upper bits, and a version. See the constants above.
    words: [AtomicU64; SLOTS],
}

/// A lock that blocks share: see [`STRIPES`]. It guards the number of calls whose key found no slot in these blocks.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Stripe(Mutex<u64>);

/// The block and the fingerprint of a key. The table stores nothing else about it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Address {
    block: usize,
    /// 56 bits of a hash, without a tag. Not zero.
    pub(super) fingerprint: u64,
}

/// The slot of a bucket.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slot<'a> {
    fingerprint: &'a AtomicU64,
    word: &'a AtomicU64,
}

/// A slot that no other thread writes, and the word that it had before. The owner must publish it.
#[derive(Debug)]
#[must_use = "calls with its key wait for a lock until it is published"]
pub(super) struct Claim<'a> {
    slot: Slot<'a>,
    pub(super) word: u64,
}

/// The result of a change.
#[derive(Debug)]
pub(super) enum Change<E> {
    Done,
    Refused(E),
    /// Nothing was changed: the slot has another key or tag, or is claimed by a thread. The caller takes the lock.
    Elsewhere,
}

/// Returns the state in a word, still shifted to the left by [`UNIT`] bits.
#[inline]
pub(super) fn state_of(word: u64) -> u64 {
    word & !VERSION
}

/// A state is shifted by this many bits in its word. It has 58 binary digits, and wraps.
pub(super) const UNIT: u32 = VERSION_BITS;

impl CacheLine {
    fn new() -> Self {
        Self { fingerprints: [(); SLOTS].map(|()| AtomicU64::new(0)), words: [(); SLOTS].map(|()| AtomicU64::new(0)) }
    }

    /// Returns the slot with this tagged fingerprint. Compares all of them without a branch, because the processor
    /// could not predict the position.
    #[inline]
    fn find(&self, tagged: u64) -> Option<Slot<'_>> {
        let mut place = SLOTS;
        for (other, fingerprint) in self.fingerprints.iter().enumerate() {
            place = if fingerprint.load(Ordering::Acquire) == tagged { other } else { place };
        }
        Some(Slot { fingerprint: self.fingerprints.get(place)?, word: self.words.get(place)? })
    }

    fn slots(&self) -> impl Iterator<Item = Slot<'_>> {
        self.fingerprints.iter().zip(&self.words).map(|(fingerprint, word)| Slot { fingerprint, word })
    }
}

impl Table {
    /// Allocates a table for this many keys, at least one. Returns `None` if there is no memory for it.
    pub(super) fn for_keys(keys: usize) -> Option<Self> {
        let cache_lines = keys.saturating_mul(SLOTS_FOR_2_KEYS).div_ceil(2 * SLOTS);
        let block_log2 = cache_lines.next_power_of_two().ilog2().clamp(LEAST_BLOCK_LOG2, MOST_BLOCK_LOG2);
        let blocks = cache_lines.div_ceil(1 << block_log2);
        let count = blocks << block_log2;
        let mut cache_lines = Vec::new();
        cache_lines.try_reserve_exact(count).ok()?;
        cache_lines.extend((0..count).map(|_| CacheLine::new()));
        let stripes = (0..blocks.min(STRIPES)).map(|_| Stripe::default()).collect();
        Some(Self { cache_lines: cache_lines.into_boxed_slice(), blocks: blocks as u64, block_log2, stripes })
    }

    pub(super) fn bytes(&self) -> usize {
        size_of_val(&*self.cache_lines) + size_of_val(&*self.stripes)
    }

    /// Returns the address of a key with this hash. The highest bits of the hash choose the block, and the lowest 56
    /// are the fingerprint. With 256 blocks or more, all 64 bits distinguish keys. A fingerprint of zero becomes one,
    /// because zero marks an empty slot.
    #[inline]
    pub(super) fn address(&self, hash: u64) -> Address {
        let block = ((u128::from(hash) * u128::from(self.blocks)) >> 64) as usize;
        let fingerprint = (hash << TAG_BITS).max(1 << TAG_BITS);
        Address { block, fingerprint }
    }

    /// Returns the first of the cache lines in which this fingerprint may be.
    #[inline]
    fn home_of(&self, block: usize, fingerprint: u64) -> usize {
        (block << self.block_log2) + self.bits(fingerprint, 0)
    }

    /// Returns all cache lines in which this fingerprint may be: the first one, and its XOR with `odd`, with `even`,
    /// and with `odd ^ even`. The four differ, because `odd` has bit 0 set, and `even` has bit 1 set and bit 0 clear.
    fn cache_lines_of(&self, block: usize, fingerprint: u64) -> [usize; CHOICES] {
        let (odd, even) = (self.bits(fingerprint, 12) | 1, (self.bits(fingerprint, 24) & !1) | 2);
        // A block begins at a multiple of its size, so the XOR stays within the block.
        [0, odd, even, odd ^ even].map(|difference| self.home_of(block, fingerprint) ^ difference)
    }

    /// Returns the bits of a fingerprint that choose a cache line of a block, starting at bit `from`.
    #[inline]
    fn bits(&self, fingerprint: u64, from: u32) -> usize {
        (fingerprint >> (TAG_BITS + from)) as usize & ((1 << self.block_log2) - 1)
    }

    /// Returns the slot of a key with this tag. Takes no lock: the slot may get another key at any time, and
    /// `None` does not prove that the key has no slot.
    #[inline]
    pub(super) fn find(&self, address: Address, tag: u64) -> Option<Slot<'_>> {
        let home = self.home_of(address.block, address.fingerprint);
        match self.cache_lines.get(home)?.find(address.fingerprint | tag) {
            Some(slot) => Some(slot),
            None => self.find_elsewhere(address, tag),
        }
    }

    /// Looks in the cache lines of a key other than its first.
    #[inline(never)]
    fn find_elsewhere(&self, address: Address, tag: u64) -> Option<Slot<'_>> {
        let [_, others @ ..] = self.cache_lines_of(address.block, address.fingerprint);
        others.into_iter().find_map(|cache_line| self.cache_lines.get(cache_line)?.find(address.fingerprint | tag))
    }

    /// Takes the lock on a key's block. While it is held, no other thread writes a fingerprint in the block, or has a
    /// claim on a slot of the block.
    pub(super) fn lock(&self, address: Address) -> LockedBlock<'_> {
        self.lock_block(address.block)
    }

    fn lock_block(&self, block: usize) -> LockedBlock<'_> {
        // There is at least one stripe.
        let guard = self.stripes.get(block % self.stripes.len().max(1)).map(|stripe| lock(&stripe.0));
        LockedBlock { table: self, block, guard }
    }

    /// Iterates over all blocks, with the lock on each.
    pub(super) fn locked_blocks(&self) -> impl Iterator<Item = LockedBlock<'_>> {
        (0..self.blocks as usize).map(|block| self.lock_block(block))
    }
}

impl<'a> Slot<'a> {
    /// Loads the tagged fingerprint.
    pub(super) fn tagged(&self) -> u64 {
        self.fingerprint.load(Ordering::Acquire)
    }

    pub(super) fn word(&self) -> u64 {
        self.word.load(Ordering::Acquire)
    }

    /// Changes the state, if the slot has this tagged fingerprint. `change` takes the state and returns the next one.
    ///
    /// `change` runs after the word was loaded. It may read no data that changes while a slot has this tag.
    #[inline]
    pub(super) fn change<E>(&self, tagged: u64, change: impl Fn(u64) -> Result<u64, E>) -> Change<E> {
        // Load the word first. A thread that gives the slot to another key claims the word, then stores the
        // fingerprint, then publishes the word, all with release. These pair with the acquire loads here. If this
        // thread loads the word of the new key, it also sees the new fingerprint. If it loads the new fingerprint after
        // the old word, the compare-and-swap finds another word.
        let mut word = self.word.load(Ordering::Acquire);
        loop {
            if self.fingerprint.load(Ordering::Acquire) != tagged || word & CLAIMED != 0 {
                return Change::Elsewhere;
            }
            match change(state_of(word)) {
                Ok(state) => {
                    let newer = state | (word & VERSION);
                    match self.word.compare_exchange_weak(word, newer, Ordering::AcqRel, Ordering::Acquire) {
                        Ok(_) => return Change::Done,
                        Err(newer) => word = newer,
                    }
                }
                Err(refusal) => {
                    // With an equal version, the slot kept its tag, so the quota did not change. The refusal is valid.
                    let newer = self.word.load(Ordering::Acquire);
                    if (newer ^ word) & VERSION == 0 {
                        return Change::Refused(refusal);
                    }
                    word = newer;
                }
            }
        }
    }

    /// Changes the state of a slot. Its key and tag cannot change, because its block is locked.
    pub(super) fn change_locked<E>(
        &self,
        _block: &LockedBlock<'_>,
        change: impl Fn(u64) -> Result<u64, E>,
    ) -> Result<(), E> {
        let mut word = self.word();
        loop {
            let newer = change(state_of(word))? | (word & VERSION);
            match self.word.compare_exchange_weak(word, newer, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return Ok(()),
                Err(newer) => word = newer,
            }
        }
    }

    /// Claims the slot: no other thread changes its state. Calls for its key wait for the lock.
    pub(super) fn claim(&self, _block: &LockedBlock<'_>) -> Claim<'a> {
        let mut word = self.word();
        loop {
            match self.claim_at(word) {
                Ok(claim) => return claim,
                Err(newer) => word = newer,
            }
        }
    }

    /// Claims the slot if its bucket is full. See [`make_room`](LockedBlock::make_room).
    pub(super) fn claim_if_full(
        &self,
        _block: &LockedBlock<'_>,
        surplus: impl Fn(u64, u64) -> i64,
    ) -> Option<Claim<'a>> {
        let (tag, mut word) = (self.tagged() & TAG, self.word());
        while surplus(tag, word) >= 0 {
            match self.claim_at(word) {
                Ok(claim) => return Some(claim),
                Err(newer) => word = newer,
            }
        }
        None
    }

    /// Claims the slot, if its word is still `word`. Otherwise the error is the newer word.
    fn claim_at(&self, word: u64) -> Result<Claim<'a>, u64> {
        let claimed = next_version(word);
        self.word.compare_exchange(word, claimed, Ordering::AcqRel, Ordering::Acquire)?;
        Ok(Claim { slot: *self, word })
    }
}

impl<'a> Claim<'a> {
    /// Gives the slot this tagged fingerprint and this state, and ends the claim.
    pub(super) fn publish(self, tagged: u64, state: u64) -> Slot<'a> {
        self.slot.fingerprint.store(tagged, Ordering::Release);
        let version = next_version(next_version(self.word)) & VERSION;
        self.slot.word.store(state | version, Ordering::Release);
        self.slot
    }

    /// Empties the slot, and ends the claim.
    pub(super) fn clear(self) {
        self.publish(0, 0);
    }
}

fn next_version(word: u64) -> u64 {
    state_of(word) | (word.wrapping_add(1) & VERSION)
}
