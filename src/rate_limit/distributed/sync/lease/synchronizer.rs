use super::{
    entry::{LeaseEntry, release},
    rounds::LeaseRounds,
};
use crate::{
    clock::{Nanos, Origin},
    error::RateLimited,
    random::Random,
    rate_limit::{
        Quota,
        distributed::{
            ledger::{lease::LeaseTerms, local::Start, share::ProcessShare},
            level::Level,
            outage::OnOutage,
            settings::Settings,
            store::{LONGEST_KEY, Store, namespace::Namespace},
            sync::{
                entries::Entries,
                health::{Health, LONGEST_RETURN},
                readings::Readings,
                synchronizer::{Handle, Link, Synchronizer},
            },
        },
        tokens::Tokens,
    },
    sync::{AtomicU64, Mutex, Ordering, lock},
};
use rand::RngExt;
use std::{
    cell::Cell,
    future::Future,
    sync::{Arc, Weak},
    time::Duration,
};
use tokio::{sync::oneshot, time::Instant};

/// The synchronizer of a [`Leased`](crate::rate_limit::distributed::Leased) limit: the ledgers of all keys, and their
/// exchange with the store.
pub(crate) struct LeaseSync {
    pub(super) store: Arc<dyn Store>,
    namespace: Namespace,
    pub(crate) limit: Tokens,
    pub(crate) window: Duration,
    pub(crate) period: Duration,
    pub(crate) deadline: Duration,
    pub(super) random: Random,
    /// Draws a client number for each entry. The operating system seeds this generator, so that no two processes draw
    /// the same number.
    clients: Random,
    /// The time in which all processes report, once the store answers again. In this time, this process takes no tokens
    /// from the store.
    pub(super) report_for: Duration,
    /// The largest number of processes, if the user set it.
    pub(super) processes: Option<u64>,
    on_outage: OnOutage,
    /// The time from which the `Nanos` of this synchronizer count.
    pub(super) origin: Origin,
    /// When the flusher last read the clock. Callers that take tokens do not read the clock. A call counts as made at
    /// this time, although it is made a little later. Relaxed: it guards no other memory.
    pub(super) looked: AtomicU64,
    pub(super) entries: Entries<LeaseEntry>,
    /// The keys for which the store was not asked before they came here. A flush of all keys may have asked for some
    /// since.
    pub(super) newcomers: Mutex<Vec<Arc<LeaseEntry>>>,
    link: Link,
}

/// The values from which a synchronizer is built. The builder has checked them.
pub(crate) struct LeaseParts {
    pub(crate) settings: Settings,
    pub(crate) limit: Tokens,
    pub(crate) window: Duration,
    pub(crate) period: Duration,
    pub(crate) deadline: Duration,
    pub(crate) processes: Option<u64>,
}

/// Where and when a call took tokens.
pub(crate) struct Withdrawn {
    /// The key from whose credit the call took them.
    entry: Arc<LeaseEntry>,
    /// When the flusher last read the clock before the call.
    at: Nanos,
}

impl LeaseSync {
    pub(crate) fn new(parts: LeaseParts) -> Self {
        let LeaseParts { settings, limit, window, period, deadline, processes } = parts;
        let Settings { store, namespace, on_outage, max_keys, random } = settings;
        let now = Instant::now();
        // Each of the other processes sends its demands once in each period. With its jitter, a period lasts up to 1.1
        // times its length.
        let report_for = period.mul_f64(1.2).saturating_add(store.returns_within().min(LONGEST_RETURN));
        Self {
            store,
            namespace,
            limit,
            window,
            period,
            deadline,
            random,
            clients: Random::new(),
            report_for,
            processes,
            on_outage,
            origin: Origin::at(now),
            looked: AtomicU64::new(0),
            entries: Entries::new(max_keys),
            newcomers: Mutex::default(),
            // Each key has its own time for reports, so the health of the store needs none.
            link: Link::new(Health::new(now, Duration::ZERO)),
        }
    }

    pub(crate) fn health(&self) -> &Health {
        &self.link.health
    }

    /// Returns the entry of a key, for a caller that wants `tokens`.
    pub(crate) fn entry(&self, key: &[u8], tokens: Tokens) -> Result<Arc<LeaseEntry>, RateLimited> {
        if key.len() > LONGEST_KEY {
            return Err(RateLimited::long_key(key.len(), LONGEST_KEY));
        }
        if tokens > self.limit {
            return Err(RateLimited::new(None));
        }
        let is_new = Cell::new(false);
        let make = |name, key| {
            is_new.set(true);
            // The sequence starts again, so the store must see another client than before the key was forgotten.
            let client = self.clients.with(|random| random.random());
            LeaseEntry::new(key, LeaseTerms { key: name, limit: self.limit, window: self.window, client })
        };
        let own = self.entries.get(key, |entry| self.is_idle(entry), |key| make(self.namespace.name(&key), key));
        let entry = own.unwrap_or_else(|| self.entries.shared(|key| make(self.namespace.shared_name(), key)));
        if is_new.get() {
            lock(&self.newcomers).push(entry.clone());
            self.link.hurry.notify_one();
        }
        Ok(entry)
    }

    /// Returns a receiver for the first answer of the store for a key. Returns `None` if the store has already answered
    /// or failed, or does not decide now.
    pub(crate) fn wait_for_first_answer(&self, entry: &LeaseEntry, tokens: Tokens) -> Option<oneshot::Receiver<()>> {
        // A credit shows that the store has answered or failed for this key.
        if entry.credit.load(Ordering::Relaxed) > 0 || !self.health().decides() {
            return None;
        }
        entry.wait_for_first_answer(tokens)
    }

