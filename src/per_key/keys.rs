//! The state that all handles of one [`PerKey`](super::PerKey) share.

use super::{
    instrument::PerKeyInstrument,
    labels::Labels,
    mechanism::Mechanism,
    order::{Moment, Order},
    table::{Entry, Table},
};
use crate::{
    circuit_breaker::MostOpen,
    clock::{Nanos, Origin},
    shell::Explanation,
    stripes::Counter,
    sync::{AtomicU64, AtomicUsize, Mutex, Ordering, lock},
};
use std::{
    hash::{BuildHasher, Hash, RandomState},
    sync::{Arc, OnceLock},
    time::Duration,
};
use tokio::time::Instant;

/// Bounds the memory: a breaker takes about 1 KiB. Few clients call more hosts.
const MAX_KEYS: usize = 1024;
/// Longer than a circuit stays open by default, and longer than most windows.
const IDLE_AFTER: Duration = Duration::from_secs(600);

/// Makes the mechanism of a key. `Err` is the overflow mechanism, for a key whose mechanism cannot be made.
type Make<T, K> = Box<dyn Fn(&K) -> Result<T, T> + Send + Sync>;

/// The keys, their mechanisms, and how they are made.
///
/// Lock order: `order`, a shard of the table, the lock of a mechanism. `config` is taken alone. No user code runs under
/// these locks: keys are hashed before, and keys and mechanisms are made before and dropped after.
pub struct Keys<T: Mechanism, K> {
    table: Table<T, K>,
    /// Has a secret seed, so no caller can choose keys that share an entry.
    hasher: RandomState,
    /// The last uses of the entries count from this instant.
    origin: Origin,
    make: Make<T, K>,
    /// Whether all keys have one configuration. `false` for `PerKey::with`.
    has_one_config: bool,
    /// The mechanism that keys without a place share. Made by `PerKey::new`, or for the first key that needs it.
    overflow: OnceLock<Arc<Entry<T, K>>>,
    /// The most keys that have an entry. Relaxed: it is read by itself.
    max_keys: AtomicUsize,
    /// How long an entry with evidence must be unused before it can be removed, in nanoseconds. Relaxed, as `max_keys`.
    idle_after: AtomicU64,
    /// Counts the uses of the overflow mechanism.
    overflowed: Counter,
    /// The bound on open circuits, their counts and their listeners. Without effect unless the mechanisms are breakers.
    most_open: Arc<MostOpen>,
    order: Mutex<Order>,
    config: Mutex<Versioned<T::Config>>,
    /// The keys that have their own readings. The lock is taken alone.
    labels: Mutex<Arc<Labels>>,
    /// Counts the calls that forgotten mechanisms let pass in shadow. Relaxed: it guards no other memory.
    forgotten: AtomicU64,
    /// The highest shadow count that a reading has given. No later reading gives less. The sum alone could fall for a
    /// moment: a mechanism that is being forgotten is no longer present, and not yet added to `forgotten`. Relaxed, as
    /// `forgotten`.
    most_read: AtomicU64,
    /// Adds the instrument to an explanation. Stored as a function, because only [`new`](Self::new) has the bounds on
    /// `K` that the instrument needs.
    hand_out: fn(&Arc<Self>, &mut Explanation),
}

/// The last configuration that was applied to all keys, or `None` before the first one, and the number of changes.
struct Versioned<C> {
    version: u64,
    config: Option<C>,
}

impl<T: Mechanism, K> Keys<T, K> {
    /// `overflow` is a mechanism with the common configuration of all keys. It is `None` if `make` gives each key a
    /// configuration of its own.
    pub(super) fn new(make: Make<T, K>, overflow: Option<T>) -> Self
    where
        K: Send + Sync + 'static,
    {
        let keys = Self {
            table: Table::new(),
            hasher: RandomState::new(),
            origin: Origin::at(Instant::now()),
            make,
            has_one_config: overflow.is_some(),
            overflow: OnceLock::new(),
            max_keys: AtomicUsize::new(MAX_KEYS),
            idle_after: AtomicU64::new(Nanos::of(IDLE_AFTER).0),
            overflowed: Counter::default(),
            most_open: Arc::new(MostOpen::new()),
            order: Mutex::new(Order::new()),
            config: Mutex::new(Versioned { version: 0, config: None }),
            labels: Mutex::new(Arc::default()),
            forgotten: AtomicU64::new(0),
            most_read: AtomicU64::new(0),
            hand_out: |keys, explanation| explanation.instrument(PerKeyInstrument(keys.clone())),
        };
        overflow.into_iter().for_each(|handle| keys.set_overflow(handle));
        keys
    }

