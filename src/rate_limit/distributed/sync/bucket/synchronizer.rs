use super::{
    batch::release,
    entry::{BucketEntry, BucketEntryState, Enqueued, Verdict, Waiter},
    rounds::BucketRounds,
};
use crate::{
    clock::{Nanos, Origin},
    error::{ConfigError, RateLimited},
    random::Random,
    rate_limit::{
        Quota,
        distributed::{
            ledger::{bucket::Owner, share::ProcessShare},
            outage::{OnOutage, Outage},
            settings::Settings,
            store::{LONGEST_KEY, Store, namespace::Namespace},
            sync::{
                entries::Entries,
                flusher::Flusher,
                health::{Health, LONGEST_RETURN},
                readings::Readings,
                synchronizer::{Handle, Link, Synchronizer},
            },
        },
        tokens::Tokens,
    },
    sync::{AtomicU64, Mutex, MutexGuard, lock},
};
use rand::RngExt;
use std::{
    collections::VecDeque,
    future::Future,
    sync::{Arc, Weak},
    time::Duration,
};
use tokio::{sync::oneshot, time::Instant};

/// The largest `max_debt` of a limit.
const MOST_DEBT: u64 = 1 << 55;

/// The synchronizer of [`Exact`](crate::rate_limit::distributed::Exact) and
/// [`WriteBehind`](crate::rate_limit::distributed::WriteBehind): the ledger of each key, and its exchange with the
/// store.
pub(crate) struct BucketSync {
    pub(super) store: Arc<dyn Store>,
    quota: Mutex<Quota>,
    /// The time that the store has to answer.
    pub(crate) deadline: Duration,
    pub(crate) pace: Pace,
    pub(crate) owner: Owner,
    on_outage: OnOutage,
    pub(super) random: Random,
    /// The time from which the `Nanos` of this synchronizer and its ledgers count.
    pub(crate) origin: Origin,
    namespace: Namespace,
    pub(super) entries: Entries<BucketEntry>,
    /// The keys with something to report or to ask, each once.
    pub(super) queue: Mutex<VecDeque<Arc<BucketEntry>>>,
    /// The sequence of the last charge, over all keys. A key that was forgotten and comes back continues it.
    pub(super) sequence: AtomicU64,
    link: Link,
}

/// When the store is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pace {
    /// As soon as there is something to ask and fewer than two calls are in flight. While the store is down, once in
    /// each `probe`.
    AtOnce { probe: Duration },
    /// Once in each period of this length.
    Each(Duration),
}

impl Pace {
    pub(crate) fn period(self) -> Duration {
        match self {
            Self::AtOnce { probe: period } | Self::Each(period) => period,
        }
    }
}

/// The values from which a synchronizer is built. `build` checks most of them, and the builders of the limits the rest.
pub(crate) struct BucketParts {
    pub(crate) settings: Settings,
    pub(crate) quota: Quota,
    pub(crate) deadline: Duration,
    pub(crate) pace: Pace,
    pub(crate) max_debt: u64,
    pub(crate) processes: u64,
}

impl BucketParts {
    /// Checks the common settings, the quota and the debt. Makes a synchronizer and its first flusher.
    pub(crate) fn build(self) -> Result<(Arc<Handle<BucketSync>>, Flusher), ConfigError> {
        self.settings.check(Some(self.processes))?;
        self.quota.check()?;
        if self.max_debt > MOST_DEBT {
            return Err(ConfigError::new("rate_limit.max_debt", self.max_debt, "must be at most 2^55"));
        }
        Ok(Handle::new(BucketSync::new(self)))
    }
}

impl BucketSync {
    fn new(parts: BucketParts) -> Self {
        let BucketParts { settings, quota, deadline, pace, max_debt, processes } = parts;
        let Settings { store, namespace, on_outage, max_keys, random } = settings;
        let now = Instant::now();
        // The other processes notice within a period that the store is back, and have reported by the end of the next
        // one. With their jitter, two periods last up to 2.2 times the length of one.
        let report_for = pace.period().mul_f64(2.5).saturating_add(store.returns_within().min(LONGEST_RETURN));
        // From the operating system, not from `random`: no two processes have the same number, even if the user gave
        // them the same seed.
        let client = Random::new().with(|random| random.random());
        Self {
            store,
            quota: Mutex::new(quota),
            deadline,
            pace,
            owner: Owner { client, max_debt, processes },
            on_outage,
            random,
            origin: Origin::at(now),
            namespace,
            entries: Entries::new(max_keys),
            queue: Mutex::default(),
            sequence: AtomicU64::new(0),
            link: Link::new(Health::new(now, report_for)),
        }
    }

    pub(crate) fn health(&self) -> &Health {
        &self.link.health
    }

    pub(crate) fn quota(&self) -> Quota {
        *lock(&self.quota)
    }

    pub(crate) fn set_quota(&self, quota: Quota) -> Result<(), ConfigError> {
        quota.check()?;
        *lock(&self.quota) = quota;
        Ok(())
    }

    /// Returns the entry of a key, for a caller that wants `tokens` of this quota. Refuses a key that is too long, and
    /// a cost above the burst.
    pub(crate) fn entry(
        &self,
        key: &[u8],
        tokens: Tokens,
        quota: &Quota,
        now: Instant,
    ) -> Result<Arc<BucketEntry>, RateLimited> {
        if key.len() > LONGEST_KEY {
            return Err(RateLimited::long_key(key.len(), LONGEST_KEY));
        }
        if tokens.0 > quota.burst() {
            return Err(RateLimited::new(None));
        }
        let now = self.origin.to(now);
        let own = self.entries.get(
            key,
            |entry| lock(&entry.state).is_idle(&self.on_outage, quota, now),
            |key| BucketEntry::new(self.namespace.name(&key), key, quota, now),
        );
        Ok(own.unwrap_or_else(|| {
            self.entries.shared(|key| BucketEntry::new(self.namespace.shared_name(), key, quota, now))
        }))
    }

