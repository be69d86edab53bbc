//! A table of fixed size that finds a bucket by the hash of its key, and which of them gives way to a new one.

mod census;

use crate::sync::{AtomicU64, Mutex, Ordering, lock};

/// The slots of a cache line.
pub(super) const SLOTS: usize = if cfg!(steadfast_loom) { 1 } else { 4 };
/// The lines in which a key may be.
const CHOICES: usize = 4;
/// At least as many lines are in a block as there are choices.
const LEAST_BLOCK_LOG2: u32 = 2;
/// 8 KiB: large enough that no block has many more keys than another, and small enough that a lock on one is short.
const MOST_BLOCK_LOG2: u32 = 7;
/// Slots for every 2 keys: 1.5 times as many as there are to be keys.
const SLOTS_FOR_2_KEYS: usize = 3;
const STRIPES: usize = 64;

/// A fingerprint's lowest bits say by what its bucket is counted.
pub(super) const TAG: u64 = (1 << TAG_BITS) - 1;
const TAG_BITS: u32 = 8;

/// A word's lowest bits, which change whenever its slot gets another key or counts by other rules.
///
/// A thread that slept through 32 such changes, and finds the same state by the last, takes it for its own.
const VERSION: u64 = (1 << VERSION_BITS) - 1;
const VERSION_BITS: u32 = 6;
/// Every second version: the thread with the block's lock is writing the slot.
const CLAIMED: u64 = 1;

/// Slots in lines, and lines in blocks. A key may be in four lines of one block.
///
/// A fingerprint is written only with the lock on its block held, and while the word beside it is claimed. A word is
/// written by all, by compare-and-swap.
#[derive(Debug)]
pub(super) struct Table {
    cache_lines: Box<[CacheLine]>,
    blocks: u64,
    block_log2: u32,
    stripes: Box<[Stripe]>,
}

#[derive(Debug)]
#[repr(align(64))]
struct CacheLine {
    /// Zero: empty. Otherwise 56 bits of a hash, and a tag.
    fingerprints: [AtomicU64; SLOTS],
    /// The state of a bucket, in the upper bits, and a version. See the constants above.
    words: [AtomicU64; SLOTS],
}

/// The lock on the blocks of one stripe, and how often a key found no slot in one of them.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Stripe(Mutex<u64>);

/// Where a key belongs: all that the table knows of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Address {
    block: usize,
    /// Without a tag, and not zero.
    pub(super) fingerprint: u64,
}

/// A place for a bucket.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slot<'a> {
    fingerprint: &'a AtomicU64,
    word: &'a AtomicU64,
}

/// A slot that no other thread writes, with the word that it had before. It must be published.
#[derive(Debug)]
#[must_use = "calls with its key wait for a lock until it is published"]
pub(super) struct Claim<'a> {
    slot: Slot<'a>,
    pub(super) word: u64,
}

/// How a change ended.
#[derive(Debug)]
pub(super) enum Change<E> {
    Done,
    Refused(E),
    /// Nothing was changed: the slot got another key, counts by other rules, or is about to.
    Elsewhere,
}

/// The state in a word, in units of [`UNIT`].
#[inline]
pub(super) fn state_of(word: u64) -> u64 {
    word & !VERSION
}

/// What a state is counted in: it has 58 binary digits, and wraps.
pub(super) const UNIT: u32 = VERSION_BITS;

impl CacheLine {
    fn new() -> Self {
        Self { fingerprints: [(); SLOTS].map(|()| AtomicU64::new(0)), words: [(); SLOTS].map(|()| AtomicU64::new(0)) }
    }

    /// The slot with this fingerprint and tag. Whether it is there is not predictable, where it is even less so: all
    /// are compared, without a branch.
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
    /// A table for this many keys, at least one, or nothing where there is no memory for it.
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

    /// Where a key with this hash belongs. The block follows from the hash's highest bits, the fingerprint is the
    /// others: with 256 blocks or more all 64 tell keys apart.
    #[inline]
    pub(super) fn address(&self, hash: u64) -> Address {
        let block = ((u128::from(hash) * u128::from(self.blocks)) >> 64) as usize;
        let fingerprint = (hash << TAG_BITS).max(1 << TAG_BITS);
        Address { block, fingerprint }
    }