    /// Takes tokens from the credit, or as the policy says while the store is down. Returns what may be refunded.
    pub(crate) fn take(&self, entry: &Arc<LeaseEntry>, tokens: Tokens) -> Result<Option<Withdrawn>, RateLimited> {
        if !self.health().decides() {
            if let Some(verdict) = self.take_beyond(entry, tokens) {
                return verdict.map(|()| None);
            }
        }
        let enough = |credit: u64| credit.checked_sub(tokens.0);
        match entry.credit.fetch_update(Ordering::Relaxed, Ordering::Relaxed, enough) {
            Ok(_) => {
                let at = Nanos(self.looked.load(Ordering::Relaxed));
                Ok(Some(Withdrawn { entry: entry.clone(), at }))
            }
            Err(credit) => {
                entry.refused.fetch_add(tokens.0, Ordering::Relaxed);
                Err(RateLimited::new(Some(self.period)).with_remaining(credit))
            }
        }
    }

    /// Decides without the credit, as `Open`, `Closed` and `Local` say. Returns `None` with the other policies, which
    /// decide by the credit.
    #[cold]
    fn take_beyond(&self, entry: &LeaseEntry, tokens: Tokens) -> Option<Result<(), RateLimited>> {
        let quota = match &self.on_outage {
            OnOutage::FairShare | OnOutage::LastKnown => return None,
            OnOutage::Local(quota) => *quota,
            // These policies decide without a quota, so the limit stands in for it.
            OnOutage::Open | OnOutage::Closed => Quota::new(self.limit.0, self.window),
        };
        let now = self.origin.to(Instant::now());
        let start = Start { level: Level::empty(&quota, now), share: ProcessShare::ALL };
        let outage = Some(self.health().outage());
        let verdict = lock(&entry.state).local.take(&self.on_outage, &quota, tokens, now, outage, start);
        Some(match verdict {
            Ok(()) => {
                entry.beyond.fetch_add(tokens.0, Ordering::Relaxed);
                Ok(())
            }
            Err(wait) => Err(RateLimited::new(Some(wait.map_or(self.period, Nanos::duration)))),
        })
    }

    /// Gives tokens back to the credit that they were taken from, if they were taken less than a window minus 1.2
    /// periods ago. The next demand, at most 1.1 periods later, reports them as held. The store still counts them as
    /// spent then, so it has granted them to no other process.
    pub(crate) fn refund(&self, Withdrawn { entry, at }: Withdrawn, tokens: Tokens, now: Instant) {
        let age = self.origin.to(now).saturating_sub(at).duration();
        if age < self.window.saturating_sub(self.period.mul_f64(1.2)) {
            // Tokens that the ledger has logged as spent count twice for a window, which errs on the safe side.
            entry.credit.fetch_add(tokens.0, Ordering::Relaxed);
        }
    }

    /// Returns the tokens of a key that this process holds.
    pub(crate) fn held(&self, key: &[u8]) -> Tokens {
        Tokens(self.entries.find(key).map_or(0, |entry| entry.credit.load(Ordering::Relaxed)))
    }

    pub(crate) fn read(&self, now: Instant) -> Readings {
        let store = self.health().read(&*self.store, now);
        let mut readings = Readings { store, keys: 0, unflushed: 0, overshoot: 0 };
        self.entries.look_at_all(|entry| {
            readings.keys += 1;
            readings.unflushed = readings.unflushed.saturating_add(lock(&entry.state).ledger.unflushed().0);
        });
        readings
    }

    /// Updates the ledger of each key. If the key is cut off, the tokens that were spent a window ago return to its
    /// credit.
    pub(super) fn note(&self, now: Instant) {
        for entry in self.entries.all() {
            let mut state = lock(&entry.state);
            state.ledger.spent_beyond(Tokens(entry.beyond.swap(0, Ordering::Relaxed)), now);
            let back = state.ledger.note(Tokens(entry.credit.load(Ordering::Relaxed)), now, self.window);
            entry.credit.fetch_add(back.0, Ordering::Relaxed);
        }
    }

    /// Returns whether the key can be forgotten. It has no spends in the last window and no refusals since the last
    /// demand. The process holds none of its tokens, and its local quota is unspent.
    fn is_idle(&self, entry: &LeaseEntry) -> bool {
        let state = lock(&entry.state);
        // This time is never later than the present, so a local quota never drains too early.
        let now = Nanos(self.looked.load(Ordering::Relaxed));
        state.ledger.is_idle()
            && state.local.is_idle(&self.on_outage, now)
            && entry.beyond.load(Ordering::Relaxed) == 0
            && entry.refused.load(Ordering::Relaxed) == 0
            && entry.credit.load(Ordering::Relaxed) == 0
    }

    /// Forgets a key if it is idle and no caller is about to use it. Returns whether it was forgotten.
    pub(super) fn forget_if_idle(&self, entry: &LeaseEntry) -> bool {
        self.entries.forget_if(&entry.key, |entry| self.is_idle(entry))
    }
}

impl Synchronizer for LeaseSync {
    fn link(&self) -> &Link {
        &self.link
    }

    fn readings(&self, now: Instant) -> Readings {
        self.read(now)
    }

    /// After a time without a flusher, cuts all keys off, since the store answered for none of them in that time.
    fn take_over(&self, was_unasked: bool) {
        if was_unasked {
            self.entries.all().iter().for_each(|entry| self.cut_off(entry));
        }
    }

    fn run(self: Arc<Self>, handles: Weak<Handle<Self>>) -> impl Future<Output = ()> + Send {
        LeaseRounds::new(self).run(handles)
    }

    fn let_no_caller_wait(&self) {
        for entry in self.entries.all() {
            let waiting = lock(&entry.state).take_waiting();
            release(waiting);
        }
    }
}
