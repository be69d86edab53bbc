use super::{
    books::{Books, Owner, Wants},
    entries::Entries,
    flights::Flights,
    flusher::{Flusher, Shifts},
    health::{Health, LONGEST_RETURN, StoreHealth},
    namespace::Namespace,
    outage::{OnOutage, Share},
    settings,
    store::{Charge, Charged, Hint, LARGEST_BATCH, LONGEST_KEY, Store, StoreError, ask},
};
use crate::{
    answer::{answer, make_room},
    clock::Origin,
    error::{ConfigError, RateLimited},
    random::Random,
    rate_limit::Quota,
    sync::{AtomicU64, Mutex, MutexGuard, Ordering, lock},
};
use rand::RngExt;
use std::{
    collections::VecDeque,
    future::poll_fn,
    mem,
    ops::Range,
    pin::pin,
    sync::{Arc, Weak},
    task::Poll,
    time::Duration,
};
use tokio::{
    sync::{Notify, oneshot},
    time::{Instant, sleep_until},
};

/// What [`Exact`](super::Exact) and [`WriteBehind`](super::WriteBehind) have in common: the books of each key, and what
/// carries them to the store and back.
pub(super) struct Engine {
    pub(super) store: Arc<dyn Store>,
    pub(super) quota: Mutex<Quota>,
    /// How long the store has to answer.
    pub(super) deadline: Duration,
    pub(super) pace: Pace,
    pub(super) owner: Owner,
    pub(super) on_outage: OnOutage,
    pub(super) random: Random,
    pub(super) origin: Origin,
    namespace: Namespace,
    pub(super) entries: Entries<Entry>,
    pub(super) health: Health,
    /// The keys of which there is something to tell or to ask.
    queue: Mutex<VecDeque<Arc<Entry>>>,
    /// Counts what the store was told, of all keys: a key that was forgotten and comes again goes on counting.
    told: AtomicU64,
    pub(super) hurry: Notify,
    pub(super) shifts: Shifts,
}

/// When the store is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pace {
    /// As soon as there is something to ask and fewer than two calls are under way; when it is down, each so often.
    AtOnce { probe: Duration },
    /// Each so often.
    Each(Duration),
}

impl Pace {
    pub(super) fn period(self) -> Duration {
        match self {
            Self::AtOnce { probe: period } | Self::Each(period) => period,
        }
    }
}

/// One key in use.
pub(super) struct Entry {
    pub(super) key: Arc<[u8]>,
    /// Its name in the store.
    name: Arc<[u8]>,
    pub(super) state: Mutex<State>,
}

pub(super) struct State {
    pub(super) books: Books,
    /// Who wants tokens of the store, in order of arrival.
    waiting: Vec<Waiter>,
    is_queued: bool,
}

impl State {
    /// Whether nothing is left that a new entry would not know.
    fn is_idle(&mut self, policy: &OnOutage, quota: &Quota, now: u64) -> bool {
        !self.is_queued && self.waiting.is_empty() && self.books.is_idle(policy, quota, now)
    }
}

struct Waiter {
    tokens: u64,
    verdict: oneshot::Sender<Verdict>,
}

/// What comes of asking the store.
#[derive(Clone, Copy, Debug)]
pub(super) enum Verdict {
    /// At this time by the store's clock.
    Granted {
        at: Duration,
    },
    Refused {
        retry_after: Duration,
    },
    /// The store did not answer.
    Unanswered,
}

/// Charges on their way to the store. A batch that is dropped on the way, with its flusher, has failed.
struct Batch {
    charges: Vec<Charge>,
    /// The entry of each charge, and who waits for the answer. None for a probe.
    asking: Vec<(Arc<Entry>, Vec<Waiter>)>,
    sent: Instant,
}

impl Drop for Batch {
    fn drop(&mut self) {
        for ((entry, _), charge) in self.asking.iter().zip(&self.charges) {
            lock(&entry.state).books.failed(charge);
        }
    }
}

