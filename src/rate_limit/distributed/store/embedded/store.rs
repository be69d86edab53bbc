use super::{bucket::Bucket, window::Window};
use crate::{
    clock::{Nanos, Origin},
    rate_limit::distributed::store::{
        charge::{Charge, Charged},
        contract::{Answering, Store},
        demand::{Demand, Settled},
    },
    sync::{Mutex, lock},
};
use std::{collections::HashMap, fmt, future::ready, sync::Arc};
use tokio::time::Instant;

/// The number of keys up to which the store does not search for keys to forget.
const LEAST_KEYS: usize = 1024;

/// A store in this process's own memory: for one process, for tests, and as the reference for all other stores.
///
/// It always answers, at once. Clones are the same store. Beyond 1024 buckets or 1024 windows, the store from time to
/// time forgets those that no longer differ from new ones.
#[derive(Clone)]
pub struct Embedded {
    shared: Arc<EmbeddedShared>,
}

struct EmbeddedShared {
    origin: Origin,
    buckets: Mutex<ByKey<Bucket>>,
    windows: Mutex<ByKey<Window>>,
}

struct ByKey<KeyState> {
    by_key: HashMap<Arc<[u8]>, KeyState>,
    /// The store searches for keys to forget when it has more keys than this. After a search it is twice the number of
    /// keys that are left, at least `LEAST_KEYS`. So the cost of the search per new key is bounded.
    look_at: usize,
    /// The latest time of any request. A request with an earlier time counts as sent at this time.
    now: Nanos,
}

impl Embedded {
    /// Returns an empty store, which counts time from now on.
    pub fn new() -> Self {
        let (buckets, windows) = Default::default();
        Self { shared: Arc::new(EmbeddedShared { origin: Origin::at(Instant::now()), buckets, windows }) }
    }

    /// Answers a batch of charges at `now`: counts the spends of each bucket, and grants tokens.
    pub fn charge_at(&self, charges: &[Charge], now: Instant) -> Vec<Charged> {
        let mut buckets = lock(&self.shared.buckets);
        let now = buckets.advance_to(self.shared.origin.to(now));
        let charge = |charge: &Charge| {
            buckets.make_room(|bucket| bucket.is_fresh(now));
            let bucket = buckets.by_key.entry(charge.key.clone()).or_insert_with(|| Bucket::new(&charge.quota, now));
            bucket.charge(charge, now)
        };
        charges.iter().map(charge).collect()
    }

    /// Answers a batch of demands at `now`: counts the spends of each window, and grants tokens.
    pub fn settle_at(&self, demands: &[Demand], now: Instant) -> Vec<Settled> {
        let mut windows = lock(&self.shared.windows);
        let now = windows.advance_to(self.shared.origin.to(now));
        let settle = |demand: &Demand| {
            windows.make_room(|window| window.is_fresh(now));
            windows.by_key.entry(demand.key.clone()).or_default().settle(demand, now)
        };
        demands.iter().map(settle).collect()
    }

    /// Forgets everything, as a store does that restarts without its data.
    pub fn clear(&self) {
        *lock(&self.shared.buckets) = ByKey::default();
        *lock(&self.shared.windows) = ByKey::default();
    }

    /// Returns the number of keys in memory, buckets and windows.
    pub fn keys(&self) -> usize {
        lock(&self.shared.buckets).by_key.len() + lock(&self.shared.windows).by_key.len()
    }
}

impl<KeyState> ByKey<KeyState> {
    /// Advances the latest time to `now`, and returns it. A time that goes back changes nothing.
    fn advance_to(&mut self, now: Nanos) -> Nanos {
        self.now = self.now.max(now);
        self.now
    }

    /// If there are more keys than `look_at`, forgets those whose state is fresh, and sets the next `look_at`.
    fn make_room(&mut self, mut is_fresh: impl FnMut(&mut KeyState) -> bool) {
        if self.by_key.len() > self.look_at {
            self.by_key.retain(|_, state| !is_fresh(state));
            self.look_at = (2 * self.by_key.len()).max(LEAST_KEYS);
        }
    }
}

impl<KeyState> Default for ByKey<KeyState> {
    fn default() -> Self {
        Self { by_key: HashMap::new(), look_at: LEAST_KEYS, now: Nanos::ZERO }
    }
}

impl Store for Embedded {
    fn charge<'a>(&'a self, charges: &'a [Charge]) -> Answering<'a, Charged> {
        Box::pin(ready(Ok(self.charge_at(charges, Instant::now()))))
    }

    fn settle<'a>(&'a self, demands: &'a [Demand]) -> Answering<'a, Settled> {
        Box::pin(ready(Ok(self.settle_at(demands, Instant::now()))))
    }
}

impl Default for Embedded {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Embedded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Embedded").field("keys", &self.keys()).finish_non_exhaustive()
    }
}
