use crate::{
    rate_limit::distributed::store::LONGEST_KEY,
    sync::{AtomicUsize, Mutex, Ordering, lock},
};
use std::{
    collections::HashMap,
    hash::{BuildHasher, RandomState},
    sync::Arc,
};

/// The number of parts of the table. Each has its own lock, so that callers of different keys rarely wait for each
/// other.
const PARTS: usize = 16;

/// In a full table, a new key first looks for an idle entry at this many places of its own part.
const LOOKS: usize = 64;

/// If the key finds no idle entry in its own part, it looks at this many places of each part.
const LOOKS_ELSEWHERE: usize = 16;

/// The name of the overflow entry in the table. It is longer than any key.
const SHARED: [u8; LONGEST_KEY + 1] = [0; LONGEST_KEY + 1];

/// The entries of the keys in use: a bounded number of them.
///
/// In a full table a new key takes the place of an idle key. If none is found, the key uses the overflow entry, which
/// all keys without a place share.
pub(crate) struct Entries<E> {
    hasher: RandomState,
    parts: [Mutex<Part<E>>; PARTS],
    /// The number of keys, without the overflow entry. It only grows and shrinks under the lock of a part. Relaxed: it
    /// guards no other memory.
    keys: AtomicUsize,
    /// The bound of `keys`.
    max_keys: usize,
}

struct Part<E> {
    /// The index in `places` of each key.
    by_key: HashMap<Arc<[u8]>, usize>,
    /// Each key and its entry.
    places: Vec<(Arc<[u8]>, Arc<E>)>,
    /// The place at which the last search for an idle entry ended. The next search begins after it.
    hand: usize,
}

impl<E> Entries<E> {
    pub(crate) fn new(max_keys: usize) -> Self {
        let (hasher, parts) = (RandomState::new(), Default::default());
        Self { hasher, parts, keys: AtomicUsize::new(0), max_keys }
    }

    /// Returns the entry of a key. Makes a new one if there is room, or if an idle entry can make way. Returns `None`
    /// otherwise.
    pub(crate) fn get(
        &self,
        key: &[u8],
        is_idle: impl Fn(&E) -> bool,
        make: impl FnOnce(Arc<[u8]>) -> E,
    ) -> Option<Arc<E>> {
        let mut part = lock(self.part(key));
        if let Some(entry) = part.find(key) {
            return Some(entry.clone());
        }
        let one_more = |keys| (keys < self.max_keys).then_some(keys + 1);
        if self.keys.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).is_ok() {
            return Some(part.insert(key.into(), make));
        }
        let gone = part.remove_idle(LOOKS, &is_idle);
        drop(part);
        // The idle entry is dropped without a lock. Its place in the count of keys, whatever its part, now belongs to
        // this key.
        gone.or_else(|| self.parts.iter().find_map(|part| lock(part).remove_idle(LOOKS_ELSEWHERE, &is_idle)))?;
        let mut part = lock(self.part(key));
        if let Some(entry) = part.find(key) {
            // Another caller has inserted the same key in the meantime, and taken a place for it.
            self.keys.fetch_sub(1, Ordering::Relaxed);
            return Some(entry.clone());
        }
        Some(part.insert(key.into(), make))
    }

    /// Returns the overflow entry, for a key that has no place.
    pub(crate) fn shared(&self, make: impl FnOnce(Arc<[u8]>) -> E) -> Arc<E> {
        let mut part = lock(self.part(&SHARED));
        match part.find(&SHARED) {
            Some(entry) => entry.clone(),
            None => part.insert(SHARED[..].into(), make),
        }
    }

    pub(crate) fn find(&self, key: &[u8]) -> Option<Arc<E>> {
        lock(self.part(key)).find(key).cloned()
    }

    /// Calls `look` for each entry under the lock of its part, one part at a time. Takes no reference to the entries,
    /// so idle ones can still make way.
    pub(crate) fn look_at_all(&self, mut look: impl FnMut(&E)) {
        for part in &self.parts {
            lock(part).places.iter().for_each(|(_, entry)| look(entry));
        }
    }

    pub(crate) fn all(&self) -> Vec<Arc<E>> {
        let entries = |part: &Mutex<Part<E>>| -> Vec<Arc<E>> {
            lock(part).places.iter().map(|(_, entry)| entry.clone()).collect()
        };
        self.parts.iter().flat_map(entries).collect()
    }

    /// Removes the entry of a key if it is idle and no other caller is about to use it. Returns whether it was removed.
    /// The caller holds one reference to the entry.
    pub(crate) fn forget_if(&self, key: &[u8], is_idle: impl FnOnce(&E) -> bool) -> bool {
        let mut part = lock(self.part(key));
        let Some(place) = part.by_key.get(key).copied() else { return false };
        let (_, entry) = &part.places[place];
        // One reference is in the table, and the caller has one. To take another, a caller needs the lock.
        let idle = Arc::strong_count(entry) == 2 && is_idle(entry);
        if idle {
            part.remove(place);
            if key.len() <= LONGEST_KEY {
                self.keys.fetch_sub(1, Ordering::Relaxed);
            }
        }
        idle
    }

    fn part(&self, key: &[u8]) -> &Mutex<Part<E>> {
        &self.parts[self.hasher.hash_one(key) as usize % PARTS]
    }
}

impl<E> Part<E> {
    fn find(&self, key: &[u8]) -> Option<&Arc<E>> {
        self.by_key.get(key).map(|place| &self.places[*place].1)
    }

    fn insert(&mut self, key: Arc<[u8]>, make: impl FnOnce(Arc<[u8]>) -> E) -> Arc<E> {
        let entry = Arc::new(make(key.clone()));
        self.by_key.insert(key.clone(), self.places.len());
        self.places.push((key, entry.clone()));
        entry
    }

    /// Removes the entry at `place`. The last entry moves there.
    fn remove(&mut self, place: usize) -> Arc<E> {
        let (key, entry) = self.places.swap_remove(place);
        self.by_key.remove(&key);
        if let Some((moved, _)) = self.places.get(place) {
            self.by_key.insert(moved.clone(), place);
        }
        entry
    }

    /// Removes the first idle entry that no caller uses, among the next `looks` places. Returns it, or `None` if there
    /// is none.
    fn remove_idle(&mut self, looks: usize, is_idle: impl Fn(&E) -> bool) -> Option<Arc<E>> {
        for _ in 0..self.places.len().min(looks) {
            self.hand = (self.hand + 1) % self.places.len();
            let (key, entry) = &self.places[self.hand];
            if key.len() <= LONGEST_KEY && Arc::strong_count(entry) == 1 && is_idle(entry) {
                return Some(self.remove(self.hand));
            }
        }
        None
    }
}

impl<E> Default for Part<E> {
    fn default() -> Self {
        Self { by_key: HashMap::new(), places: Vec::new(), hand: 0 }
    }
}
