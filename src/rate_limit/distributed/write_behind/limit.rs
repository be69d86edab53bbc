use super::builder::WriteBehindBuilder;
use crate::{
    clock::Nanos,
    error::{ConfigError, RateLimited},
    rate_limit::{
        Quota,
        distributed::{
            by_key::Distributed,
            outage::Outage,
            store::Store,
            sync::{
                bucket::{entry::BucketEntry, synchronizer::BucketSync},
                flusher::Flusher,
                readings::Readings,
                synchronizer::Handle,
            },
        },
        tokens::Tokens,
    },
    shell::{Decision, Explanation},
    sync::lock,
};
use std::{
    convert::Infallible,
    fmt,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};
use tokio::time::Instant;

/// A limit that many processes share without ever waiting for the store. Each process admits by the last known level of
/// a key's bucket and by what it has admitted since. It reports to the store in the background.
///
/// Two bounds limit the tokens that a process may admit between two answers of the store. The first is its
/// [share](Self::share) of the tokens that are left in the bucket, but at least one token. The share of a process is
/// its part of all tokens admitted in the last four seconds. The second bound is
/// [`max_unflushed`](WriteBehindBuilder::max_unflushed). Tokens admitted beyond the burst while the store answers raise
/// the bucket's level above the burst. They drain before more is admitted, so the rate is kept in the long run.
///
/// One call may exceed these bounds, if it fits below the burst and the store has confirmed all earlier spends of its
/// key. If `max_unflushed` was set, the call may cost at most that. By default `max_unflushed` is what the rate gives
/// in a flush period, and the call may cost up to the burst.
///
/// # Bound
///
/// While the store answers, N processes together admit at most `burst + rate * t + (N - 1) * max_unflushed` tokens of a
/// key. This holds for any interval of length t. The last term is the [`overshoot_bound`](Self::overshoot_bound). If a
/// call costs more than `max_unflushed`, its cost takes the place of `max_unflushed` in this bound.
///
/// # When the store does not answer
///
/// A process continues until it has used up the smaller of the two bounds above. After three failures in a row it
/// decides as [`OnOutage`](crate::rate_limit::distributed::OnOutage) says, and asks in each period whether the store is
/// back. When the store is back, the process reports the part of what it admitted that has not drained since. It
/// decides by itself for another 2.5 periods, plus the time that processes [need to
/// reconnect](crate::rate_limit::distributed::Store::returns_within). In this time all others can report, too. Tokens
/// that do not fit below the burst are a [debt](WriteBehindBuilder::max_debt). Two fifths of the rate repay it.
///
/// # Cost
///
/// While the store answers, a decision costs two hashes, three short locks and one reading of the clock. The first call
/// of a key in a period takes a fourth lock, of the queue of keys to report. For a known key, a decision allocates
/// nothing, except when this queue grows. A period costs one batch to the store for each 64 keys in which something was
/// spent.
///
/// # Cancellation
///
/// No call waits for anything.
#[doc(alias = "distributed rate limit")]
#[derive(Clone)]
pub struct WriteBehind {
    pub(in crate::rate_limit::distributed) handle: Arc<Handle<BucketSync>>,
    /// `None` stands for what the rate gives in a period. In both cases the bound is at most the burst.
    pub(super) max_unflushed: Option<u64>,
}

impl WriteBehind {
    /// Starts to configure a limit with this quota for each key. This store keeps it, for at most `processes`
    /// processes.
    pub fn builder(store: impl Store, quota: Quota, processes: u64) -> WriteBehindBuilder {
        WriteBehindBuilder::new(store, quota, processes)
    }

    /// Takes `tokens` of this key, all or none.
    ///
    /// # Errors
    ///
    /// [`RateLimited`] if too few tokens are left, with the time until there may be enough. Until then the bucket
    /// drains, or this process reports what it admitted. There is no time if the cost is above the burst or above a
    /// `max_unflushed` that was set, or the key is longer than
    /// [`LONGEST_KEY`](crate::rate_limit::distributed::LONGEST_KEY).
    pub fn try_acquire(&self, key: &[u8], tokens: u64) -> Result<Noted, RateLimited> {
        self.try_acquire_at(key, tokens, Instant::now())
    }

