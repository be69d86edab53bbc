use super::{
    keys::Keys,
    mechanism::{Mechanism, Recipe},
};
use crate::{circuit_breaker::Breaker, clock::Nanos, error::ConfigError};
use std::{borrow::Borrow, fmt, hash::Hash, sync::Arc, time::Duration};
use tokio::time::Instant;

/// One mechanism for each key. See the [module](super).
///
/// `T` is the mechanism, `K` the key, `F` the function that makes the key of a request. Clones share everything.
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
#[must_use]
pub struct PerKey<T: Mechanism, K, F> {
    pub(super) keys: Arc<Keys<T, K>>,
    pub(super) key_of: F,
}

impl<T: Mechanism, K, F> PerKey<T, K, F> {
    /// A mechanism for each key that `key_of` makes of a request, each like the others.
    ///
    /// `recipe` is what the mechanism is otherwise built from: a
    /// [`BreakerBuilder`](crate::circuit_breaker::BreakerBuilder), a
    /// [`LoadShedConfig`](crate::load_shed::LoadShedConfig), a
    /// [`TokenBucketBuilder`](crate::rate_limit::TokenBucketBuilder), a
    /// [`SlidingWindowBuilder`](crate::rate_limit::SlidingWindowBuilder) or a
    /// [`RetryBudgetBuilder`](crate::retry::RetryBudgetBuilder). Where keys differ in it, see [`with`](Self::with).
    ///
    /// `key_of` is a closure or function `Fn(&Request) -> Key`. It runs once per attempt, before the call is admitted,
    /// and so does `Hash` of the key. Keys are told apart by 64 bits of a secretly seeded hash. Of 1024 keys, any two
    /// share a mechanism with a probability of 3 in 10^14.
    ///
    /// # Errors
    ///
    /// As the recipe's `build`. It is checked here, once: later no key can fail.
    pub fn new<Request, R>(key_of: F, recipe: R) -> Result<Self, ConfigError>
    where
        K: Send + Sync + 'static,
        F: Fn(&Request) -> K,
        R: Recipe<Mechanism = T>,
    {
        let overflow = recipe.make()?;
        let spare = overflow.clone();
        let keys = Keys::new(Box::new(move |_: &K| recipe.make().unwrap_or_else(|_| spare.clone())));
        keys.set_overflow(overflow);
        Ok(Self { keys: Arc::new(keys), key_of })
    }

    /// A mechanism for each key, made by `make`: where keys differ in their limits, or each has a listener.
    ///
    /// It runs when a key is new or was forgotten, under no lock, and has to make another mechanism each time: one
    /// with a handle elsewhere is never forgotten. Two threads that bring one key at the same time may each make one,
    /// of which one is dropped. The first key that finds no place makes the one that newcomers share.
    ///
    /// ```
    /// use steadfast::{load_shed::Limiter, per_key::PerKey};
    ///
    /// # fn main() -> Result<(), steadfast::ConfigError> {
    /// let [small, large] = [2, 100];
    /// // Here, once: a limit of zero would be an error.
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
        Self { keys: Arc::new(Keys::new(Box::new(make))), key_of }
    }

    /// The most keys that have a mechanism of their own, from now on and for all clones. Default: 1024.
    ///
    /// It bounds the memory: a [`Breaker`] takes about a KiB. Where it is lowered below the keys that there are,
    /// newcomers make those go that may. With zero all keys share one mechanism.
    pub fn max_keys(self, max_keys: usize) -> Self {
        self.keys.set_max_keys(max_keys);
        self
    }

    /// After how long without a call a key is forgotten, evidence and all, from now on and for all clones. Default: ten
    /// minutes, longer than a circuit stays open and than most limits look back. See [what is
    /// forgotten](super#what-is-forgotten).
    pub fn idle_after(self, idle_after: Duration) -> Self {
        self.keys.set_idle_after(idle_after);
        self
    }

    /// The handle of this key, if it has one. Nothing changes by asking.
    ///
    /// # Cost
    ///
    /// The hash of the key, one read lock, and one clone of an `Arc`.
    pub fn get<Q>(&self, key: &Q) -> Option<T>
    where
        K: Borrow<Q>,
        Q: Hash + ?Sized,
    {
        self.keys.handle(self.keys.hash(key), None)
    }

    /// The handle of this key, for use without tower, by tokio's clock. A key that has none gets one; or that which
    /// newcomers share, if there is no place.
    ///
    /// A key whose handle is held is in use and keeps its place. The handle stays valid when the key is forgotten, but
    /// then it is no longer the key's.
    ///
    /// # Cost
    ///
    /// That of [`get`](Self::get), and one reading of the clock.
    pub fn handle(&self, key: K) -> T
    where
        K: Hash,
    {
        self.handle_at(key, Instant::now())
    }

    /// The handle of this key, which is in use at `now`. See [`handle`](Self::handle).
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

    /// Calls `each` with all keys and their handles, in no order. Keys that come meanwhile may be left out.
    ///
    /// It runs under no lock. Until it returns, all these keys are in use.
    pub fn for_each(&self, mut each: impl FnMut(&K, &T)) {
        for entry in self.keys.all() {
            if let Some(key) = &entry.key {
                each(key, &entry.handle);
            }
        }
    }

    /// The number of keys that have a mechanism of their own.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether no key has a mechanism of its own.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How often a key was served by the mechanism that newcomers share, since no place was free. It wraps around. If
    /// it grows, [`max_keys`](Self::max_keys) is too small.
    pub fn overflowed(&self) -> u64 {
        self.keys.overflowed()
    }

    /// The mechanism that newcomers share. `None` before the first of them, where the keys are made by a function.
    pub fn overflow(&self) -> Option<T> {
        self.keys.overflow().map(|entry| entry.handle.clone())
    }

    /// Notes a use.
    pub(super) fn time(&self, now: Instant) -> Nanos {
        self.keys.time(now)
    }
}

impl<K, F> PerKey<Breaker, K, F> {
    /// The largest share of the keys whose circuits may be open at once, from now on and for all clones. Default: no
    /// bound.
    ///
    /// Where most hosts seem to be dead, more often than not the fault is elsewhere: the network, or the client itself.
    /// Then calls to all of them tell more than none.
    ///
    /// - The share is of the keys in the table, rounded down, and at least one. Open and half-open circuits count, also
    ///   that of the breaker which newcomers share. Circuits that were opened by hand do not.
    /// - It is never exceeded, however many threads ask: a circuit takes its place in the same step in which it opens,
    ///   and keys are not forgotten where that would leave too many open. Lowering the share closes none.
    /// - A circuit that finds no place stays closed, lets all calls through and goes on counting. It opens at the first
    ///   failure for which there is a place, if its calls still say so.
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
    pub fn most_open(self, share: f64) -> Result<Self, ConfigError> {
        if !(share > 0.0 && share <= 1.0) {
            return Err(ConfigError::new("per_key.most_open", share, "must be a number above 0 and at most 1"));
        }
        self.keys.most_open().set_share(share);
        Ok(self)
    }

    /// The circuits that are open or half-open now. Those that were opened by hand do not count.
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