/// How a limit is doing.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Readings {
    /// How the store answers, and what an operator should know of it.
    pub store: StoreHealth,
    /// The number of keys in memory.
    pub keys: usize,
    /// The tokens of all keys that were admitted without asking and that the store has not confirmed to have counted.
    /// In an outage it grows by all that is admitted, although the store is later told only the part that has not
    /// drained.
    pub unflushed: u64,
    /// The most tokens that any key had above its burst, its debt included, by the answers of the store. After an
    /// outage it shows the largest [debt](super::ExactBuilder::max_debt) of a key.
    pub overshoot: u64,
}

/// What an engine is made of.
pub(super) struct Parts {
    pub(super) store: Arc<dyn Store>,
    pub(super) namespace: Namespace,
    pub(super) quota: Quota,
    pub(super) deadline: Duration,
    pub(super) pace: Pace,
    pub(super) max_debt: u64,
    pub(super) processes: u64,
    pub(super) on_outage: OnOutage,
    pub(super) random: Random,
    pub(super) max_keys: usize,
}

impl Parts {
    /// Checks what is common, and makes an engine and what has to run for it.
    pub(super) fn build(self) -> Result<(Arc<Handle>, Flusher), ConfigError> {
        settings::check(&self.namespace, Some(self.processes), &self.on_outage, self.max_keys)?;
        self.quota.check()?;
        if self.max_debt > MOST_DEBT {
            return Err(ConfigError::new("rate_limit.max_debt", self.max_debt, "must be at most 2^55"));
        }
        let engine = Arc::new(Engine::new(self));
        let handle = Arc::new(Handle(engine));
        let flusher = handle.flusher();
        Ok((handle, flusher))
    }
}

const MOST_DEBT: u64 = 1 << 55;