    /// The first of the lines in which this fingerprint may be.
    #[inline]
    fn home_of(&self, block: usize, fingerprint: u64) -> usize {
        (block << self.block_log2) + self.bits(fingerprint, 0)
    }

    /// All of them: the first one, and its sums without carry with an odd number, an even one, and both.
    fn cache_lines_of(&self, block: usize, fingerprint: u64) -> [usize; CHOICES] {
        let (odd, even) = (self.bits(fingerprint, 12) | 1, (self.bits(fingerprint, 24) & !1) | 2);
        // A block begins at a multiple of its size.
        [0, odd, even, odd ^ even].map(|difference| self.home_of(block, fingerprint) ^ difference)
    }

    /// As many bits of a fingerprint as tell the lines of a block apart, from this one on.
    #[inline]
    fn bits(&self, fingerprint: u64, from: u32) -> usize {
        (fingerprint >> (TAG_BITS + from)) as usize & ((1 << self.block_log2) - 1)
    }

    /// The bucket of a key that is counted by this tag. Without the lock it may be gone by now, and one that is not
    /// found may be there.
    #[inline]
    pub(super) fn find(&self, address: Address, tag: u64) -> Option<Slot<'_>> {
        let home = self.home_of(address.block, address.fingerprint);
        match self.cache_lines.get(home)?.find(address.fingerprint | tag) {
            Some(slot) => Some(slot),
            None => self.find_elsewhere(address, tag),
        }
    }

    #[inline(never)]
    fn find_elsewhere(&self, address: Address, tag: u64) -> Option<Slot<'_>> {
        let [_, others @ ..] = self.cache_lines_of(address.block, address.fingerprint);
        others.into_iter().find_map(|cache_line| self.cache_lines.get(cache_line)?.find(address.fingerprint | tag))
    }

    /// Holds the lock on a key's block. No other thread then writes a fingerprint in it, and none of its slots is
    /// claimed.
    pub(super) fn lock(&self, address: Address) -> LockedBlock<'_> {
        self.lock_block(address.block)
    }

    fn lock_block(&self, block: usize) -> LockedBlock<'_> {
        // There are stripes.
        let guard = self.stripes.get(block % self.stripes.len().max(1)).map(|stripe| lock(&stripe.0));
        LockedBlock { table: self, block, guard }
    }

    /// All blocks, each with the lock on it held until the next.
    pub(super) fn locked_blocks(&self) -> impl Iterator<Item = LockedBlock<'_>> {
        (0..self.blocks as usize).map(|block| self.lock_block(block))
    }
}

#[cfg(not(steadfast_loom))]
type Guard<'a> = std::sync::MutexGuard<'a, u64>;
#[cfg(steadfast_loom)]
type Guard<'a> = loom::sync::MutexGuard<'a, u64>;

/// A block whose fingerprints no other thread writes.
#[derive(Debug)]
pub(super) struct LockedBlock<'a> {
    table: &'a Table,
    block: usize,
    guard: Option<Guard<'a>>,
}

