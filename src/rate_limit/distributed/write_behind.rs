use super::{
    engine::{Engine, Entry, Handle, Pace, Parts, Readings},
    flusher::Flusher,
    namespace::Namespace,
    outage::OnOutage,
    settings::common_settings,
    store::Store,
};
use crate::{
    clock,
    error::{ConfigError, RateLimited, check_duration},
    random::Random,
    rate_limit::Quota,
    sync::lock,
};
use std::{fmt, sync::Arc, time::Duration};
use tokio::time::Instant;

/// A limit that many processes keep together without ever waiting for the store. Each process admits by the last known
/// level of a key's bucket and by what it has admitted since, and tells the store in the background.
///
/// Two bounds limit the tokens that a process may admit between two answers: its share of what was left, which is its
/// part of all that was admitted in the last four seconds; and [`max_unflushed`](WriteBehindBuilder::max_unflushed).
/// Tokens admitted beyond the burst while the store answers raise the bucket's level above it. They drain before more
/// is admitted, so that in the long run the rate holds.
///
/// By default `max_unflushed` is what the rate gives in a tenth of a second. A call that costs more is then admitted, up to the
/// burst, when this process has nothing else to tell of its key.
///
/// # Bound
///
/// While the store answers, N processes together admit in any interval of length t at most
/// `burst + rate * t + (N - 1) * max_unflushed` for a key. The last term is the
/// [`overshoot_bound`](Self::overshoot_bound). Calls that cost more than `max_unflushed` count in its place.
///
/// # When the store does not answer
///
/// A process goes on until it has `max_unflushed` tokens to tell. After three failures in a row it decides as
/// [`OnOutage`] says, and asks each period whether the store is back. When it is, the process reports the part of what
/// it admitted that has not drained since. It goes on by itself for two and a half periods, and for the time that the
/// store [takes](super::Store::returns_within) to be reached again, in which all others report too. Tokens that do not
/// fit below the burst are a [debt](WriteBehindBuilder::max_debt). Two fifths of the rate repay it.
///
/// # Cost
///
/// Two hashes, three short locks, one reading of the clock; no allocation for a known key but for the list of those of which
/// there is something to tell. Per period a batch to the store for each 64 keys in which something was spent.
///
/// # Cancellation
///
/// No call waits for anything.
#[derive(Clone)]
pub struct WriteBehind {
    handle: Arc<Handle>,
    /// None is what the rate gives in a period.
    max_unflushed: Option<u64>,
}

impl WriteBehind {
    /// This quota for each key, kept in this store by `processes` processes at most.
    pub fn builder(store: impl Store, quota: Quota, processes: u64) -> WriteBehindBuilder {
        WriteBehindBuilder {
            store: Arc::new(store),
            namespace: Namespace::default(),
            quota,
            period: Duration::from_millis(100),
            deadline: None,
            processes,
            max_unflushed: None,
            max_debt: None,
            on_outage: OnOutage::default(),
            max_keys: 100_000,
            random: Random::new(),
        }
    }

    /// Takes `tokens` of this key's, all or none.
    ///
    /// # Errors
    ///
    /// [`RateLimited`] where there are too few, with the time until there may be enough: until the bucket has drained, or
    /// until what was admitted has been told. With no time where the cost is above the burst or above a `max_unflushed` that
    /// was set, or the key longer than [`LONGEST_KEY`](super::LONGEST_KEY).
    pub fn try_acquire(&self, key: &[u8], tokens: u64) -> Result<Noted, RateLimited> {
        self.try_acquire_at(key, tokens, Instant::now())
    }

