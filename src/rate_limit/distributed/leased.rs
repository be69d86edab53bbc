use super::{
    engine::Readings,
    entries::Entries,
    flusher::Flusher,
    health::{Health, LONGEST_RETURN},
    leasing::{Entry, Handle, Shared},
    namespace::Namespace,
    outage::OnOutage,
    settings::{self, common_settings},
    store::Store,
};
use crate::{
    answer::make_room,
    clock::Origin,
    error::{ConfigError, RateLimited, check_duration},
    random::Random,
    rate_limit::Admission,
    sync::{AtomicU64, Mutex, Ordering, lock},
};
use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    sync::{Notify, oneshot},
    time::{Instant, timeout_at},
};

/// A limit that many processes keep together: at most `limit` tokens in any window, for each key, by all processes.
///
/// Each process holds a small credit for each key in use, and takes tokens from it in one step, without asking the
/// store. In the background its [`Flusher`] tells the store what was spent and when, gives back what is not needed, and
/// takes as much as the demand of the last period asks for. Tokens that a process holds count as spent for all others,
/// so the limit is never exceeded in any window, however the demand moves between processes.
///
/// # When the store does not answer
///
/// A process goes on with what it holds, and with what it spent itself, a window after it spent it. That is its share
/// at the moment it was cut off, and all shares together are the limit. When the store answers again, a process first
/// reports what it spent meanwhile. It takes nothing until the others had the time to report too: for 1.2 periods, and
/// for the time that the store [takes](Store::returns_within) to be reached again. Where a store comes and goes within
/// less than that, little is admitted, and never too much.
///
/// # Cost
///
/// To admit or refuse: two hashes, one short lock of one of 16 parts of the table, one compare-and-swap. No clock, no
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

/// The tokens that an admitted call has taken of a [`Leased`] limit. Dropping it spends them.
pub struct Spent {
    /// Of what, and when by the flusher's last look at the clock. None where the call costs nothing, or was admitted
    /// beyond what this process holds.
    pub(super) taken: Option<(Arc<Entry>, u64)>,
    pub(super) tokens: u64,
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
    /// no time where the cost is above the limit, or the key longer than [`LONGEST_KEY`](super::LONGEST_KEY).
    pub fn try_acquire(&self, key: &[u8], tokens: u64) -> Result<Spent, RateLimited> {
        if tokens == 0 {
            return Ok(Spent { taken: None, tokens });
        }
        let entry = self.shared().entry(key, tokens)?;
        self.shared().take(&entry, tokens)
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
                self.shared().take(&newcomer.entry, tokens)
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
                let gone = make_room(&mut state.waiting, oneshot::Sender::is_closed);
                state.waiting.push(sender);
                drop(state);
                drop(gone);
                let give_up_at = now() + shared.deadline;
                return Admission::Waits(Newcomer { entry, tokens, settled, give_up_at });
            }
        }
        match shared.take(&entry, tokens) {
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
        Poll::Ready(self.shared().take(&newcomer.entry, newcomer.tokens))
    }

    pub(super) fn deadline(&self) -> Duration {
        self.shared().deadline
    }

    /// The limit, and the window.
    pub(in crate::rate_limit) fn terms(&self) -> (u64, Duration) {
        (self.shared().limit, self.shared().window)
    }

    fn shared(&self) -> &Shared {
        &self.handle.0
    }

    /// Makes another flusher, for a runtime that may outlive that of the first. One works at a time, and the others wait for
    /// their turn: see [`Flusher::run`]. Allocates the flusher; nothing happens before it runs.
    ///
    /// After a time without a flusher the limit goes on as after an outage. The process tells the store what it spent
    /// meanwhile, and takes more 1.2 periods later.
    pub fn flusher(&self) -> Flusher {
        self.handle.flusher()
    }

    /// Gives back what was taken for a call that then was not made, if it was not long ago: as long as it counts as spent, but
    /// for a period and a 40th of the window. What was admitted beyond what this process holds, in an outage, is not
    /// given back.
    pub fn refund(&self, spent: Spent) {
        let Some((entry, at)) = spent.taken else { return };
        let Shared { window, period, origin, .. } = self.shared();
        let age = Duration::from_nanos(origin.nanos_to(Instant::now()).saturating_sub(at));
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
            store: shared.health.read(&*shared.store, Instant::now()),
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

    /// How many processes there are, at most. A process that is asked for a key for the first time while the store does
    /// not answer then takes a part of the limit by this number; without it, it refuses. Processes that had asked
    /// before keep all of theirs, so together that may be more than the limit. Default: it refuses, so that the limit
    /// holds.
    pub fn processes(self, processes: u64) -> Self {
        Self { processes: Some(processes), ..self }
    }

    /// How this process decides while the store is down. Default: [`OnOutage::FairShare`], which here is exact: the
    /// tokens that this process held and had spent in a window. [`OnOutage::LastKnown`] is the same. The other policies
    /// give up the limit for the time of the outage, and the processes report to the store afterwards.
    pub fn on_outage(self, policy: OnOutage) -> Self {
        Self { on_outage: policy, ..self }
    }

    common_settings!();

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
        settings::check(&namespace, processes, &on_outage, max_keys)?;
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
        let now = Instant::now();
        let report_for = period.mul_f64(1.2).saturating_add(store.returns_within().min(LONGEST_RETURN));
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
            looked: AtomicU64::new(0),
            entries: Entries::new(max_keys),
            newcomers: Mutex::default(),
            hurry: Notify::new(),
            // Each key has a time of its own in which all report.
            health: Health::new(now, Duration::ZERO),
            shifts: Default::default(),
        });
        let handle = Arc::new(Handle(shared));
        let flusher = handle.flusher();
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
