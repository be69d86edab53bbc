use super::{
    entries::Entries,
    flights::Flights,
    flusher::{Flusher, Shifts},
    health::Health,
    leased::Spent,
    level::Level,
    namespace::Namespace,
    outage::{Local, OnOutage, Share as Part},
    share::{Share, Terms},
    store::{Demand, LARGEST_BATCH, LONGEST_KEY, Store, ask},
};
use crate::{
    answer::answer,
    clock::Origin,
    error::RateLimited,
    random::Random,
    rate_limit::Quota,
    sync::{AtomicU64, Mutex, Ordering, lock},
};
use rand::RngExt;
use std::{
    cell::Cell,
    future::poll_fn,
    mem,
    ops::Range,
    sync::{Arc, Weak},
    time::Duration,
};
use tokio::{
    sync::{Notify, oneshot},
    time::{Instant, timeout_at},
};

/// What all handles of a [`Leased`](super::Leased) limit share, and what carries its accounts to the store and back.
pub(super) struct Shared {
    pub(super) store: Arc<dyn Store>,
    pub(super) namespace: Namespace,
    pub(super) limit: u64,
    pub(super) window: Duration,
    pub(super) period: Duration,
    pub(super) deadline: Duration,
    pub(super) random: Random,
    /// Draws the numbers of processes: of the operating system's, so that no two processes have the same one.
    pub(super) clients: Random,
    /// When the store answers again, so long nothing is taken of it: all others report in that time.
    pub(super) report_for: Duration,
    pub(super) processes: Option<u64>,
    pub(super) on_outage: OnOutage,
    pub(super) origin: Origin,
    /// When the flusher last looked at the clock, in nanoseconds: whoever takes tokens does not, and is taken to have done it
    /// then, earlier than it was. Relaxed: it guards no other memory.
    pub(super) looked: AtomicU64,
    pub(super) entries: Entries<Entry>,
    /// The keys that the store was never asked for, and that there are some.
    pub(super) newcomers: Mutex<Vec<Arc<Entry>>>,
    pub(super) hurry: Notify,
    pub(super) health: Health,
    pub(super) shifts: Shifts,
}

/// One key in use.
pub(super) struct Entry {
    pub(super) key: Arc<[u8]>,
    /// The tokens that may be spent without asking. Relaxed throughout: it guards no other memory.
    pub(super) credit: AtomicU64,
    /// The tokens that were asked for in vain since the store was last asked.
    pub(super) refused: AtomicU64,
    /// The tokens that were admitted beyond the credit, since the books were last brought up to date.
    pub(super) beyond: AtomicU64,
    pub(super) terms: Terms,
    pub(super) state: Mutex<State>,
}

pub(super) struct State {
    pub(super) share: Share,
    /// It is in a batch that is on its way.
    pub(super) is_asked: bool,
    /// Decides in an outage, where the policy has a quota of its own.
    pub(super) local: Local,
    /// Who waits for the store to answer for this key for the first time.
    pub(super) waiting: Vec<oneshot::Sender<()>>,
}