    /// Like [`try_acquire`](Self::try_acquire), with `now` as the time.
    pub fn try_acquire_at(&self, key: &[u8], tokens: u64, now: Instant) -> Result<Noted, RateLimited> {
        let tokens = Tokens(tokens);
        if tokens == Tokens::ZERO {
            return Ok(Noted { entry: None, tokens, at: now, outage: None });
        }
        let sync = self.sync();
        let quota = self.quota();
        let max_unflushed = self.most_unflushed(&quota);
        if self.is_too_dear(tokens, max_unflushed) {
            return Err(RateLimited::new(None));
        }
        let entry = sync.entry(key, tokens, &quota, now)?;
        let mut state = lock(&entry.state);
        if !sync.health().decides() {
            let outage = sync.decide_alone(&entry, &mut state, &quota, tokens, now)?;
            drop(state);
            return Ok(Noted { entry: Some(entry), tokens, at: now, outage });
        }
        let unflushed = state.ledger.unflushed();
        let at = sync.origin.to(now);
        let share = state.ledger.share(&quota, sync.owner.processes, at);
        let known = *state.ledger.known(&quota, at);
        let left = known.room(&quota);
        if left < unflushed.saturating_add(tokens) {
            let wait = known.until_room(unflushed.saturating_add(tokens), &quota).duration();
            return Err(RateLimited::new(Some(wait)).with_remaining(left.saturating_sub(unflushed).0));
        }
        // A call may exceed both bounds alone: if nothing is unconfirmed, `most` is at least its cost.
        let most = share.part_of(left).clamp(Tokens(1), max_unflushed).max(tokens);
        if unflushed.saturating_add(tokens) > most {
            return Err(RateLimited::new(Some(sync.pace.period())).with_remaining(most.saturating_sub(unflushed).0));
        }
        state.ledger.spend(tokens);
        sync.queue(&entry, &mut state);
        drop(state);
        Ok(Noted { entry: Some(entry), tokens, at: now, outage: None })
    }

    /// Gives back the tokens of a call that was not made after all, less what has drained since. At most, this gives
    /// back the tokens of the key that the process has not yet reported to the store.
    pub fn refund(&self, noted: Noted) {
        let Noted { entry, tokens, at, outage } = noted;
        if let Some(entry) = entry {
            let age = Nanos::of(Instant::now().saturating_duration_since(at));
            let quota = self.quota();
            lock(&entry.state).ledger.unspend(tokens, age, &quota, outage);
        }
    }

    /// Makes another flusher, for a runtime that may outlive that of the first. One flusher works at a time, and the
    /// others wait for their turn: see [`Flusher::run`]. The new flusher does nothing before it runs.
    ///
    /// After a time without a flusher the limit continues as after an outage. The process reports what it admitted. The
    /// store decides again 2.5 periods after its next answer, plus the time that processes [need to
    /// reconnect](Store::returns_within).
    pub fn flusher(&self) -> Flusher {
        self.handle.flusher()
    }

    /// Returns the quota.
    pub fn quota(&self) -> Quota {
        self.sync().quota()
    }

    /// Changes the quota for this process. The store counts each report by the quota of the process that sends it.
    ///
    /// # Errors
    ///
    /// As [`WriteBehindBuilder::build`].
    pub fn set_quota(&self, quota: Quota) -> Result<(), ConfigError> {
        self.sync().set_quota(quota)
    }

    /// Returns how many tokens beyond `burst + rate * t` all processes together may admit in any interval of length t,
    /// while the store answers: `(processes - 1) * max_unflushed`, if no call costs more than that.
    pub fn overshoot_bound(&self) -> u64 {
        (self.sync().owner.processes - 1).saturating_mul(self.most_unflushed(&self.quota()).0)
    }

