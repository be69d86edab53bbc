use crate::sync::{AtomicUsize, Mutex, Ordering, lock};
use std::{
    collections::HashMap,
    hash::{BuildHasher, RandomState},
    sync::Arc,
};

/// What this process knows of each key that it uses, for a bounded number of them.
pub(super) struct Entries<E> {
    hasher: RandomState,
    parts: [Mutex<HashMap<Arc<[u8]>, Arc<E>>>; PARTS],
    /// How many there are, and may be. Relaxed: it guards no other memory, and only moves under the lock of a part.
    keys: AtomicUsize,
    max_keys: usize,
}

/// Each with a lock of its own, so that few wait for another.
const PARTS: usize = 16;

/// There is no room for another key.
pub(super) struct Full;

impl<E> Entries<E> {
    pub(super) fn new(max_keys: usize) -> Self {
        let (hasher, parts) = (RandomState::new(), Default::default());
        Self { hasher, parts, keys: AtomicUsize::new(0), max_keys }
    }

    /// The entry of a key, or one that is made for it.
    pub(super) fn get(&self, key: &[u8], make: impl FnOnce(Arc<[u8]>) -> E) -> Result<Arc<E>, Full> {
        let mut part = lock(self.part(key));
        if let Some(entry) = part.get(key) {
            return Ok(entry.clone());
        }
        let one_more = |keys| (keys < self.max_keys).then_some(keys + 1);
        if self.keys.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).is_err() {
            return Err(Full);
        }
        let key: Arc<[u8]> = key.into();
        let entry = Arc::new(make(key.clone()));
        part.insert(key, entry.clone());
        Ok(entry)
    }

    pub(super) fn find(&self, key: &[u8]) -> Option<Arc<E>> {
        lock(self.part(key)).get(key).cloned()
    }

    pub(super) fn all(&self) -> Vec<Arc<E>> {
        self.parts.iter().flat_map(|part| lock(part).values().cloned().collect::<Vec<_>>()).collect()
    }

    /// Forgets the entry of a key if nobody else is about to use it, and it says that it is idle. The caller holds one
    /// reference to it.
    pub(super) fn forget_if(&self, key: &[u8], is_idle: impl FnOnce(&E) -> bool) -> bool {
        let mut part = lock(self.part(key));
        // One reference in the table and one of the caller's. Whoever takes another needs the lock.
        let idle = part.get(key).is_some_and(|entry| Arc::strong_count(entry) == 2 && is_idle(entry));
        if idle {
            part.remove(key);
            self.keys.fetch_sub(1, Ordering::Relaxed);
        }
        idle
    }

    fn part(&self, key: &[u8]) -> &Mutex<HashMap<Arc<[u8]>, Arc<E>>> {
        &self.parts[self.hasher.hash_one(key) as usize % PARTS]
    }
}
