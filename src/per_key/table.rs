//! The entries, by the hash of their keys.
//!
//! The table finds an entry by a hash of 64 bits alone. `Eq` of a key, which is user code, never runs under a lock.

use super::mechanism::{Mechanism, Memory};
use crate::{
    clock::Nanos,
    stripes::Stripe,
    sync::{AtomicU64, Ordering},
};
use std::{
    collections::HashMap,
    hash::{BuildHasherDefault, Hasher},
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
};
use tokio::time::Instant;

/// The number of shards. Each has its own lock, so that threads with different keys rarely write a common cache line.
const SHARDS: usize = if cfg!(steadfast_loom) { 1 } else { 64 };
/// The lowest of the bits of a hash that choose the shard. The map in a shard uses the lowest and the highest bits, so
/// the choice of the shard uses bits between them.
const SHARD_SHIFT: u32 = 40;

/// The precision of the last use of an entry.
const EXACT_TO: Nanos = Nanos(1_000_000);

/// The mechanism of one key.
pub struct Entry<T, K> {
    pub(super) handle: T,
    /// `None` for the overflow entry.
    pub(super) key: Option<K>,
    /// When it was last used, in nanoseconds since the origin of the table. Relaxed: it guards no other memory.
    used: AtomicU64,
}

impl<T, K> Entry<T, K> {
    pub(super) fn new(handle: T, key: Option<K>, now: Nanos) -> Self {
        Self { handle, key, used: AtomicU64::new(now.0) }
    }

    /// Notes a use. Writes only if the last noted use is at least [`EXACT_TO`] ago, so that threads with one key rarely
    /// write its cache line.
    #[inline]
    pub(super) fn touch(&self, now: Nanos) {
        if now.saturating_sub(Nanos(self.used.load(Ordering::Relaxed))) >= EXACT_TO {
            self.used.store(now.0, Ordering::Relaxed);
        }
    }

    pub(super) fn used(&self) -> Nanos {
        Nanos(self.used.load(Ordering::Relaxed))
    }
}

/// A hasher that returns the hash of a key unchanged.
#[derive(Default)]
pub(super) struct Identity(u64);

impl Hasher for Identity {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        // Not used: the map hashes only `u64` keys.
        self.0 = bytes.iter().fold(self.0, |hash, byte| hash.rotate_left(8) ^ u64::from(*byte));
    }

    #[inline]
    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

type Map<T, K> = HashMap<u64, Arc<Entry<T, K>>, BuildHasherDefault<Identity>>;

/// The entries, in shards. No user code runs while a shard is locked: the methods of a [`Mechanism`] run none, and
/// entries are dropped after the lock is released.
pub(super) struct Table<T, K> {
    /// There are [`SHARDS`] of them.
    shards: Box<[Stripe<RwLock<Map<T, K>>>]>,
}

impl<T, K> Table<T, K> {
    pub(super) fn new() -> Self {
        Self { shards: (0..SHARDS).map(|_| Stripe(RwLock::default())).collect() }
    }

    #[inline]
    fn shard(&self, hash: u64) -> &RwLock<Map<T, K>> {
        &self.shards[(hash >> SHARD_SHIFT) as usize % SHARDS].0
    }

    #[inline]
    pub(super) fn find(&self, hash: u64) -> Option<Arc<Entry<T, K>>> {
        read(self.shard(hash)).get(&hash).cloned()
    }

    /// Returns the handle of an entry. With a time, counts the entry as used then.
    #[inline]
    pub(super) fn handle(&self, hash: u64, now: Option<Nanos>) -> Option<T>
    where
        T: Mechanism,
    {
        let shard = read(self.shard(hash));
        let entry = shard.get(&hash)?;
        if let Some(now) = now {
            entry.touch(now);
        }
        Some(entry.handle.clone())
    }

    pub(super) fn insert(&self, hash: u64, entry: Arc<Entry<T, K>>) {
        write(self.shard(hash)).insert(hash, entry);
    }

    /// Returns when an entry was last used.
    pub(super) fn used(&self, hash: u64) -> Option<Nanos> {
        read(self.shard(hash)).get(&hash).map(|entry| entry.used())
    }

    /// Returns when an entry was last used, and what would be lost if it were forgotten. `None` if there is no entry.
    pub(super) fn look(&self, hash: u64, now: Instant) -> Option<(Nanos, Memory)>
    where
        T: Mechanism,
    {
        // With the write lock, no other thread can take a reference to the entry, or a handle of its mechanism.
        let mut shard = write(self.shard(hash));
        shard.get_mut(&hash).map(|entry| (entry.used(), memory(entry, now)))
    }

    /// Removes an entry, if `may_go` agrees. `may_go` gets the entry's last use, and what would be lost.
    pub(super) fn remove_if(
        &self,
        hash: u64,
        now: Instant,
        may_go: impl FnOnce(Nanos, Memory) -> bool,
    ) -> Option<Arc<Entry<T, K>>>
    where
        T: Mechanism,
    {
        let mut shard = write(self.shard(hash));
        let entry = shard.get_mut(&hash)?;
        let goes = may_go(entry.used(), memory(entry, now));
        goes.then(|| shard.remove(&hash)).flatten()
    }

    /// Calls `look` with the hash and the handle of each entry. Does not count as a use. `look` must not run user code,
    /// because a shard is locked.
    pub(super) fn look_at_all(&self, mut look: impl FnMut(u64, &T)) {
        for shard in &self.shards {
            read(&shard.0).iter().for_each(|(hash, entry)| look(*hash, &entry.handle));
        }
    }

    /// Returns all entries. Each is in use until its reference is dropped.
    pub(super) fn all(&self) -> Vec<Arc<Entry<T, K>>> {
        let entries = |shard: &Stripe<RwLock<Map<T, K>>>| read(&shard.0).values().cloned().collect::<Vec<_>>();
        self.shards.iter().flat_map(entries).collect()
    }
}

/// Returns what would be lost if an entry of a locked shard were forgotten.
fn memory<T: Mechanism, K>(entry: &mut Arc<Entry<T, K>>, now: Instant) -> Memory {
    match Arc::get_mut(entry) {
        // No call is in flight, and no code of the user holds a handle.
        Some(entry) if !entry.handle.is_shared() => entry.handle.memory_at(now),
        _ => Memory::InUse,
    }
}

fn read<M>(lock: &RwLock<M>) -> RwLockReadGuard<'_, M> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

fn write<M>(lock: &RwLock<M>) -> RwLockWriteGuard<'_, M> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}