    pub(super) fn has_one_config(&self) -> bool {
        self.has_one_config
    }

    /// Sets the mechanism that keys without a place share.
    fn set_overflow(&self, handle: T) {
        handle.be_bound(&self.most_open);
        let _ = self.overflow.set(Arc::new(Entry::new(handle, None, Nanos::ZERO)));
    }

    pub(super) fn overflow(&self) -> Option<&Arc<Entry<T, K>>> {
        self.overflow.get()
    }

    pub(super) fn set_max_keys(&self, max_keys: usize) {
        self.max_keys.store(max_keys, Ordering::Relaxed);
    }

    pub(super) fn max_keys(&self) -> usize {
        self.max_keys.load(Ordering::Relaxed)
    }

    pub(super) fn set_idle_after(&self, idle_after: Duration) {
        self.idle_after.store(Nanos::of(idle_after).0, Ordering::Relaxed);
    }

    fn idle_after(&self) -> Nanos {
        Nanos(self.idle_after.load(Ordering::Relaxed))
    }

    pub(super) fn most_open(&self) -> &MostOpen {
        &self.most_open
    }

    pub(super) fn len(&self) -> usize {
        lock(&self.order).len()
    }

    /// Adds the instrument of all keys to the explanation.
    pub(super) fn instruments(self: &Arc<Self>, explanation: &mut Explanation) {
        (self.hand_out)(self, explanation);
    }

    pub(super) fn set_labels(&self, labels: Labels) {
        *lock(&self.labels) = Arc::new(labels);
    }

    pub(super) fn labels(&self) -> Arc<Labels> {
        lock(&self.labels).clone()
    }

    /// Calls `look` with the hash and the handle of each key. Also calls it with `None` and the overflow handle, if a
    /// key has used the overflow mechanism.
    pub(super) fn look_at_all(&self, mut look: impl FnMut(Option<u64>, &T)) {
        self.table.look_at_all(|hash, handle| look(Some(hash), handle));
        if let Some(entry) = self.overflow().filter(|_| self.overflowed() > 0) {
            look(None, &entry.handle);
        }
    }

    /// Returns the number of calls that forgotten mechanisms let pass in shadow. A reading calls this before it visits
    /// the present mechanisms, so that a mechanism that is forgotten in between counts at most once.
    pub(super) fn forgotten_in_shadow(&self) -> u64 {
        self.forgotten.load(Ordering::Relaxed)
    }

    /// Returns the number of calls that mechanisms let pass in shadow, from the `sum` over forgotten and present ones.
    /// The result never falls.
    pub(super) fn all_in_shadow(&self, sum: u64) -> u64 {
        self.most_read.fetch_max(sum, Ordering::Relaxed).max(sum)
    }

    pub(super) fn overflowed(&self) -> u64 {
        self.overflowed.get()
    }

    #[inline]
    pub(super) fn hash<Q: Hash + ?Sized>(&self, key: &Q) -> u64 {
        self.hasher.hash_one(key)
    }

    #[inline]
    pub(super) fn time(&self, now: Instant) -> Nanos {
        self.origin.to(now)
    }

    #[inline]
    pub(super) fn find(&self, hash: u64) -> Option<Arc<Entry<T, K>>> {
        self.table.find(hash)
    }

    /// Returns the handle of a known key. With an instant, counts the key as used then.
    #[inline]
    pub(super) fn handle(&self, hash: u64, now: Option<Instant>) -> Option<T> {
        self.table.handle(hash, now.map(|now| self.time(now)))
    }

    pub(super) fn all(&self) -> Vec<Arc<Entry<T, K>>> {
        self.table.all()
    }

    /// Returns the overflow entry if a new key would get it at `due`, as far as that is known without a search.
    pub(super) fn forecast_for_newcomer(&self, due: Instant) -> Option<&Arc<Entry<T, K>>> {
        let order = lock(&self.order);
        let shares = order.len() >= self.max_keys() && (self.max_keys() == 0 || order.pauses(self.time(due)));
        shares.then(|| self.overflow()).flatten()
    }

    /// Returns an entry for a key that had none: its own, or the overflow entry.
    #[cold]
    pub(super) fn find_place(&self, hash: u64, key: K, now: Instant) -> Arc<Entry<T, K>> {
        let moment = Moment { now, nanos: self.time(now) };
        if !self.has_place(moment) {
            return self.share(&key);
        }
        // If the mechanism cannot be made, the key gets no entry. Its next call therefore tries again.
        let Ok(handle) = (self.make)(&key) else { return self.share(&key) };
        let version = self.follow(&handle, None);
        handle.be_bound(&self.most_open);
        let entry = Arc::new(Entry::new(handle, Some(key), moment.nanos));
        match self.place(hash, &entry, moment) {
            Placed::Here => {
                self.follow(&entry.handle, Some(version));
                entry
            }
            Placed::Before(earlier) => earlier,
            Placed::Nowhere => entry.key.as_ref().map(|key| self.share(key)).unwrap_or(entry),
        }
    }

