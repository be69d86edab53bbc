use super::{
    entries::Entries,
    flusher::Flusher,
    share::{Share, Terms},
    store::{Demand, LARGEST_BATCH, LONGEST_KEY, Store, StoreError, StoreErrorKind},
};
use crate::{
    error::{ConfigError, RateLimited, check_duration},
    random::Random,
    sync::{AtomicU64, Mutex, Ordering, lock},
};
use rand::RngExt;
use std::{
    fmt, mem,
    ops::Range,
    sync::{Arc, Weak},
    time::Duration,
};
use tokio::{
    sync::Notify,
    time::{Instant, timeout, timeout_at},
};

/// A limit that many processes keep together: at most so many tokens in any window, for each key, of all of them.
///
/// Each process holds a small credit for each key in use, which it takes tokens from in one step, without asking anybody.
/// In the background its [`Flusher`] tells the store what was spent and when, gives back what is not needed, and takes as
/// much as the demand of the last period asks for. What a process holds counts as spent for all others, so the limit is
/// never exceeded in any window, however the demand moves between processes.
///
/// # When the store does not answer
///
/// A process goes on with what it holds, and with what it spent itself, a window after it spent it: that is its share at
/// the moment it was cut off, and all shares together are the limit. When the store answers again a process first says
/// what it spent meanwhile, and takes nothing until the others had the time to do so too: for 1.2 periods.
///
/// # Cost
///
/// To admit or refuse: one hash, one short lock of one of 16 parts of the table, one compare-and-swap. No clock, no
/// allocation for a known key. Per period one batch to the store.
///
/// # Cancellation
///
/// Nothing is held by a future of a caller but in [`acquire`](Self::acquire), which takes its tokens in the poll that returns
/// them.
#[derive(Clone)]
pub struct Leased {
    handle: Arc<Handle>,
}

struct Shared {
    store: Arc<dyn Store>,
    limit: u64,
    window: Duration,
    period: Duration,
    deadline: Duration,
    client: u64,
    random: Random,
    entries: Entries<Entry>,
    /// The keys that the store was never asked for, and that there are some.
    newcomers: Mutex<Vec<Arc<Entry>>>,
    hurry: Notify,
    health: Health,
}

/// One key in use.
struct Entry {
    /// The tokens that may be spent without asking. Relaxed throughout: it guards no other memory.
    credit: AtomicU64,
    /// The tokens that were asked for in vain since the store was last asked.
    refused: AtomicU64,
    terms: Terms,
    share: Mutex<Share>,
    /// The store has answered for this key, or has not.
    settled: Notify,
}

#[derive(Default)]
struct Health {
    asked: AtomicU64,
    failed: AtomicU64,
}

impl Leased {
    /// At most `limit` tokens in any `window`, for each key, kept in this store.
    pub fn builder(store: impl Store, limit: u64, window: Duration) -> LeasedBuilder {
        LeasedBuilder {
            store: Arc::new(store),
            limit,
            window,
            period: None,
            deadline: None,
            max_keys: 100_000,
            random: Random::new(),
        }
    }

    /// Takes `tokens` of this key's, all or none, from what this process holds. A key that it never asked for it holds nothing
    /// of: [`acquire`](Self::acquire) waits until the store has answered for it.
    ///
    /// # Errors
    ///
    /// [`RateLimited`] where it holds too few; then more are asked for, and the time is that until they may be there. With
    /// no time where the cost is above the limit, or the key longer than [`LONGEST_KEY`].
    pub fn try_acquire(&self, key: &[u8], tokens: u64) -> Result<(), RateLimited> {
        if tokens == 0 {
            return Ok(());
        }
        self.shared().entry(key, tokens)?.take(tokens, self.shared().period)
    }

    /// Takes `tokens` of this key's, all or none. For a key that the store was never asked for it is asked at once, and
    /// this waits for the answer, for as long as the store's [`deadline`](LeasedBuilder::deadline) at most; for all other keys
    /// it does not wait.
    ///
    /// # Errors
    ///
    /// As [`try_acquire`](Self::try_acquire).
    pub async fn acquire(&self, key: &[u8], tokens: u64) -> Result<(), RateLimited> {
        if tokens == 0 {
            return Ok(());
        }
        let entry = self.shared().entry(key, tokens)?;
        let settled = entry.settled.notified();
        let is_known = lock(&entry.share).was_settled();
        if !is_known {
            // What the store is asked for.
            entry.refused.fetch_add(tokens, Ordering::Relaxed);
            // An answer that does not come in time is none.
            let _ = timeout(self.shared().deadline, settled).await;
        }
        entry.take(tokens, self.shared().period)
    }

    fn shared(&self) -> &Shared {
        &self.handle.0
    }

