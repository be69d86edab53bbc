use super::{
    keys::Keys,
    mechanism::{Mechanism, Recipe},
};
use crate::{circuit_breaker::Breaker, clock::Nanos, error::ConfigError};
use std::{borrow::Borrow, fmt, hash::Hash, sync::Arc, time::Duration};
use tokio::time::Instant;

/// One mechanism for each key. See the [module](super).
///
/// `T` is the mechanism, `K` the key, and `F` the function that returns the key of a request. Clones share everything.
///
/// ```
/// use std::time::Duration;
/// use steadfast::{circuit_breaker::{Breaker, BreakerState}, per_key::PerKey};
///
/// struct Request {
///     host: &'static str,
/// }
///
/// # fn main() -> Result<(), steadfast::ConfigError> {
/// let breakers = PerKey::new(|request: &Request| request.host, Breaker::builder().consecutive_failures(2))?
///     .max_keys(100)
///     .idle_after(Duration::from_secs(3600));
///
/// let breaker = breakers.handle("a.example");
/// breaker.try_acquire().unwrap().failure();
/// breaker.try_acquire().unwrap().failure();
///
/// assert_eq!(breakers.get("a.example").unwrap().state(), BreakerState::Open);
/// assert_eq!(breakers.handle("b.example").state(), BreakerState::Closed);
/// breakers.for_each(|host, breaker| println!("{host}: {:?}", breaker.state()));
/// # Ok(())
/// # }
/// ```
#[doc(alias("keyed", "bulkhead per tenant", "circuit breaker per host", "outlier detection"))]
#[must_use]
pub struct PerKey<T: Mechanism, K, F> {
    pub(super) keys: Arc<Keys<T, K>>,
    pub(super) key_of: F,
}

impl<T: Mechanism, K, F> PerKey<T, K, F> {
    /// Makes a mechanism for each key, all with one configuration.
    ///
    /// `recipe` is the builder or the configuration of the mechanism: a
    /// [`BreakerBuilder`](crate::circuit_breaker::BreakerBuilder), a
    /// [`LoadShedConfig`](crate::load_shed::LoadShedConfig), a
    /// [`TokenBucketBuilder`](crate::rate_limit::TokenBucketBuilder), a
    /// [`SlidingWindowBuilder`](crate::rate_limit::SlidingWindowBuilder) or a
    /// [`RetryBudgetBuilder`](crate::retry::RetryBudgetBuilder). It may also be a function
    /// `Fn() -> Result<T, ConfigError>` that makes a new mechanism each time, such as `|| Limiter::adaptive().build()`.
    /// If keys need different configurations, use [`with`](Self::with).
    ///
    /// `key_of` is a closure or function `Fn(&Request) -> Key`. It runs once per attempt, before the attempt is
    /// admitted, and once more if a retry asks in advance whether the attempt would be refused. Each time, `Hash` of
    /// the key runs too. Keys are compared by 64 bits of a hash with a secret seed. Among 1024 keys, the probability
    /// that any two share a mechanism is 3 in 10^14.
    ///
    /// # Errors
    ///
    /// The errors of the recipe, which makes the overflow mechanism here. A configuration cannot fail later. If a
    /// function fails later, the call uses the [`overflow`](Self::overflow) mechanism, and the key's next call runs the
    /// function again.
    pub fn new<Request, R>(key_of: F, recipe: R) -> Result<Self, ConfigError>
    where
        K: Send + Sync + 'static,
        F: Fn(&Request) -> K,
        R: Recipe<Mechanism = T>,
    {
        let overflow = recipe.make()?;
        let spare = overflow.clone();
        let keys = Keys::new(Box::new(move |_: &K| recipe.make().map_err(|_| spare.clone())), Some(overflow));
        Ok(Self { keys: Arc::new(keys), key_of })
    }

