use super::{
    engine::Readings,
    entries::Entries,
    flights::Flights,
    flusher::Flusher,
    health::{Health, LONGEST_RETURN},
    level::Level,
    namespace::Namespace,
    outage::{Local, OnOutage, Share as Part},
    share::{Share, Terms},
    store::{Demand, LARGEST_BATCH, LONGEST_KEY, Store, ask},
};
use crate::{
    clock::Origin,
    error::{ConfigError, RateLimited, check_duration},
    random::Random,
    rate_limit::{Admission, Quota},
    sync::{AtomicU64, Mutex, Ordering, lock},
};
use rand::RngExt;
use std::{
    fmt,
    future::poll_fn,
    mem,
    ops::Range,
    pin::Pin,
    sync::{Arc, Weak},
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    sync::{Notify, oneshot},
    time::{Instant, timeout_at},
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
/// what it spent meanwhile, and takes nothing until the others had the time to do so too: for 1.2 periods, and as long as the
/// store says that [it takes them](Store::returns_within) to reach it again.
///
/// # Cost
///
/// To admit: one hash, one short lock of one of 16 parts of the table, one compare-and-swap, one reading of the clock. To
/// refuse: no clock. No allocation for a known key. Per period one batch to the store.
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
    namespace: Namespace,
    limit: u64,
    window: Duration,
    period: Duration,
    deadline: Duration,
    random: Random,
    /// Draws the numbers of processes: of the operating system's, so that no two processes have the same one.
    clients: Random,
    /// When the store answers again, so long nothing is taken of it: all others report in that time.
    report_for: Duration,
    processes: Option<u64>,
    on_outage: OnOutage,
    origin: Origin,
    entries: Entries<Entry>,
    /// The keys that the store was never asked for, and that there are some.
    newcomers: Mutex<Vec<Arc<Entry>>>,
    hurry: Notify,
    health: Health,
}

/// One key in use.
struct Entry {
    key: Arc<[u8]>,
    /// The tokens that may be spent without asking. Relaxed throughout: it guards no other memory.
    credit: AtomicU64,
    /// The tokens that were asked for in vain since the store was last asked.
    refused: AtomicU64,
    /// The tokens that were admitted beyond the credit, since the books were last brought up to date.
    beyond: AtomicU64,
    terms: Terms,
    state: Mutex<State>,
}

struct State {
    share: Share,
    /// It is in a batch that is on its way.
    is_asked: bool,
    /// Decides in an outage, where the policy has a quota of its own.
    local: Local,
    /// Who waits for the store to answer for this key for the first time.
    waiting: Vec<oneshot::Sender<()>>,
}

/// What an admitted call has taken of a [`Leased`] limit. Dropping it spends it.
pub struct Spent {
    /// Of what and when. None where the call costs nothing, or was admitted beyond what this process holds.
    taken: Option<(Arc<Entry>, Instant)>,
    tokens: u64,
}

/// The place of a call that waits until the store has answered for its key for the first time.
pub struct Newcomer {
    entry: Arc<Entry>,
    tokens: u64,
    settled: oneshot::Receiver<()>,
    /// When it is not waited for any longer.
    give_up_at: Instant,
}