    /// Gives back what was taken for a call that then was not made.
    pub fn refund(&self, key: &[u8], tokens: u64) {
        if let Some(entry) = self.shared().entries.find(key) {
            // What the books have for spent already is counted twice for a window: on the safe side.
            entry.credit.fetch_add(tokens, Ordering::Relaxed);
        }
    }

    /// The tokens of this key that this process holds.
    pub fn held(&self, key: &[u8]) -> u64 {
        self.shared().entries.find(key).map_or(0, |entry| entry.credit.load(Ordering::Relaxed))
    }

    /// How much more than the limit may be spent in any window while the store keeps its data and every process is heard
    /// of: nothing. Processes that are cut off while others are not add their shares at that time, at most the limit.
    pub fn overshoot_bound(&self) -> u64 {
        0
    }

    /// How often the store was asked, and how often it did not answer.
    pub fn batches(&self) -> (u64, u64) {
        let Health { asked, failed, .. } = &self.shared().health;
        (asked.load(Ordering::Relaxed), failed.load(Ordering::Relaxed))
    }
}

impl Shared {
    /// The entry of a key, for somebody who wants so many tokens.
    fn entry(&self, key: &[u8], tokens: u64) -> Result<Arc<Entry>, RateLimited> {
        if tokens > self.limit || key.len() > LONGEST_KEY {
            return Err(RateLimited::new(None));
        }
        let mut is_new = false;
        let entry = self.entries.get(key, |key| {
            is_new = true;
            let terms = Terms { key, limit: self.limit, window: self.window, client: self.client };
            Entry {
                credit: AtomicU64::new(0),
                refused: AtomicU64::new(0),
                terms,
                share: Mutex::new(Share::new()),
                settled: Notify::new(),
            }
        });
        let entry = entry.map_err(|_| RateLimited::new(Some(self.period)))?;
        if is_new {
            lock(&self.newcomers).push(entry.clone());
            self.hurry.notify_one();
        }
        Ok(entry)
    }

    /// Brings the books up to date, and what comes back to a process that is cut off.
    fn note(&self, now: Instant) {
        for entry in self.entries.all() {
            let mut share = lock(&entry.share);
            let back = share.note(entry.credit.load(Ordering::Relaxed), now, self.window);
            entry.credit.fetch_add(back, Ordering::Relaxed);
        }
    }

    /// Settles accounts with the store.
    async fn flush(&self, whose: Whose) {
        let now = Instant::now();
        let mut entries = mem::take(&mut *lock(&self.newcomers));
        if whose == Whose::New {
            // Nothing was spent of these yet; some may have been asked for with all others.
            entries.retain(|entry| !lock(&entry.share).was_asked());
        } else {
            self.note(now);
            entries = self.entries.all();
            entries.retain(|entry| !self.forget_if_idle(entry));
        }
        let leaving = whose == Whose::AllLeaving;
        for batch in entries.chunks(LARGEST_BATCH) {
            let demands: Vec<Demand> = batch.iter().map(|entry| entry.demand(now, leaving)).collect();
            self.health.asked.fetch_add(1, Ordering::Relaxed);
            let answer = match timeout(self.deadline, self.store.settle(&demands)).await {
                Ok(answer) => answer,
                Err(_) => {
                    Err(StoreError::new(StoreErrorKind::Unreachable, format_args!("no answer in {:?}", self.deadline)))
                }
            };
            match answer {
                Ok(settled) if settled.len() == batch.len() => {
                    for (entry, settled) in batch.iter().zip(&settled) {
                        let mut share = lock(&entry.share);
                        let more = share.answered(settled, Instant::now(), self.period.mul_f64(1.2));
                        entry.credit.fetch_add(more, Ordering::Relaxed);
                    }
                }
                Ok(_) | Err(_) => {
                    self.health.failed.fetch_add(1, Ordering::Relaxed);
                    batch.iter().for_each(|entry| lock(&entry.share).cut_off());
                }
            }
            batch.iter().for_each(|entry| entry.settled.notify_waiters());
        }
    }

    /// Forgets a key that nobody asked for, once nothing is held of it.
    fn forget_if_idle(&self, entry: &Entry) -> bool {
        self.entries.forget_if(&entry.terms.key, |entry| {
            lock(&entry.share).is_idle()
                && entry.refused.load(Ordering::Relaxed) == 0
                && entry.credit.load(Ordering::Relaxed) == 0
        })
    }

    /// Settles with the store every period, at a phase of its own, until the last handle of the limit is dropped; then gives
    /// back what is held.
    async fn run(self: Arc<Self>, handle: Weak<Handle>) {
        let draw = |range: Range<f64>| self.random.with(|random| random.random_range(range));
        let mut next = Instant::now() + self.period.mul_f64(draw(0.0..1.0));
        while handle.strong_count() > 0 {
            let now = Instant::now();
            if now >= next {
                self.flush(Whose::All).await;
                next = now + self.period.mul_f64(draw(0.9..1.1));
            } else {
                self.note(now);
            }
            let look = Instant::now() + self.window.div_f64(40.0);
            if timeout_at(next.min(look), self.hurry.notified()).await.is_ok() {
                self.flush(Whose::New).await;
            }
        }
        self.flush(Whose::AllLeaving).await;
    }
}