    /// Returns whether the table has a place, or an entry that can be removed. During a pause of the searches, only
    /// looks for a place.
    fn has_place(&self, moment: Moment) -> bool {
        let (max_keys, idle_after) = (self.max_keys(), self.idle_after());
        let mut order = lock(&self.order);
        order.len() < max_keys || max_keys > 0 && order.find(&self.table, moment, idle_after)
    }

    /// Gives this entry a place, if there is one or another entry can be removed for it. Removed entries are dropped
    /// after the lock is released.
    fn place(&self, hash: u64, entry: &Arc<Entry<T, K>>, moment: Moment) -> Placed<T, K> {
        let (max_keys, idle_after) = (self.max_keys(), self.idle_after());
        let mut order = lock(&self.order);
        if let Some(earlier) = self.table.find(hash) {
            return Placed::Before(earlier);
        }
        // Removes a breaker from the count, if the bound on open circuits allows one breaker less.
        let remove_breaker = || self.most_open.remove_breaker();
        let mut gone = order.remove_old(&self.table, moment, idle_after, remove_breaker);
        // `max_keys` was lowered.
        while order.len() > max_keys && remove_breaker() {
            match order.remove(&self.table, moment, idle_after) {
                Some(entry) => gone.push(entry),
                None => {
                    self.most_open.add_breaker();
                    break;
                }
            }
        }
        let placed = if order.len() < max_keys {
            self.most_open.add_breaker();
            Placed::Here
        } else if max_keys == 0 {
            Placed::Nowhere
        } else {
            // The new entry replaces one, so the number of breakers stays.
            match order.remove(&self.table, moment, idle_after) {
                Some(entry) => {
                    gone.push(entry);
                    Placed::Here
                }
                None => Placed::Nowhere,
            }
        };
        if matches!(placed, Placed::Here) {
            self.table.insert(hash, entry.clone());
            order.add(hash, moment.nanos);
        }
        drop(order);
        let in_shadow: u64 = gone.iter().map(|entry| entry.handle.in_shadow()).sum();
        self.forgotten.fetch_add(in_shadow, Ordering::Relaxed);
        drop(gone);
        placed
    }

    /// Returns the overflow entry, and counts its use. Makes the entry if this is its first use and there is none.
    fn share(&self, key: &K) -> Arc<Entry<T, K>> {
        self.overflowed.add_one();
        if let Some(entry) = self.overflow() {
            return entry.clone();
        }
        let handle = (self.make)(key).unwrap_or_else(|overflow| overflow);
        let version = self.follow(&handle, None);
        self.set_overflow(handle.clone());
        // Two threads may each make one. The first is kept.
        let entry = self.overflow.get_or_init(|| Arc::new(Entry::new(handle, None, Nanos::ZERO)));
        self.follow(&entry.handle, Some(version));
        entry.clone()
    }

    /// Applies the common configuration to a new mechanism, unless it has the version `known` already. Returns the
    /// version.
    fn follow(&self, handle: &T, mut known: Option<u64>) -> u64 {
        loop {
            let (version, config) = {
                let versioned = lock(&self.config);
                (versioned.version, versioned.config.clone())
            };
            if known == Some(version) {
                return version;
            }
            if let Some(config) = config {
                handle.follow(&config);
            }
            known = Some(version);
        }
    }

    /// Applies a configuration to all mechanisms, including the overflow mechanism and those that are made later.
    pub(super) fn follow_all(&self, config: &T::Config) {
        {
            let mut versioned = lock(&self.config);
            // Store the configuration first. An entry that is inserted too late for the loop below then reads the
            // stored configuration after its insertion.
            versioned.version = versioned.version.wrapping_add(1);
            versioned.config = Some(config.clone());
        }
        self.all().iter().chain(self.overflow()).for_each(|entry| entry.handle.follow(config));
    }

    /// Returns the last configuration that [`follow_all`](Self::follow_all) applied to all keys. `None` before the
    /// first one.
    pub(super) fn config(&self) -> Option<T::Config> {
        lock(&self.config).config.clone()
    }
}

/// The result of placing an entry.
enum Placed<T, K> {
    Here,
    /// Another thread has added the key before.
    Before(Arc<Entry<T, K>>),
    Nowhere,
}