    /// The same, where the clock has been read.
    pub fn try_acquire_at(&self, key: &[u8], tokens: u64, now: Instant) -> Result<Noted, RateLimited> {
        if tokens == 0 {
            return Ok(Noted { entry: None, tokens, at: now, outage: None });
        }
        let engine = self.engine();
        let quota = self.quota();
        let max_unflushed = self.most_unflushed(&quota);
        if self.is_too_dear(tokens, max_unflushed) {
            return Err(RateLimited::new(None));
        }
        let entry = engine.entry(key, tokens, &quota, now)?;
        let mut state = lock(&entry.state);
        if !engine.health.decides() {
            let outage = engine.decide_alone(&entry, &mut state, &quota, tokens, now)?;
            drop(state);
            return Ok(Noted { entry: Some(entry), tokens, at: now, outage });
        }
        let unflushed = state.books.unflushed();
        let at = engine.origin.nanos_to(now);
        let share = state.books.share(&quota, engine.owner.processes, at);
        let known = *state.books.known(&quota, at);
        let left = known.room(quota.burst());
        if left < unflushed.saturating_add(tokens) {
            let wait = Duration::from_nanos(known.until_room(unflushed.saturating_add(tokens), quota.burst()));
            return Err(RateLimited::new(Some(wait)).with_remaining(left.saturating_sub(unflushed)));
        }
        let most = share.part_of(left).clamp(1, max_unflushed).max(tokens);
        if unflushed.saturating_add(tokens) > most {
            return Err(RateLimited::new(Some(engine.pace.period())).with_remaining(most.saturating_sub(unflushed)));
        }
        state.books.spend(tokens);
        engine.queue(&entry, &mut state);
        drop(state);
        Ok(Noted { entry: Some(entry), tokens, at: now, outage: None })
    }

    /// It cannot tell how much of its part it will have told the store by then.
    pub(super) fn would_refuse_at(&self, key: &[u8], tokens: u64, due: Instant) -> bool {
        self.is_too_dear(tokens, self.most_unflushed(&self.quota())) || self.engine().would_refuse(key, tokens, due)
    }

    /// Gives back the tokens of a call that then was not made, less what has drained since. Tokens that the process has
    /// already reported to the store stay spent.
    pub fn refund(&self, noted: Noted) {
        let Noted { entry, tokens, at, outage } = noted;
        if let Some(entry) = entry {
            let age = clock::nanos(Instant::now().saturating_duration_since(at));
            let quota = self.quota();
            lock(&entry.state).books.unspend(tokens, age, &quota, outage);
        }
    }

    /// Makes another flusher, for a runtime that may outlive that of the first. One works at a time, and the others wait for
    /// their turn: see [`Flusher::run`]. Allocates the flusher; nothing happens before it runs.
    ///
    /// After a time without a flusher the limit goes on as after an outage. The process tells the store what it admitted
    /// meanwhile, and two and a half periods later the store decides again.
    pub fn flusher(&self) -> Flusher {
        self.handle.flusher()
    }

    /// The quota.
    pub fn quota(&self) -> Quota {
        self.engine().quota()
    }

    /// Changes the quota for this process. The store counts each report by the quota of the process that sends it.
    ///
    /// # Errors
    ///
    /// As [`WriteBehindBuilder::build`].
    pub fn set_quota(&self, quota: Quota) -> Result<(), ConfigError> {
        quota.check()?;
        *lock(&self.engine().quota) = quota;
        Ok(())
    }

    /// How much more than `burst + rate * t` may be admitted in any interval of length t, by all processes together, while
    /// the store answers: `(processes - 1) * max_unflushed`, if no call costs more than that.
    pub fn overshoot_bound(&self) -> u64 {
        (self.engine().owner.processes - 1).saturating_mul(self.most_unflushed(&self.quota()))
    }

    /// This process's part of what was admitted of this key in the last four seconds. From 0 to 1.
    pub fn share(&self, key: &[u8]) -> f64 {
        let engine = self.engine();
        engine.share(key, Instant::now()).fraction()
    }

    /// How the limit is doing. It looks at every key in use.
    pub fn readings(&self) -> Readings {
        self.engine().read(Instant::now())
    }

    /// Whether a call costs more than was said may be unflushed. Where nothing was said, it may be unflushed alone.
    fn is_too_dear(&self, tokens: u64, max_unflushed: u64) -> bool {
        self.max_unflushed.is_some() && tokens > max_unflushed
    }

    fn most_unflushed(&self, quota: &Quota) -> u64 {
        most_unflushed(self.max_unflushed, quota, self.engine().pace.period())
    }

    fn engine(&self) -> &Engine {
        &self.handle.0
    }
}