    /// Returns this process's part of all tokens of this key that were admitted in the last four seconds, by the
    /// answers of the store. From 1/1024 to 1. Without answers in that time, and for a key not in use, it is one
    /// divided by the number of processes.
    pub fn share(&self, key: &[u8]) -> f64 {
        self.sync().share(key, Instant::now()).fraction()
    }

    /// Returns the state of the limit. Reads every key in use.
    pub fn readings(&self) -> Readings {
        self.sync().read(Instant::now())
    }

    /// Returns whether a call costs more than the `max_unflushed` that was set. If none was set, a call of any cost up
    /// to the burst passes if the store has confirmed all earlier spends of its key.
    fn is_too_dear(&self, tokens: Tokens, max_unflushed: Tokens) -> bool {
        self.max_unflushed.is_some() && tokens > max_unflushed
    }

    fn most_unflushed(&self, quota: &Quota) -> Tokens {
        most_unflushed(self.max_unflushed, quota, self.sync().pace.period())
    }

    fn sync(&self) -> &BucketSync {
        self.handle.synchronizer()
    }
}

/// The tokens that an admitted call has taken of a [`WriteBehind`] limit. Dropping a `Noted` leaves them spent.
pub struct Noted {
    /// The entry of the key. `None` if the call costs nothing.
    entry: Option<Arc<BucketEntry>>,
    tokens: Tokens,
    /// When the call was admitted.
    at: Instant,
    /// The outage in which this process decided by itself. `None` if it decided by the last answer of the store.
    outage: Option<Outage>,
}

impl fmt::Debug for Noted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Noted").field("tokens", &self.tokens.0).finish_non_exhaustive()
    }
}

impl Distributed for WriteBehind {
    const WAITS: bool = false;

    type Permit = Noted;
    type Place = Infallible;

    fn admit(&self, key: &[u8], tokens: u64, now: Instant) -> Decision<Noted, Infallible, RateLimited> {
        self.try_acquire_at(key, tokens, now).into()
    }

    /// Predicts as if the tokens of earlier calls took no room in `max_unflushed`. The process does not know how many
    /// of them the store will have confirmed by `due`.
    fn would_refuse(&self, key: &[u8], tokens: u64, due: Instant) -> bool {
        let tokens = Tokens(tokens);
        self.is_too_dear(tokens, self.most_unflushed(&self.quota())) || self.sync().would_refuse(key, tokens, due)
    }

    fn poll(&self, place: &mut Infallible, _: &mut Context<'_>, _: Instant) -> Poll<Result<Noted, RateLimited>> {
        match *place {}
    }

    fn give_up_at(&self, place: &Infallible) -> Instant {
        match *place {}
    }

    fn leave(&self, place: &mut Infallible) {
        match *place {}
    }

    fn refund(&self, noted: Noted) {
        WriteBehind::refund(self, noted);
    }

    fn describe(&self) -> String {
        format!(
            "for each key {}, by all processes together, and at most {} tokens beyond that",
            self.quota(),
            self.overshoot_bound()
        )
    }

    fn longest_wait(&self) -> Duration {
        Duration::ZERO
    }

    fn instruments(&self, name: &'static str, explanation: &mut Explanation) {
        explanation.instrument(self.handle.instrument(name));
    }
}

/// Returns the number that was set, or what the rate gives in a period, rounded up. At most the burst.
pub(super) fn most_unflushed(set: Option<u64>, quota: &Quota, period: Duration) -> Tokens {
    let in_a_period = (u128::from(quota.count()) * period.as_nanos()).div_ceil(quota.period().as_nanos().max(1));
    let in_a_period = u64::try_from(in_a_period).unwrap_or(u64::MAX);
    Tokens(set.unwrap_or(in_a_period).min(quota.burst()))
}

impl fmt::Debug for WriteBehind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WriteBehind").field("quota", &self.quota()).finish_non_exhaustive()
    }
}