impl Leased {
    /// At most `limit` tokens in any `window`, for each key, kept in this store.
    pub fn builder(store: impl Store, limit: u64, window: Duration) -> LeasedBuilder {
        LeasedBuilder {
            store: Arc::new(store),
            namespace: Namespace::default(),
            limit,
            window,
            period: None,
            deadline: None,
            processes: None,
            on_outage: OnOutage::default(),
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
    pub fn try_acquire(&self, key: &[u8], tokens: u64) -> Result<Spent, RateLimited> {
        if tokens == 0 {
            return Ok(Spent { taken: None, tokens });
        }
        let entry = self.shared().entry(key, tokens)?;
        self.shared().take(&entry, tokens, Instant::now)
    }

    /// Takes `tokens` of this key's, all or none. For a key that the store was never asked for it is asked at once, and
    /// this waits for the answer, for as long as the store's [`deadline`](LeasedBuilder::deadline) at most; for all other keys
    /// it does not wait, nor while the store is down.
    ///
    /// # Errors
    ///
    /// As [`try_acquire`](Self::try_acquire).
    pub async fn acquire(&self, key: &[u8], tokens: u64) -> Result<Spent, RateLimited> {
        match self.admit_at(key, tokens, Instant::now) {
            Admission::Admitted(spent) => Ok(spent),
            Admission::Refused(refused) => Err(refused),
            Admission::Waits(newcomer) => {
                // An answer that does not come in time is none.
                let _ = timeout_at(newcomer.give_up_at, newcomer.settled).await;
                self.shared().take(&newcomer.entry, tokens, Instant::now)
            }
        }
    }

    /// Takes tokens of this key's, or waits until the store has first answered for it.
    pub(super) fn admit_at(
        &self,
        key: &[u8],
        tokens: u64,
        now: impl FnOnce() -> Instant,
    ) -> Admission<Spent, Newcomer> {
        if tokens == 0 {
            return Admission::Admitted(Spent { taken: None, tokens });
        }
        let shared = self.shared();
        let entry = match shared.entry(key, tokens) {
            Ok(entry) => entry,
            Err(refused) => return Admission::Refused(refused),
        };
        // What is held says that the store has answered.
        if entry.credit.load(Ordering::Relaxed) == 0 && shared.health.decides() {
            let mut state = lock(&entry.state);
            if !state.share.was_settled() {
                // What the store is asked for.
                entry.refused.fetch_add(tokens, Ordering::Relaxed);
                let (sender, settled) = oneshot::channel();
                if state.waiting.len() == state.waiting.capacity() {
                    // Whoever has gone is cleared away by the flusher; but it may not run.
                    state.waiting.retain(|waiter| !waiter.is_closed());
                    let left = state.waiting.len();
                    state.waiting.reserve(left.max(8));
                }
                state.waiting.push(sender);
                drop(state);
                let give_up_at = now() + shared.deadline;
                return Admission::Waits(Newcomer { entry, tokens, settled, give_up_at });
            }
        }
        match shared.take(&entry, tokens, now) {
            Ok(spent) => Admission::Admitted(spent),
            Err(refused) => Admission::Refused(refused),
        }
    }

    pub(super) fn poll_newcomer(
        &self,
        newcomer: &mut Newcomer,
        cx: &mut Context<'_>,
        now: Instant,
    ) -> Poll<Result<Spent, RateLimited>> {
        if Pin::new(&mut newcomer.settled).poll(cx).is_pending() && now < newcomer.give_up_at {
            return Poll::Pending;
        }
        Poll::Ready(self.shared().take(&newcomer.entry, newcomer.tokens, || now))
    }

    pub(super) fn deadline(&self) -> Duration {
        self.shared().deadline
    }

    /// The limit, and the window.
    pub(super) fn terms(&self) -> (u64, Duration) {
        (self.shared().limit, self.shared().window)
    }

    fn shared(&self) -> &Shared {
        &self.handle.0
    }

    /// Gives back what was taken for a call that then was not made, if it was not long ago: as long as it counts as spent, but
    /// for a period. What was admitted beyond what this process holds, in an outage, is not given back.
    pub fn refund(&self, spent: Spent) {
        let Some((entry, at)) = spent.taken else { return };
        let Shared { window, period, .. } = self.shared();
        let age = Instant::now().saturating_duration_since(at);
        if age < window.saturating_sub(period.mul_f64(1.2)) {
            // What the books have for spent already is counted twice until a window has passed: on the safe side.
            entry.credit.fetch_add(spent.tokens, Ordering::Relaxed);
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

    /// How the limit is doing. It looks at every key in use.
    pub fn readings(&self) -> Readings {
        let shared = self.shared();
        let entries = shared.entries.all();
        let unflushed = entries.iter().map(|entry| lock(&entry.state).share.unflushed());
        Readings {
            unflushed: unflushed.fold(0, u64::saturating_add),
            keys: entries.len(),
            store: shared.health.read(Instant::now()),
            overshoot: 0,
        }
    }
}

impl Newcomer {
    /// When it is not waited for any longer.
    pub(super) fn give_up_at(&self) -> Instant {
        self.give_up_at
    }
}

impl Shared {
    /// The entry of a key, for somebody who wants so many tokens.
    fn entry(&self, key: &[u8], tokens: u64) -> Result<Arc<Entry>, RateLimited> {
        if key.len() > LONGEST_KEY {
            return Err(RateLimited::long_key(key.len(), LONGEST_KEY));
        }
        if tokens > self.limit {
            return Err(RateLimited::new(None));
        }
        let mut is_new = false;
        let entry = self.entries.get(key, |key| {
            is_new = true;
            let name = self.namespace.name(&key);
            // For the store it is another process than the one that forgot the key: that one had counted further.
            let client = self.clients.with(|random| random.random());
            let terms = Terms { key: name, limit: self.limit, window: self.window, client };
            Entry {
                key,
                credit: AtomicU64::new(0),
                refused: AtomicU64::new(0),
                beyond: AtomicU64::new(0),
                terms,
                state: Mutex::new(State {
                    share: Share::new(self.window),
                    is_asked: false,
                    local: Local::default(),
                    waiting: Vec::new(),
                }),
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
            let mut state = lock(&entry.state);
            state.share.spent_beyond(entry.beyond.swap(0, Ordering::Relaxed), now);
            let back = state.share.note(entry.credit.load(Ordering::Relaxed), now, self.window);
            entry.credit.fetch_add(back, Ordering::Relaxed);
        }
    }

    /// Settles accounts with the store: two batches at a time.
    async fn flush(self: &Arc<Self>, whose: Whose, until: Instant) {
        let now = Instant::now();
        let mut entries = Vec::new();
        if whose != Whose::New {
            self.note(now);
            entries = self.entries.all();
            entries.retain(|entry| !self.forget_if_idle(entry));
        }
        let leaving = whose == Whose::AllLeaving;
        let mut batches = entries.chunks(LARGEST_BATCH);
        // A store that is down is asked once each period, and not for newcomers.
        let mut is_asked = whose != Whose::New || self.health.decides();
        let mut flights = Flights::new();
        let mut are_newcomers = false;
        loop {
            while flights.has_room() && (self.health.decides() || flights.are_done()) {
                // Somebody waits for the newcomers. But however many come, every other batch is of those who are known, and it
                // ends.
                let takes_newcomers = whose == Whose::New || !are_newcomers;
                let mut batch = match takes_newcomers && Instant::now() < until {
                    true => self.next_newcomers(),
                    false => Vec::new(),
                };
                are_newcomers = !batch.is_empty();
                if !are_newcomers {
                    let Some(known) = batches.next() else { break };
                    batch = known.to_vec();
                }
                // What is asked in one batch is not in another at the same time.
                batch.retain(|entry| !mem::replace(&mut lock(&entry.state).is_asked, true));
                if batch.is_empty() {
                    continue;
                }
                if is_asked {
                    flights.start(self.clone().ask(batch, now, leaving));
                    is_asked = self.health.decides();
                } else {
                    batch.iter().for_each(|entry| self.cut_off(entry));
                }
            }
            if flights.are_done() {
                return;
            }
            poll_fn(|cx| flights.poll_next(cx)).await;
            is_asked = self.health.decides();
        }
    }

    /// A batch of keys that the store was never asked for.
    fn next_newcomers(&self) -> Vec<Arc<Entry>> {
        let mut newcomers = lock(&self.newcomers);
        let rest = newcomers.len().saturating_sub(LARGEST_BATCH);
        let mut batch = newcomers.split_off(rest);
        drop(newcomers);
        // Some may have been asked for with all others.
        batch.retain(|entry| !lock(&entry.state).share.was_asked());
        batch
    }

    /// Settles one batch.
    async fn ask(self: Arc<Self>, batch: Vec<Arc<Entry>>, now: Instant, leaving: bool) {
        let demands: Vec<Demand> = batch.iter().map(|entry| entry.demand(now, leaving)).collect();
        let sent = Instant::now();
        let answer = ask(|| self.store.settle(&demands), batch.len(), self.deadline).await;
        let now = Instant::now();
        self.health.note(&answer, sent, self.deadline, now);
        self.health.look(now);
        let Ok(settled) = answer else {
            batch.iter().for_each(|entry| self.cut_off(entry));
            return;
        };
        for (entry, settled) in batch.iter().zip(&settled) {
            let mut state = lock(&entry.state);
            state.is_asked = false;
            // More than the limit is granted by no store that is right.
            let granted = settled.granted.min(self.limit);
            let more = state.share.answered(granted, settled, now, self.report_for);
            entry.credit.fetch_add(more, Ordering::Relaxed);
            let waiting = mem::take(&mut state.waiting);
            drop(state);
            tell(waiting);
        }
    }

    /// The store does not answer for this key. One that it never answered for gets what every process can have.
    fn cut_off(&self, entry: &Entry) {
        let mut state = lock(&entry.state);
        state.is_asked = false;
        let first = match self.processes {
            Some(processes) if !state.share.was_settled() => self.limit / processes,
            _ => 0,
        };
        state.share.cut_off(first);
        entry.credit.fetch_add(first, Ordering::Relaxed);
        let waiting = mem::take(&mut state.waiting);
        drop(state);
        tell(waiting);
    }

    /// Takes tokens from the credit; or, while the store is down, as the policy says.
    fn take(&self, entry: &Arc<Entry>, tokens: u64, now: impl FnOnce() -> Instant) -> Result<Spent, RateLimited> {
        if !self.health.decides() {
            if let Some(verdict) = self.take_beyond(entry, tokens) {
                return verdict;
            }
        }
        let enough = |credit: u64| credit.checked_sub(tokens);
        match entry.credit.fetch_update(Ordering::Relaxed, Ordering::Relaxed, enough) {
            Ok(_) => Ok(Spent { taken: Some((entry.clone(), now())), tokens }),
            Err(credit) => {
                entry.refused.fetch_add(tokens, Ordering::Relaxed);
                Err(RateLimited::new(Some(self.period)).with_remaining(credit))
            }
        }
    }

    /// Decides without the credit, where the policy for outages is not that of shares.
    #[cold]
    fn take_beyond(&self, entry: &Entry, tokens: u64) -> Option<Result<Spent, RateLimited>> {
        let quota = match &self.on_outage {
            OnOutage::FairShare | OnOutage::LastKnown => return None,
            OnOutage::Local(quota) => *quota,
            // Which say no number.
            OnOutage::Open | OnOutage::Closed => Quota::new(self.limit, self.window),
        };
        let now = self.origin.nanos_to(Instant::now());
        let fresh = (Level::empty(&quota, now), Part::ALL);
        let verdict =
            lock(&entry.state).local.take(&self.on_outage, &quota, tokens, now, Some(self.health.outage()), fresh);
        Some(match verdict {
            Ok(()) => {
                entry.beyond.fetch_add(tokens, Ordering::Relaxed);
                Ok(Spent { taken: None, tokens })
            }
            Err(wait) => Err(RateLimited::new(Some(wait.map_or(self.period, Duration::from_nanos)))),
        })
    }

    /// Forgets a key that nobody asked for, once nothing is held of it.
    fn forget_if_idle(&self, entry: &Entry) -> bool {
        self.entries.forget_if(&entry.key, |entry| {
            lock(&entry.state).share.is_idle()
                && entry.beyond.load(Ordering::Relaxed) == 0
                && entry.refused.load(Ordering::Relaxed) == 0
                && entry.credit.load(Ordering::Relaxed) == 0
        })
    }

    /// Settles with the store every period, at a phase of its own, until the last handle of the limit is dropped; then gives
    /// back what is held.
    async fn run(self: Arc<Self>, handle: Weak<Handle>) {
        let draw = |range: Range<f64>| self.random.with(|random| random.random_range(range));
        let mut next = Instant::now() + self.period.mul_f64(draw(0.0..1.0));
        let mut look = Instant::now();
        while handle.strong_count() > 0 {
            let now = Instant::now();
            self.health.look(now);
            if now >= next {
                next = now + self.period.mul_f64(draw(0.9..1.1));
                self.flush(Whose::All, next).await;
            } else if now >= look {
                self.note(now);
            }
            if now >= look {
                look = now + self.window.div_f64(40.0);
            }
            if timeout_at(next.min(look), self.hurry.notified()).await.is_ok() {
                self.flush(Whose::New, next).await;
            }
        }
        self.flush(Whose::AllLeaving, Instant::now()).await;
    }
}

/// Alive while the flusher is. Without it nobody asks the store, so nobody waits for it.
struct Running(Arc<Shared>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.health.nobody_asks();
        for entry in self.0.entries.all() {
            tell(mem::take(&mut lock(&entry.state).waiting));
        }
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
    /// Gives back what is not likely to be needed, and says what was spent and what is wanted.
    fn demand(&self, now: Instant, leaving: bool) -> Demand {
        let mut state = lock(&self.state);
        let share = &mut state.share;
        let refused = self.refused.swap(0, Ordering::Relaxed);
        // Who leaves spends nothing any more, whatever the store knows.
        if leaving || !share.is_cut_off() {
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

fn tell(waiting: Vec<oneshot::Sender<()>>) {
    for waiter in waiting {
        // Who has gone need not be told.
        let _ = waiter.send(());
    }
}

/// Configures a [`Leased`] limit.
#[must_use]
pub struct LeasedBuilder {
    store: Arc<dyn Store>,
    namespace: Namespace,
    limit: u64,
    window: Duration,
    period: Option<Duration>,
    deadline: Option<Duration>,
    processes: Option<u64>,
    on_outage: OnOutage,
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

    /// How many processes there are, at most. A process that is asked for a key for the first time while the store does not
    /// answer then takes a part of the limit by this number; without it, it refuses. Those who had asked before keep all of
    /// theirs, so together that may be more than the limit. Default: it refuses, so that the limit holds.
    pub fn processes(self, processes: u64) -> Self {
        Self { processes: Some(processes), ..self }
    }

    /// What decides while the store is down. Default: [`OnOutage::FairShare`], which here is exact: what this process held
    /// and had spent in a window; [`OnOutage::LastKnown`] is the same. The others give up the limit for the time of the
    /// outage, and tell the store afterwards what was spent.
    pub fn on_outage(self, policy: OnOutage) -> Self {
        Self { on_outage: policy, ..self }
    }

    /// For how many keys there is room. Beyond that calls of new keys are refused. Default: 100,000.
    pub fn max_keys(self, max_keys: usize) -> Self {
        Self { max_keys, ..self }
    }

    /// Keeps the keys of this limit from those of other limits in the same store: two limits on the requests of a tenant,
    /// one per second and one per hour, need two namespaces. The same for all processes. At most 64 bytes. Default: none.
    pub fn namespace(self, namespace: impl Into<String>) -> Self {
        Self { namespace: Namespace(namespace.into()), ..self }
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
        let Self { store, namespace, limit, window, period, deadline, processes, on_outage, max_keys, random } = self;
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
        if processes == Some(0) {
            return Err(ConfigError::new("rate_limit.processes", 0, "must be at least 1"));
        }
        if let OnOutage::Local(quota) = &on_outage {
            quota.check()?;
        }
        let now = Instant::now();
        namespace.check()?;
        let report_for = period.mul_f64(1.2).saturating_add(store.returns_within()).min(LONGEST_RETURN);
        let shared = Arc::new(Shared {
            store,
            namespace,
            limit,
            window,
            period,
            deadline,
            random,
            report_for,
            clients: Random::new(),
            processes,
            on_outage,
            origin: Origin::at(now),
            entries: Entries::new(max_keys),
            newcomers: Mutex::default(),
            hurry: Notify::new(),
            // Each key has a time of its own in which all report.
            health: Health::new(now, Duration::ZERO),
        });
        let handle = Arc::new(Handle(shared.clone()));
        let (running, handles) = (Running(shared.clone()), Arc::downgrade(&handle));
        let flusher = Flusher::new(async move {
            let _running = running;
            shared.run(handles).await;
        });
        Ok((Leased { handle }, flusher))
    }
}

impl fmt::Debug for Leased {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Shared { limit, window, .. } = self.shared();
        f.debug_struct("Leased").field("limit", limit).field("window", window).finish_non_exhaustive()
    }
}

impl fmt::Debug for Spent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Spent").field("tokens", &self.tokens).finish_non_exhaustive()
    }
}

impl fmt::Debug for Newcomer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Newcomer").field("tokens", &self.tokens).finish_non_exhaustive()
    }
}

impl fmt::Debug for LeasedBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LeasedBuilder")
            .field("limit", &self.limit)
            .field("window", &self.window)
            .finish_non_exhaustive()
    }
}