/// The tokens that an admitted call has taken of a [`WriteBehind`] limit. Dropping it spends them.
pub struct Noted {
    entry: Option<Arc<Entry>>,
    tokens: u64,
    at: Instant,
    /// The outage in which this process decided by itself.
    outage: Option<u64>,
}

impl fmt::Debug for Noted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Noted").field("tokens", &self.tokens).finish_non_exhaustive()
    }
}

/// Configures a [`WriteBehind`] limit.
#[must_use]
pub struct WriteBehindBuilder {
    store: Arc<dyn Store>,
    namespace: Namespace,
    quota: Quota,
    period: Duration,
    deadline: Option<Duration>,
    processes: u64,
    max_unflushed: Option<u64>,
    max_debt: Option<u64>,
    on_outage: OnOutage,
    max_keys: usize,
    random: Random,
}

impl WriteBehindBuilder {
    /// How often this process reports to the store. Default: 100 ms.
    pub fn flush_every(self, period: Duration) -> Self {
        Self { period, ..self }
    }

    /// How long the store has to answer. Default: the period.
    pub fn deadline(self, deadline: Duration) -> Self {
        Self { deadline: Some(deadline), ..self }
    }

    /// The most tokens of a key that one process may have admitted and not told yet; so also the most that a call may cost.
    /// Default: what the rate gives in a period, rounded up, so that one process can use the whole of the rate. A call that
    /// costs more may then be unflushed alone, up to the burst.
    pub fn max_unflushed(self, tokens: u64) -> Self {
        Self { max_unflushed: Some(tokens), ..self }
    }

    /// The most tokens beyond the burst that a key may owe; the rest is forgiven. Default: a burst, or the overshoot bound
    /// if that is more.
    pub fn max_debt(self, tokens: u64) -> Self {
        Self { max_debt: Some(tokens), ..self }
    }

    /// How this process decides while the store does not answer. Default: [`OnOutage::FairShare`], which keeps all
    /// processes together near the limit.
    pub fn on_outage(self, policy: OnOutage) -> Self {
        Self { on_outage: policy, ..self }
    }

    common_settings!();

    /// The limit, and what has to run for it.
    ///
    /// # Errors
    ///
    /// The quotas must be as [`Quota`] says; the period and the deadline longer than zero and at most 366 days; processes,
    /// keys and unflushed tokens at least 1; the debt at most 2^55.
    pub fn build(self) -> Result<(WriteBehind, Flusher), ConfigError> {
        let Self {
            store,
            namespace,
            quota,
            period,
            deadline,
            processes,
            max_unflushed,
            max_debt,
            on_outage,
            max_keys,
            random,
        } = self;
        quota.check()?;
        check_duration("rate_limit.flush_every", period)?;
        let deadline = deadline.unwrap_or(period);
        check_duration("rate_limit.deadline", deadline)?;
        if max_unflushed == Some(0) {
            return Err(ConfigError::new("rate_limit.max_unflushed", 0, "must be at least 1"));
        }
        let most = most_unflushed(max_unflushed, &quota, period);
        let overshoot = processes.saturating_sub(1).saturating_mul(most);
        let max_debt = max_debt.unwrap_or(quota.burst().max(overshoot.min(1 << 55)));
        let pace = Pace::Each(period);
        Parts { store, namespace, quota, deadline, pace, max_debt, processes, on_outage, random, max_keys }
            .build()
            .map(|(handle, flusher)| (WriteBehind { handle, max_unflushed }, flusher))
    }
}

/// What was said; or what the rate gives in a period, rounded up.
fn most_unflushed(said: Option<u64>, quota: &Quota, period: Duration) -> u64 {
    let in_a_period = (u128::from(quota.count()) * period.as_nanos()).div_ceil(quota.period().as_nanos().max(1));
    let in_a_period = u64::try_from(in_a_period).unwrap_or(u64::MAX);
    said.unwrap_or(in_a_period).min(quota.burst())
}

impl fmt::Debug for WriteBehind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WriteBehind").field("quota", &self.quota()).finish_non_exhaustive()
    }
}

impl fmt::Debug for WriteBehindBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WriteBehindBuilder").field("quota", &self.quota).finish_non_exhaustive()
    }
}
