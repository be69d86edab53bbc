use super::{
    account::Account,
    store::{Demand, Settled, Settling, Store, StoreError},
};
use crate::{
    clock::{self, Origin},
    sync::{Mutex, lock},
};
use std::{collections::HashMap, fmt, future::ready, sync::Arc};
use tokio::time::Instant;

/// A store in this process's own memory: for one process, for tests, and as the measure of all others.
///
/// It needs nothing and always answers, at once. Clones are one store. Keys that have nothing to be remembered for are
/// forgotten.
#[derive(Clone)]
pub struct Embedded {
    shared: Arc<Shared>,
}

struct Shared {
    origin: Origin,
    accounts: Mutex<Accounts>,
}

#[derive(Default)]
struct Accounts {
    by_key: HashMap<Arc<[u8]>, Account>,
    /// How many keys are remembered when those that need not be are looked for. Twice as many as were left the last time,
    /// so that each key is looked at a bounded number of times.
    look_at: usize,
}

impl Embedded {
    /// An empty store, which counts time from now on.
    pub fn new() -> Self {
        Self { shared: Arc::new(Shared { origin: Origin::at(Instant::now()), accounts: Mutex::default() }) }
    }

    /// Settles a batch at `now`.
    pub fn settle_at(&self, demands: &[Demand], now: Instant) -> Vec<Settled> {
        let now = self.shared.origin.nanos_to(now);
        let mut accounts = lock(&self.shared.accounts);
        demands.iter().map(|demand| accounts.settle(demand, now)).collect()
    }

    /// Forgets everything, as a store does that is restarted without its data.
    pub fn clear(&self) {
        *lock(&self.shared.accounts) = Accounts::default();
    }

    /// How many keys it remembers.
    pub fn keys(&self) -> usize {
        lock(&self.shared.accounts).by_key.len()
    }
}

impl Accounts {
    fn settle(&mut self, demand: &Demand, now: u64) -> Settled {
        if self.by_key.len() > self.look_at {
            let window = clock::nanos(demand.window);
            self.by_key.retain(|_, account| !account.is_fresh(window, now));
            self.look_at = (2 * self.by_key.len()).max(LEAST_KEYS);
        }
        self.by_key.entry(demand.key.clone()).or_default().settle(demand, now)
    }
}

/// So many keys are not worth a look.
const LEAST_KEYS: usize = 1024;

impl Store for Embedded {
    fn settle<'a>(&'a self, demands: &'a [Demand]) -> Settling<'a> {
        Box::pin(ready(Ok::<_, StoreError>(self.settle_at(demands, Instant::now()))))
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