impl Shared {
    /// The entry of a key, for somebody who wants so many tokens.
    pub(super) fn entry(&self, key: &[u8], tokens: u64) -> Result<Arc<Entry>, RateLimited> {
        if key.len() > LONGEST_KEY {
            return Err(RateLimited::long_key(key.len(), LONGEST_KEY));
        }
        if tokens > self.limit {
            return Err(RateLimited::new(None));
        }
        let is_new = Cell::new(false);
        let make = |key, name| {
            is_new.set(true);
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
        };
        let own = self.entries.get(
            key,
            |entry| self.is_idle(entry),
            |key| {
                let name = self.namespace.name(&key);
                make(key, name)
            },
        );
        let entry = own.unwrap_or_else(|| self.entries.shared(|key| make(key, self.namespace.shared_name())));
        if is_new.get() {
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
        let mut batch = Batch { shared: &self, entries: batch };
        let sent = Instant::now();
        let answer = ask(|| self.store.settle(&demands), batch.entries.len(), self.deadline).await;
        let now = Instant::now();
        self.health.note(&answer, sent, self.deadline, now);
        self.health.look(now);
        let Ok(settled) = answer else { return };
        for (entry, settled) in mem::take(&mut batch.entries).iter().zip(&settled) {
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
    pub(super) fn take(&self, entry: &Arc<Entry>, tokens: u64) -> Result<Spent, RateLimited> {
        if !self.health.decides() {
            if let Some(verdict) = self.take_beyond(entry, tokens) {
                return verdict;
            }
        }
        let enough = |credit: u64| credit.checked_sub(tokens);
        match entry.credit.fetch_update(Ordering::Relaxed, Ordering::Relaxed, enough) {
            Ok(_) => Ok(Spent { taken: Some((entry.clone(), self.looked.load(Ordering::Relaxed))), tokens }),
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

    /// Whether no call asked for it, nothing is held of it, and nothing of its quota for outages is spent.
    fn is_idle(&self, entry: &Entry) -> bool {
        let state = lock(&entry.state);
        // Not later than it is.
        let now = self.looked.load(Ordering::Relaxed);
        state.share.is_idle()
            && state.local.is_idle(&self.on_outage, now)
            && entry.beyond.load(Ordering::Relaxed) == 0
            && entry.refused.load(Ordering::Relaxed) == 0
            && entry.credit.load(Ordering::Relaxed) == 0
    }

    /// Forgets a key that nobody asked for, once nothing is held of it.
    fn forget_if_idle(&self, entry: &Entry) -> bool {
        self.entries.forget_if(&entry.key, |entry| self.is_idle(entry))
    }

    /// Takes up what the previous flusher left: after a time without a flusher, no key has an answer of the store.
    fn take_over(&self) {
        if self.shifts.begin(&self.health) {
            self.entries.all().iter().for_each(|entry| self.cut_off(entry));
        }
    }

    /// Settles with the store every period, at a phase of its own, until the last handle of the limit is dropped; then gives
    /// back what is held.
    pub(super) async fn run(self: Arc<Self>, handle: Weak<Handle>) {
        let draw = |range: Range<f64>| self.random.with(|random| random.random_range(range));
        let mut next = Instant::now() + self.period.mul_f64(draw(0.0..1.0));
        let mut look = Instant::now();
        while handle.strong_count() > 0 {
            let now = Instant::now();
            self.health.look(now);
            self.looked.store(self.origin.nanos_to(now), Ordering::Relaxed);
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

/// The keys that are on their way to the store. Dropped on the way, or without an answer, they are cut off.
struct Batch<'a> {
    shared: &'a Shared,
    entries: Vec<Arc<Entry>>,
}

impl Drop for Batch<'_> {
    fn drop(&mut self) {
        self.entries.iter().for_each(|entry| self.shared.cut_off(entry));
    }
}

/// Alive while a flusher is. Without any no task asks the store, so no call waits for it.
struct Running(Arc<Shared>);

impl Drop for Running {
    fn drop(&mut self) {
        if !self.0.shifts.remove(&self.0.health) {
            return;
        }
        for entry in self.0.entries.all() {
            let waiting = mem::take(&mut lock(&entry.state).waiting);
            tell(waiting);
        }
    }
}

/// Alive while somebody has the limit in hand. The flusher ends with it.
pub(super) struct Handle(pub(super) Arc<Shared>);

impl Handle {
    pub(super) fn flusher(self: &Arc<Self>) -> Flusher {
        let (shared, handles) = (self.0.clone(), Arc::downgrade(self));
        shared.shifts.add();
        let running = Running(shared.clone());
        Flusher::new(async move {
            let _running = running;
            let _turn = shared.shifts.turn().await;
            shared.take_over();
            shared.clone().run(handles).await;
        })
    }
}

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
        // One that has gone need not be told.
        answer(waiter, ());
    }
}