impl Engine {
    fn new(parts: Parts) -> Self {
        let Parts { store, namespace, quota, deadline, pace, max_debt, processes, on_outage, random, max_keys } = parts;
        let now = Instant::now();
        let report_for = pace.period().mul_f64(2.5).saturating_add(store.returns_within().min(LONGEST_RETURN));
        // Of the operating system's, so that no two processes have the same one, whatever they are seeded with.
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
            // The others find out within a period that the store is back, and have told it by the end of the next.
            health: Health::new(now, report_for),
            queue: Mutex::default(),
            told: AtomicU64::new(0),
            hurry: Notify::new(),
            shifts: Shifts::default(),
        }
    }

    pub(super) fn quota(&self) -> Quota {
        *lock(&self.quota)
    }

    /// The entry of a key for somebody who wants so many tokens of this quota's.
    pub(super) fn entry(
        &self,
        key: &[u8],
        tokens: u64,
        quota: &Quota,
        now: Instant,
    ) -> Result<Arc<Entry>, RateLimited> {
        if key.len() > LONGEST_KEY {
            return Err(RateLimited::long_key(key.len(), LONGEST_KEY));
        }
        if tokens > quota.burst() {
            return Err(RateLimited::new(None));
        }
        let now = self.origin.nanos_to(now);
        let state = || Mutex::new(State { books: Books::new(quota, now), waiting: Vec::new(), is_queued: false });
        let own = self.entries.get(
            key,
            |entry| lock(&entry.state).is_idle(&self.on_outage, quota, now),
            |key| Entry { name: self.namespace.name(&key), key, state: state() },
        );
        Ok(own.unwrap_or_else(|| {
            self.entries.shared(|key| Entry { name: self.namespace.shared_name(), key, state: state() })
        }))
    }

    /// Whether there will be too few tokens at `due`, by what the store said last. Nothing changes by asking. What this
    /// process decides in an outage it cannot tell.
    pub(super) fn would_refuse(&self, key: &[u8], tokens: u64, due: Instant) -> bool {
        let quota = self.quota();
        if tokens == 0 {
            return false;
        }
        if key.len() > LONGEST_KEY || tokens > quota.burst() {
            return true;
        }
        if !self.health.decides() {
            return false;
        }
        self.entries.find(key).is_some_and(|entry| {
            let books = &lock(&entry.state).books;
            books.room_at(&quota, self.origin.nanos_to(due)) < books.unflushed().saturating_add(tokens)
        })
    }

    /// Decides by what this process knows, as the policy for outages says.
    pub(super) fn decide_alone(
        &self,
        entry: &Arc<Entry>,
        state: &mut State,
        quota: &Quota,
        tokens: u64,
        now: Instant,
    ) -> Result<Option<u64>, RateLimited> {
        let outage = (!self.health.decides()).then(|| self.health.outage());
        let processes = self.owner.processes;
        let now = self.origin.nanos_to(now);
        match state.books.take_alone(&self.on_outage, quota, tokens, now, outage, processes) {
            Ok(()) => {
                self.queue(entry, state);
                Ok(outage)
            }
            Err(wait) => {
                let wait = wait.map_or(self.pace.period(), Duration::from_nanos);
                Err(RateLimited::new(Some(wait)))
            }
        }
    }

    /// Asks the store for tokens.
    pub(super) fn ask(
        &self,
        entry: &Arc<Entry>,
        mut state: MutexGuard<'_, State>,
        tokens: u64,
    ) -> oneshot::Receiver<Verdict> {
        let (verdict, receiver) = oneshot::channel();
        let gone = make_room(&mut state.waiting, |waiter| waiter.verdict.is_closed());
        state.waiting.push(Waiter { tokens, verdict });
        self.queue(entry, &mut state);
        drop(state);
        drop(gone);
        receiver
    }

    /// There is something to ask or to tell of this key.
    pub(super) fn queue(&self, entry: &Arc<Entry>, state: &mut State) {
        if !mem::replace(&mut state.is_queued, true) {
            lock(&self.queue).push_back(entry.clone());
            if matches!(self.pace, Pace::AtOnce { .. }) {
                self.hurry.notify_one();
            }
        }
    }

    /// This process's part of what was admitted of a key of late.
    pub(super) fn share(&self, key: &[u8], now: Instant) -> Share {
        let (quota, processes) = (self.quota(), self.owner.processes);
        match self.entries.find(key) {
            Some(entry) => lock(&entry.state).books.share(&quota, processes, self.origin.nanos_to(now)),
            None => Share::of(1, processes),
        }
    }

    pub(super) fn read(&self, now: Instant) -> Readings {
        let entries = self.entries.all();
        let mut readings =
            Readings { store: self.health.read(&*self.store, now), keys: entries.len(), unflushed: 0, overshoot: 0 };
        for entry in entries {
            let state = lock(&entry.state);
            readings.unflushed = readings.unflushed.saturating_add(state.books.unflushed());
            readings.overshoot = readings.overshoot.max(state.books.overshoot());
        }
        readings
    }

    /// What to ask next, if there is anything, of at most so many keys that are queued.
    fn next_batch(&self, now: Instant, keys: &mut usize) -> Option<Batch> {
        let quota = self.quota();
        let mut batch = Batch { charges: Vec::new(), asking: Vec::new(), sent: now };
        while batch.charges.len() < LARGEST_BATCH && *keys > 0 {
            let Some(entry) = lock(&self.queue).pop_front() else {
                *keys = 0;
                break;
            };
            *keys -= 1;
            let mut state = lock(&entry.state);
            state.is_queued = false;
            // One that has gone meanwhile wants nothing. It is dropped without the lock: its waker may go with it.
            let (gone, waiters): (Vec<_>, Vec<_>) =
                mem::take(&mut state.waiting).into_iter().partition(|waiter| waiter.verdict.is_closed());
            if waiters.is_empty() && !state.books.has_news() {
                drop(state);
                drop(gone);
                continue;
            }
            let wants = Wants {
                want: waiters.iter().fold(0, |sum: u64, waiter| sum.saturating_add(waiter.tokens)),
                least: waiters.iter().map(|waiter| waiter.tokens).min().unwrap_or(0),
            };
            let sequence = self.told.fetch_add(1, Ordering::Relaxed) + 1;
            let now = self.origin.nanos_to(now);
            batch.charges.push(state.books.charge(&entry.name, &quota, &self.owner, wants, sequence, now));
            drop(state);
            batch.asking.push((entry, waiters));
        }
        (!batch.charges.is_empty()).then_some(batch)
    }

    /// Asks whether a store that failed can do what it has to: it writes a token to a key of nobody's.
    fn probe(&self, now: Instant) -> Batch {
        let quota = Quota::new(1, Duration::from_millis(1));
        let probe = Charge {
            key: Arc::from(&b"steadfast probes whether the store is back"[..]),
            quota,
            client: self.owner.client,
            sequence: 0,
            spent: 0,
            late: 0,
            max_debt: 0,
            refund: 0,
            refund_of: Duration::ZERO,
            want: 1,
            least: 1,
            hint: Hint::default(),
        };
        Batch { charges: vec![probe], asking: Vec::new(), sent: now }
    }

    async fn fly(store: Arc<dyn Store>, batch: Batch, deadline: Duration) -> (Batch, Result<Vec<Charged>, StoreError>) {
        let answer = ask(|| store.charge(&batch.charges), batch.charges.len(), deadline).await;
        (batch, answer)
    }

    /// A batch has been answered, or has not.
    fn landed(&self, mut batch: Batch, answer: Result<Vec<Charged>, StoreError>, now: Instant) {
        self.health.note(&answer, batch.sent, self.deadline, now);
        let asked = mem::take(&mut batch.asking).into_iter().zip(&batch.charges);
        match answer {
            Ok(charged) => {
                for (((entry, waiters), charge), charged) in asked.zip(&charged) {
                    self.answered(&entry, waiters, charge, charged, batch.sent, now);
                }
            }
            Err(_) => {
                for ((entry, waiters), charge) in asked {
                    let mut state = lock(&entry.state);
                    state.books.failed(charge);
                    if state.books.has_news() {
                        self.queue(&entry, &mut state);
                    }
                    drop(state);
                    tell_unanswered(waiters);
                }
                if !self.health.decides() {
                    self.let_nobody_wait();
                }
            }
        }
    }

    /// Nobody waits for a store that is down.
    fn let_nobody_wait(&self) {
        let queue = lock(&self.queue).clone();
        for entry in queue {
            let waiting = mem::take(&mut lock(&entry.state).waiting);
            tell_unanswered(waiting);
        }
    }

    fn answered(
        &self,
        entry: &Arc<Entry>,
        waiters: Vec<Waiter>,
        charge: &Charge,
        charged: &Charged,
        sent: Instant,
        now: Instant,
    ) {
        let mut state = lock(&entry.state);
        let (sent, now) = (self.origin.nanos_to(sent), self.origin.nanos_to(now));
        let asked = match self.pace {
            // Who is refused by it would be refused by the store.
            Pace::AtOnce { .. } => Some(sent),
            // Who is admitted by it would be admitted by the store, if nobody else spends.
            Pace::Each(_) => None,
        };
        state.books.answered(charge, charged, asked, now);
        // More than it was asked for is granted by no store that is right.
        let mut left = charged.granted.min(charge.want);
        let judge = |Waiter { tokens, verdict }| {
            // What is granted is for those who are there.
            let answer = if tokens <= left && !verdict.is_closed() {
                left -= tokens;
                Verdict::Granted { at: charged.at }
            } else {
                let wait = state.books.until_room(&charge.quota, tokens, now);
                Verdict::Refused { retry_after: Duration::from_nanos(wait) }
            };
            (tokens, verdict, answer)
        };
        let judged: Vec<_> = waiters.into_iter().map(judge).collect();
        drop(state);
        for (tokens, verdict, judgement) in judged {
            let granted = matches!(judgement, Verdict::Granted { .. });
            // Some have gone meanwhile.
            if !answer(verdict, judgement) && granted {
                left += tokens;
            }
        }
        let mut state = lock(&entry.state);
        let left = state.books.pay(left, &charge.quota, now);
        state.books.refund(left, charged.at);
        if state.books.has_news() || !state.waiting.is_empty() {
            self.queue(entry, &mut state);
        }
    }

    /// Forgets the keys of which nothing is left to know.
    fn forget_the_idle(&self, now: Instant) {
        let quota = self.quota();
        let now = self.origin.nanos_to(now);
        for entry in self.entries.all() {
            self.entries.forget_if(&entry.key, |entry| lock(&entry.state).is_idle(&self.on_outage, &quota, now));
        }
    }

    /// Takes up what the previous flusher left: keys whose news it had on the way, and perhaps a time without a flusher.
    fn take_over(&self) {
        self.shifts.begin(&self.health);
        for entry in self.entries.all() {
            let mut state = lock(&entry.state);
            if state.books.has_news() {
                self.queue(&entry, &mut state);
            }
        }
    }

    /// Carries everything between this process and the store, until there is no handle any more; then tells what is left to
    /// tell.
    pub(super) async fn run(self: Arc<Self>, handle: Weak<Handle>) {
        let draw = |range: Range<f64>| self.random.with(|random| random.random_range(range));
        let mut flights = Flights::new();
        let mut tick = Instant::now() + self.pace.period().mul_f64(draw(0.0..1.0));
        let mut sweep = Instant::now() + SWEEP;
        // So many of the keys that are queued leave now.
        let mut leaving = 0;
        while handle.strong_count() > 0 {
            let now = Instant::now();
            self.health.look(now);
            if sweep <= now {
                self.forget_the_idle(now);
                sweep = now + SWEEP;
            }
            let ticks = tick <= now;
            if ticks {
                tick = now + self.pace.period().mul_f64(draw(0.9..1.1));
            }
            let is_down = self.health.is_down();
            match self.pace {
                _ if is_down => leaving = 0,
                Pace::AtOnce { .. } => leaving = usize::MAX,
                Pace::Each(_) if ticks => leaving = lock(&self.queue).len(),
                Pace::Each(_) => {}
            }
            if is_down && ticks && flights.are_done() {
                // Not by the keys that are in use: what is wrong may be wrong with one of them alone.
                flights.start(Self::fly(self.store.clone(), self.probe(now), self.deadline));
            }
            while flights.has_room() {
                let Some(batch) = self.next_batch(now, &mut leaving) else { break };
                flights.start(Self::fly(self.store.clone(), batch, self.deadline));
            }
            let at_once = !is_down && matches!(self.pace, Pace::AtOnce { .. });
            let wake = if at_once { sweep } else { tick.min(sweep) };
            let wake = self.health.decides_from().map_or(wake, |from| wake.min(from));
            let (mut hurry, mut sleep) = (pin!(self.hurry.notified()), pin!(sleep_until(wake)));
            let landed = poll_fn(|cx| {
                if let Poll::Ready(landed) = flights.poll_next(cx) {
                    return Poll::Ready(Some(landed));
                }
                if hurry.as_mut().poll(cx).is_ready() || sleep.as_mut().poll(cx).is_ready() {
                    return Poll::Ready(None);
                }
                Poll::Pending
            });
            if let Some((batch, answer)) = landed.await {
                let now = Instant::now();
                self.landed(batch, answer, now);
                if !is_down && self.health.is_down() {
                    tick = now + self.pace.period().mul_f64(draw(0.9..1.1));
                }
            }
        }
        while !flights.are_done() {
            let (batch, answer) = poll_fn(|cx| flights.poll_next(cx)).await;
            self.landed(batch, answer, Instant::now());
        }
        while let Some(batch) = self.next_batch(Instant::now(), &mut usize::MAX.clone()) {
            let (batch, answer) = Self::fly(self.store.clone(), batch, self.deadline).await;
            let is_lost = answer.is_err();
            self.landed(batch, answer, Instant::now());
            if is_lost {
                break;
            }
        }
    }
}

/// So often the keys are looked through for those that can be forgotten.
const SWEEP: Duration = Duration::from_secs(5);

fn tell_unanswered(waiters: Vec<Waiter>) {
    for waiter in waiters {
        // One that has gone need not be told.
        answer(waiter.verdict, Verdict::Unanswered);
    }
}

/// Alive while a flusher is. Without any no task asks the store, so no call waits for it.
struct Running(Arc<Engine>);

impl Drop for Running {
    fn drop(&mut self) {
        if self.0.shifts.remove(&self.0.health) {
            self.0.let_nobody_wait();
        }
    }
}

/// Alive while somebody has the limit in hand. The flusher ends with it.
pub(super) struct Handle(pub(super) Arc<Engine>);

impl Handle {
    pub(super) fn flusher(self: &Arc<Self>) -> Flusher {
        let (engine, handles) = (self.0.clone(), Arc::downgrade(self));
        engine.shifts.add();
        let running = Running(engine.clone());
        Flusher::new(async move {
            let _running = running;
            let _turn = engine.shifts.turn().await;
            engine.take_over();
            engine.clone().run(handles).await;
        })
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.0.hurry.notify_one();
    }
}