impl<'a> LockedBlock<'a> {
    /// The bucket of a key of this block, whatever it is counted by.
    pub(super) fn find(&self, address: Address) -> Option<Slot<'a>> {
        self.candidates(address.fingerprint).find(|slot| slot.tagged() & !TAG == address.fingerprint)
    }

    /// The slots in which a fingerprint of this block may be.
    pub(super) fn candidates(&self, fingerprint: u64) -> impl Iterator<Item = Slot<'a>> + use<'a> {
        let table = self.table;
        let cache_lines = table.cache_lines_of(self.block, fingerprint & !TAG);
        cache_lines.into_iter().filter_map(|cache_line| table.cache_lines.get(cache_line)).flat_map(CacheLine::slots)
    }

    /// All slots of the block that are not empty.
    pub(super) fn entries(&self) -> impl Iterator<Item = Slot<'a>> + use<'a> {
        let start = self.block << self.table.block_log2;
        let cache_lines = self.table.cache_lines.iter().skip(start).take(1 << self.table.block_log2);
        cache_lines.flat_map(CacheLine::slots).filter(|slot| slot.tagged() != 0)
    }

    /// A slot for a key that has none. An empty one, if there is any; or that of the bucket which has been full for
    /// longest, which gives way; or else one in the first line whose bucket can move to such a slot of its own.
    ///
    /// `surplus` says, of a tag and a word, for how long the bucket has been full: less than zero if it is not.
    pub(super) fn make_room(&self, address: Address, surplus: impl Fn(u64, u64) -> i64) -> Option<Claim<'a>> {
        if let Some(claim) = self.claim_any(address.fingerprint, &surplus) {
            return Some(claim);
        }
        self.candidates(address.fingerprint).take(SLOTS).find_map(|slot| {
            let tagged = slot.tagged();
            let target = self.claim_any(tagged, &surplus)?;
            // A quota was changed since the first look, and by the next one this very bucket is full: then it gives
            // way.
            if std::ptr::eq(target.slot.word, slot.word) {
                return Some(target);
            }
            let claim = slot.claim(self);
            target.publish(tagged, state_of(claim.word));
            Some(claim)
        })
    }

    /// Whether [`make_room`](Self::make_room) would find a slot. Changes nothing.
    pub(super) fn has_room(&self, address: Address, surplus: impl Fn(u64, u64) -> i64) -> bool {
        let gives_way = |slot: &Slot<'_>| slot.tagged() == 0 || surplus(slot.tagged() & TAG, slot.word()) >= 0;
        let fits = |fingerprint: u64| self.candidates(fingerprint).any(|slot| gives_way(&slot));
        let mut first_line = self.candidates(address.fingerprint).take(SLOTS);
        fits(address.fingerprint) || first_line.any(|slot| fits(slot.tagged()))
    }

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
            // Or it was used just now.
            if let Ok(claim) = slot.claim_at(word) {
                return Some(claim);
            }
        }
    }
}

impl<'a> Slot<'a> {
    /// The fingerprint and the tag.
    pub(super) fn tagged(&self) -> u64 {
        self.fingerprint.load(Ordering::Acquire)
    }

    pub(super) fn word(&self) -> u64 {
        self.word.load(Ordering::Acquire)
    }

    /// Changes the state, if this is the slot of this fingerprint and tag. `change` gets the state and returns the
    /// next.
    ///
    /// It runs after the word was loaded, and whatever it looks at must stay as it is for as long as a slot has the
    /// tag.
    #[inline]
    pub(super) fn change<E>(&self, tagged: u64, change: impl Fn(u64) -> Result<u64, E>) -> Change<E> {
        // The word first. A thread that gives the slot to another key claims the word, then writes the fingerprint,
        // then publishes the word, each a release. So a thread that sees the word of the next key sees at least its
        // fingerprint; and one that sees the next fingerprint beside the former word finds, in the compare-and-swap,
        // another word.
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
                    // Was it right to refuse? If the version is the same nothing that was looked at had changed.
                    let newer = self.word.load(Ordering::Acquire);
                    if (newer ^ word) & VERSION == 0 {
                        return Change::Refused(refusal);
                    }
                    word = newer;
                }
            }
        }
    }

    /// Changes the state of a slot that stays as it is, since its block is locked.
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

    /// Keeps all other threads from changing the state. They wait for the lock.
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
    pub(super) fn claim_if_fresh(
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

    fn claim_at(&self, word: u64) -> Result<Claim<'a>, u64> {
        let claimed = next_version(word);
        self.word.compare_exchange(word, claimed, Ordering::AcqRel, Ordering::Acquire)?;
        Ok(Claim { slot: *self, word })
    }
}

impl<'a> Claim<'a> {
    /// Makes the slot that of this fingerprint and tag.
    pub(super) fn publish(self, tagged: u64, state: u64) -> Slot<'a> {
        self.slot.fingerprint.store(tagged, Ordering::Release);
        let version = next_version(next_version(self.word)) & VERSION;
        self.slot.word.store(state | version, Ordering::Release);
        self.slot
    }

    /// Makes the slot an empty one.
    pub(super) fn clear(self) {
        self.publish(0, 0);
    }
}

fn next_version(word: u64) -> u64 {
    state_of(word) | (word.wrapping_add(1) & VERSION)
}