    /// Makes a mechanism for each key with the function `make`. Use it if keys have different limits, or if each needs
    /// its own listener.
    ///
    /// `make` runs without a lock, when a key is new or was forgotten. It must return a new mechanism each time: while
    /// another clone of a mechanism exists, its key is in use and cannot be forgotten. If two threads bring a key at
    /// the same time, each may make a mechanism, and one of the two is dropped. For the first key that finds no place,
    /// `make` makes the [overflow](Self::overflow) mechanism.
    ///
    /// ```
    /// use steadfast::{load_shed::Limiter, per_key::PerKey};
    ///
    /// # fn main() -> Result<(), steadfast::ConfigError> {
    /// let [small, large] = [2, 100];
    /// // Check the limits once, here: a limit of zero would be an error.
    /// for limit in [small, large] {
    ///     Limiter::fixed(limit)?;
    /// }
    /// let limiters = PerKey::with(
    ///     |request: &(String, u64)| request.0.clone(),
    ///     move |tenant: &String| {
    ///         let limit = if tenant == "acme" { large } else { small };
    ///         Limiter::fixed(limit).expect("it was checked")
    ///     },
    /// );
    /// assert_eq!(limiters.handle("acme".to_owned()).limit(), 100);
    /// assert_eq!(limiters.handle("other".to_owned()).limit(), 2);
    /// # Ok(())
    /// # }
    /// ```
    pub fn with<Request>(key_of: F, make: impl Fn(&K) -> T + Send + Sync + 'static) -> Self
    where
        K: Send + Sync + 'static,
        F: Fn(&Request) -> K,
    {
        Self { keys: Arc::new(Keys::new(Box::new(move |key: &K| Ok(make(key))), None)), key_of }
    }

    /// Sets the most keys that have their own mechanism, from now on and for all clones. Default: 1024.
    ///
    /// This number bounds the memory: a [`Breaker`] takes about 1 KiB. If you lower the bound below the number of keys,
    /// no key is removed at once. Each new key then first removes keys that can be forgotten, until the bound holds, no
    /// such key is left, or `most_open` forbids a removal. With zero, all keys share one mechanism.
    pub fn max_keys(self, max_keys: usize) -> Self {
        self.keys.set_max_keys(max_keys);
        self
    }

    /// Sets the time without a call after which a key with evidence can be forgotten, from now on and for all clones.
    /// Default: 10 minutes. That is longer than a circuit stays open by default, and longer than most windows. See
    /// [what is forgotten](super#what-is-forgotten).
    pub fn idle_after(self, idle_after: Duration) -> Self {
        self.keys.set_idle_after(idle_after);
        self
    }

    /// Returns the handle of this key, if the key has a mechanism. Changes nothing.
    ///
    /// # Cost
    ///
    /// Hashes the key, takes one read lock, and clones the handle, which is an `Arc`.
    pub fn get<Q>(&self, key: &Q) -> Option<T>
    where
        K: Borrow<Q>,
        Q: Hash + ?Sized,
    {
        self.keys.handle(self.keys.hash(key), None)
    }

    /// Returns the handle of this key, for use without tower. Counts the key as used now, by tokio's clock. Makes a
    /// mechanism if the key is new. Returns the [overflow](Self::overflow) mechanism if there is no place, or if the
    /// mechanism of the key cannot be made.
    ///
    /// While your code holds the handle, the key is in use and keeps its place.
    ///
    /// # Cost
    ///
    /// For a key that has a mechanism, that of [`get`](Self::get) and one reading of the clock. A new key also makes
    /// its mechanism, and takes a lock to place it.
    pub fn handle(&self, key: K) -> T
    where
        K: Hash,
    {
        self.handle_at(key, Instant::now())
    }

    /// Returns the handle of this key as [`handle`](Self::handle) does, and counts the key as used at `now`.
    #[inline]
    pub fn handle_at(&self, key: K, now: Instant) -> T
    where
        K: Hash,
    {
        let hash = self.keys.hash(&key);
        match self.keys.handle(hash, Some(now)) {
            Some(handle) => handle,
            None => self.keys.find_place(hash, key, now).handle.clone(),
        }
    }

    /// Calls `each` with all keys and their handles, in no order. Keys that are added during the call may be left out.
    ///
    /// `each` runs without a lock. Each of these keys is in use until `each` has returned for it.
    pub fn for_each(&self, mut each: impl FnMut(&K, &T)) {
        for entry in self.keys.all() {
            if let Some(key) = &entry.key {
                each(key, &entry.handle);
            }
        }
    }

    /// Returns the number of keys that have their own mechanism.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Returns whether no key has its own mechanism.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns how often a key used the [overflow](Self::overflow) mechanism, because no place was free, or because a
    /// function that [`new`](Self::new) received has failed. The count wraps. If it grows although no function fails,
    /// [`max_keys`](Self::max_keys) is too small.
    pub fn overflowed(&self) -> u64 {
        self.keys.overflowed()
    }

    /// Returns the overflow mechanism, which new keys share if there is no place for them, or if their own mechanism
    /// cannot be made. `None` for a `PerKey` made by [`with`](Self::with) that has not needed it yet.
    pub fn overflow(&self) -> Option<T> {
        self.keys.overflow().map(|entry| entry.handle.clone())
    }

    /// Returns the time of an instant since the origin of the table.
    pub(super) fn time(&self, now: Instant) -> Nanos {
        self.keys.time(now)
    }
}

impl<K, F> PerKey<Breaker, K, F> {
    /// Sets the largest fraction of the keys whose circuits may be open at once, from now on and for all clones.
    /// Default: no bound.
    ///
    /// If most hosts seem to be down, the fault is usually elsewhere: in the network, or in the client itself. The
    /// circuits that stay closed let calls through, and these calls show when the fault ends.
    ///
    /// - The bound is this fraction of the keys in the table, rounded down, and at least one circuit. Open and
    ///   half-open circuits count, including that of the overflow breaker. Circuits that were opened by hand do not
    ///   count.
    /// - Neither an opening circuit nor a forgotten key breaks the bound, even under contention. A circuit takes its
    ///   place before it opens. No key is forgotten if too many of the remaining circuits would be open. Lowering the
    ///   bound closes no circuit.
    /// - A circuit that finds no place stays closed, lets all calls through and keeps counting. Once a place is free, a
    ///   later result opens the circuit, if its calls still justify that.
    ///
    /// ```
    /// use steadfast::{circuit_breaker::{Breaker, BreakerState}, per_key::PerKey};
    ///
    /// # fn main() -> Result<(), steadfast::ConfigError> {
    /// let breakers =
    ///     PerKey::new(|host: &u32| *host, Breaker::builder().consecutive_failures(1))?.most_open(0.5)?;
    /// let hosts: Vec<_> = (0..4).map(|host| breakers.handle(host)).collect();
    /// hosts.iter().for_each(|breaker| breaker.try_acquire().unwrap().failure());
    /// assert_eq!(hosts.iter().filter(|breaker| breaker.state() == BreakerState::Open).count(), 2);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// The share must be a number above 0 and at most 1.
    #[doc(alias = "max ejection percent")]
    pub fn most_open(self, share: f64) -> Result<Self, ConfigError> {
        if !(share > 0.0 && share <= 1.0) {
            return Err(ConfigError::new("per_key.most_open", share, "must be a number above 0 and at most 1"));
        }
        self.keys.most_open().set_share(share);
        Ok(self)
    }

    /// Returns the number of circuits that are open or half-open. Circuits that were opened by hand do not count.
    pub fn open(&self) -> usize {
        self.keys.most_open().open()
    }
}

impl<T: Mechanism, K, F: Clone> Clone for PerKey<T, K, F> {
    fn clone(&self) -> Self {
        Self { keys: self.keys.clone(), key_of: self.key_of.clone() }
    }
}

impl<T: Mechanism, K, F> fmt::Debug for PerKey<T, K, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PerKey")
            .field("mechanism", &T::LAYER)
            .field("keys", &self.len())
            .field("max_keys", &self.keys.max_keys())
            .field("overflowed", &self.overflowed())
            .finish_non_exhaustive()
    }
}