    /// Returns whether too few tokens will be available at `due`, by the last answer of the store. Changes no state. In
    /// an outage, when this process decides, it returns `true` only if the key is too long or the cost is above the
    /// burst.
    pub(crate) fn would_refuse(&self, key: &[u8], tokens: Tokens, due: Instant) -> bool {
        let quota = self.quota();
        if tokens == Tokens::ZERO {
            return false;
        }
        if key.len() > LONGEST_KEY || tokens.0 > quota.burst() {
            return true;
        }
        if !self.health().decides() {
            return false;
        }
        self.entries.find(key).is_some_and(|entry| {
            let ledger = &lock(&entry.state).ledger;
            ledger.room_at(&quota, self.origin.to(due)) < ledger.unflushed().saturating_add(tokens)
        })
    }

    /// Decides by what this process knows, as the policy for outages says. Returns the present outage if it admits the
    /// call, or `None` if the store is up and only one answer is missing.
    pub(crate) fn decide_alone(
        &self,
        entry: &Arc<BucketEntry>,
        state: &mut BucketEntryState,
        quota: &Quota,
        tokens: Tokens,
        now: Instant,
    ) -> Result<Option<Outage>, RateLimited> {
        let outage = (!self.health().decides()).then(|| self.health().outage());
        let processes = self.owner.processes;
        match state.ledger.take_alone(&self.on_outage, quota, tokens, self.origin.to(now), outage, processes) {
            Ok(()) => {
                self.queue(entry, state);
                Ok(outage)
            }
            Err(wait) => {
                let wait = wait.map_or(self.pace.period(), Nanos::duration);
                Err(RateLimited::new(Some(wait)))
            }
        }
    }

    /// Queues the key, so that the flusher asks the store for tokens. The receiver gets the verdict.
    pub(crate) fn ask(
        &self,
        entry: &Arc<BucketEntry>,
        mut state: MutexGuard<'_, BucketEntryState>,
        tokens: Tokens,
    ) -> oneshot::Receiver<Verdict> {
        let (verdict, receiver) = oneshot::channel();
        let (enqueued, gone) = state.wait(Waiter { tokens, verdict });
        self.put_into_queue(entry, enqueued);
        drop(state);
        drop(gone);
        receiver
    }

    /// Queues a key that has something to report.
    pub(crate) fn queue(&self, entry: &Arc<BucketEntry>, state: &mut BucketEntryState) {
        self.put_into_queue(entry, state.enqueue());
    }

    fn put_into_queue(&self, entry: &Arc<BucketEntry>, enqueued: Enqueued) {
        if enqueued == Enqueued::Now {
            lock(&self.queue).push_back(entry.clone());
            if matches!(self.pace, Pace::AtOnce { .. }) {
                self.link.hurry.notify_one();
            }
        }
    }

    /// Returns this process's part of the tokens of a key that were admitted recently.
    pub(crate) fn share(&self, key: &[u8], now: Instant) -> ProcessShare {
        let (quota, processes) = (self.quota(), self.owner.processes);
        match self.entries.find(key) {
            Some(entry) => lock(&entry.state).ledger.share(&quota, processes, self.origin.to(now)),
            None => ProcessShare::of(1, processes),
        }
    }

    pub(crate) fn read(&self, now: Instant) -> Readings {
        let store = self.health().read(&*self.store, now);
        let mut readings = Readings { store, keys: 0, unflushed: 0, overshoot: 0 };
        self.entries.look_at_all(|entry| {
            let state = lock(&entry.state);
            readings.keys += 1;
            readings.unflushed = readings.unflushed.saturating_add(state.ledger.unflushed().0);
            readings.overshoot = readings.overshoot.max(state.ledger.overshoot().0);
        });
        readings
    }

    /// Forgets the idle keys: their bucket is empty, and they have nothing to ask or to report.
    pub(super) fn forget_the_idle(&self, now: Instant) {
        let quota = self.quota();
        let now = self.origin.to(now);
        for entry in self.entries.all() {
            self.entries.forget_if(&entry.key, |entry| lock(&entry.state).is_idle(&self.on_outage, &quota, now));
        }
    }
}

impl Synchronizer for BucketSync {
    fn link(&self) -> &Link {
        &self.link
    }

    fn readings(&self, now: Instant) -> Readings {
        self.read(now)
    }

    /// Queues the keys that have something to report. The previous flusher may have had these reports in flight.
    fn take_over(&self, _was_unasked: bool) {
        for entry in self.entries.all() {
            let mut state = lock(&entry.state);
            if state.ledger.has_news() {
                self.queue(&entry, &mut state);
            }
        }
    }

    fn run(self: Arc<Self>, handles: Weak<Handle<Self>>) -> impl Future<Output = ()> + Send {
        BucketRounds::new(self).run(handles)
    }

    fn let_no_caller_wait(&self) {
        let queue = lock(&self.queue).clone();
        for entry in queue {
            let waiting = lock(&entry.state).take_waiting();
            release(waiting);
        }
    }
}