/// Alive while somebody has the limit in hand. The flusher ends with it.
struct Handle(Arc<Shared>);

impl Drop for Handle {
    fn drop(&mut self) {
        self.0.hurry.notify_one();
    }
}

/// Which accounts to settle.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Whose {
    /// Of keys that the store was never asked for.
    New,
    All,
    /// And give everything back.
    AllLeaving,
}

impl Entry {
    fn take(&self, tokens: u64, period: Duration) -> Result<(), RateLimited> {
        let enough = |credit: u64| credit.checked_sub(tokens);
        match self.credit.fetch_update(Ordering::Relaxed, Ordering::Relaxed, enough) {
            Ok(_) => Ok(()),
            Err(credit) => {
                self.refused.fetch_add(tokens, Ordering::Relaxed);
                Err(RateLimited::new(Some(period)).with_remaining(credit))
            }
        }
    }

    /// Gives back what is not likely to be needed, and says what was spent and what is wanted.
    fn demand(&self, now: Instant, leaving: bool) -> Demand {
        let mut share = lock(&self.share);
        let refused = self.refused.swap(0, Ordering::Relaxed);
        if !share.is_cut_off() {
            let excess = if leaving { u64::MAX } else { share.excess(refused, self.terms.limit) };
            let taken = self
                .credit
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |credit| Some(credit - credit.min(excess)));
            if let Ok(credit) = taken {
                // What was spent since the books were brought up to date is in them next time.
                share.returned(credit.min(excess));
            }
        }
        share.demand(&self.terms, if leaving { 0 } else { refused }, now)
    }
}

/// Configures a [`Leased`] limit.
#[must_use]
pub struct LeasedBuilder {
    store: Arc<dyn Store>,
    limit: u64,
    window: Duration,
    period: Option<Duration>,
    deadline: Option<Duration>,
    max_keys: usize,
    random: Random,
}

impl LeasedBuilder {
    /// How often the store is asked. Default: a tenth of the window, at most a second.
    pub fn flush_every(self, period: Duration) -> Self {
        Self { period: Some(period), ..self }
    }

    /// How long the store has to answer. Default: half of the period.
    pub fn deadline(self, deadline: Duration) -> Self {
        Self { deadline: Some(deadline), ..self }
    }

    /// For how many keys there is room. Beyond that calls of new keys are refused. Default: 100,000.
    pub fn max_keys(self, max_keys: usize) -> Self {
        Self { max_keys, ..self }
    }

    /// Draws phases, jitter and the process's number from this generator.
    pub fn random(self, random: Random) -> Self {
        Self { random, ..self }
    }

    /// The limit, and what has to run for it.
    ///
    /// # Errors
    ///
    /// The limit must be from 1 to 2^52; the window and the period longer than zero and at most 366 days, the period at most
    /// a half of the window; the deadline at most the period; there must be room for a key.
    pub fn build(self) -> Result<(Leased, Flusher), ConfigError> {
        let Self { store, limit, window, period, deadline, max_keys, random } = self;
        if limit == 0 || limit > 1 << 52 {
            return Err(ConfigError::new("rate_limit.limit", limit, "must be at least 1 and at most 2^52"));
        }
        check_duration("rate_limit.window", window)?;
        let period = period.unwrap_or((window / 10).min(Duration::from_secs(1)));
        check_duration("rate_limit.flush_every", period)?;
        if period > window / 2 {
            return Err(ConfigError::new("rate_limit.flush_every", period, "must be at most half of the window"));
        }
        let deadline = deadline.unwrap_or(period / 2);
        if deadline.is_zero() || deadline > period {
            return Err(ConfigError::new(
                "rate_limit.deadline",
                deadline,
                "must be longer than zero and at most the period",
            ));
        }
        if max_keys == 0 {
            return Err(ConfigError::new("rate_limit.max_keys", max_keys, "must be at least 1"));
        }
        let client = random.with(|random| random.random());
        let shared = Arc::new(Shared {
            store,
            limit,
            window,
            period,
            deadline,
            client,
            random,
            entries: Entries::new(max_keys),
            newcomers: Mutex::default(),
            hurry: Notify::new(),
            health: Health::default(),
        });
        let handle = Arc::new(Handle(shared.clone()));
        let flusher = Flusher::new(shared.run(Arc::downgrade(&handle)));
        Ok((Leased { handle }, flusher))
    }
}

impl fmt::Debug for Leased {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Shared { limit, window, .. } = self.shared();
        f.debug_struct("Leased").field("limit", limit).field("window", window).finish_non_exhaustive()
    }
}
