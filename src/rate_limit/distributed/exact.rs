use super::{
    engine::{Engine, Entry, Handle, Pace, Parts, Readings, Verdict},
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
    rate_limit::{Admission, Quota},
    sync::lock,
};
use std::{
    fmt,
    future::poll_fn,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::{
    sync::oneshot::{self, error::TryRecvError},
    time::{Instant, sleep_until},
};

/// A limit that many processes keep together by asking the store for each decision. All keys have a token bucket of the
/// same quota.
///
/// The flusher asks for all callers. At most two questions are under way at a time. Callers that come meanwhile leave
/// with the next question, all callers of a key as one. So a busy key costs two questions per round trip, however many
/// callers it has. A refusal is remembered until tokens are due again, but no longer than the time between two probes.
/// A caller that is refused from memory costs no question.
///
/// # Bound
///
/// While the store answers, all processes together admit in any interval of length t at most
/// `burst + rate * (t + deadline)` for a key: the store admits as a bucket does, and an answer is used for as long as the
/// deadline at most. `rate * deadline` is the [`overshoot_bound`](Self::overshoot_bound).
///
/// # When the store does not answer
///
/// No caller waits longer than the deadline. After it this process decides by itself, as [`OnOutage`] says, and reports
/// what it admits to the store later. An answer that comes too late for its caller pays for what the caller took
/// without it.
///
/// After three failures in a row the store is down, and no caller waits at all. Every
/// [`probe_every`](ExactBuilder::probe_every) the flusher asks whether it is back.
///
/// When it is back, each process reports the part of what it admitted that has not drained since. The processes decide
/// by themselves for another two and a half probes, and for the time that the store
/// [takes](super::Store::returns_within) to be reached again. So no process takes what another has spent.
/// [`StoreHealth::is_up`](super::StoreHealth::is_up) is false until then.
///
/// Tokens that do not fit below the burst are a [debt](ExactBuilder::max_debt), which slows the key down and locks no
/// caller out.
///
/// # Cost
///
/// To refuse what is known to be refused: two hashes, three short locks, one reading of the clock. To ask: an allocation, a
/// timer, and a round trip.
///
/// # Cancellation
///
/// A caller that is dropped while it waits takes nothing. The limit gives back to the store what was granted for that
/// caller, less what has drained meanwhile.
#[derive(Clone)]
pub struct Exact {
    handle: Arc<Handle>,
}

/// The tokens that an admitted call has taken of an [`Exact`] limit. Dropping it spends them.
pub struct Taken {
    entry: Option<Arc<Entry>>,
    tokens: u64,
    by: By,
}

/// Who admitted a call.
#[derive(Clone, Copy, Debug)]
enum By {
    /// The store, at this time by its clock.
    Store { at: Duration },
    /// This process, at this time by its own, in this outage.
    Itself { at: Instant, outage: Option<u64> },
}

/// The place of a call that waits for the store.
pub struct Asked {
    entry: Arc<Entry>,
    tokens: u64,
    verdict: oneshot::Receiver<Verdict>,
    /// When it is not waited for any longer.
    give_up_at: Instant,
}

impl Exact {
    /// This quota for each key, kept in this store.
    pub fn builder(store: impl Store, quota: Quota) -> ExactBuilder {
        ExactBuilder {
            store: Arc::new(store),
            namespace: Namespace::default(),
            quota,
            deadline: Duration::from_millis(5),
            probe: Duration::from_millis(100),
            processes: 8,
            max_debt: None,
            on_outage: OnOutage::default(),
            max_keys: 100_000,
            random: Random::new(),
        }
    }

    /// Takes `tokens` of this key's, all or none, as the store decides.
    ///
    /// # Errors
    ///
    /// [`RateLimited`] where there are too few, with the time until there will be enough. With no time where the cost
    /// is above the burst, or the key longer than [`LONGEST_KEY`](super::LONGEST_KEY). Where the store is down and no
    /// better time is known, it is that until the next probe.
    pub async fn acquire(&self, key: &[u8], tokens: u64) -> Result<Taken, RateLimited> {
        let asked = match self.admit_at(key, tokens, Instant::now()) {
            Admission::Admitted(taken) => return Ok(taken),
            Admission::Refused(refused) => return Err(refused),
            Admission::Waits(asked) => asked,
        };
        let mut sleep = pin!(sleep_until(asked.give_up_at));
        let mut waiting = Waiting { limit: self, asked: Some(asked) };
        poll_fn(|cx| {
            let Some(asked) = &mut waiting.asked else { return Poll::Pending };
            let mut verdict = asked.poll_verdict(cx);
            if verdict.is_pending() && sleep.as_mut().poll(cx).is_ready() {
                verdict = Poll::Ready(asked.give_up());
            }
            let verdict = ready!(verdict);
            let answer = self.settle(asked, verdict, Instant::now());
            waiting.asked = None;
            Poll::Ready(answer)
        })
        .await
    }

    /// Gives back what was taken for a call that then was not made.
    pub fn refund(&self, taken: Taken) {
        let Some(entry) = taken.entry else { return };
        let mut state = lock(&entry.state);
        match taken.by {
            By::Store { at } => {
                state.books.refund(taken.tokens, at);
                self.engine().queue(&entry, &mut state);
            }
            By::Itself { at, outage } => {
                let age = clock::nanos(Instant::now().saturating_duration_since(at));
                state.books.unspend(taken.tokens, age, &self.quota(), outage);
            }
        }
    }

    /// Makes another flusher, for a runtime that may outlive that of the first. One works at a time, and the others wait for
    /// their turn: see [`Flusher::run`]. Allocates the flusher; nothing happens before it runs.
    ///
    /// After a time without a flusher the limit goes on as after an outage. The process tells the store what it admitted
    /// meanwhile, and two and a half probes later the store decides again.
    pub fn flusher(&self) -> Flusher {
        self.handle.flusher()
    }

    /// The quota.
    pub fn quota(&self) -> Quota {
        self.engine().quota()
    }

    /// Changes the quota for this process. The store decides each question by the quota of the process that asks. Spent
    /// tokens stay spent, and drain at the old rate until the next question.
    ///
    /// # Errors
    ///
    /// As [`ExactBuilder::build`].
    pub fn set_quota(&self, quota: Quota) -> Result<(), ConfigError> {
        quota.check()?;
        *lock(&self.engine().quota) = quota;
        Ok(())
    }

    /// How much more than `burst + rate * t` may be admitted in any interval of length t, by all processes together, while
    /// the store answers: `rate * deadline`, rounded up.
    pub fn overshoot_bound(&self) -> u64 {
        let quota = self.quota();
        let tokens = u128::from(quota.count()) * self.engine().deadline.as_nanos();
        u64::try_from(tokens.div_ceil(quota.period().as_nanos().max(1))).unwrap_or(u64::MAX)
    }

    /// This process's part of all that was admitted of this key in the last four seconds by the answers of the store,
    /// from 0 to 1. Without answers for that long, and for a key not in use, it is one part of the expected
    /// [`processes`](ExactBuilder::processes).
    ///
    /// In an outage with [`OnOutage::FairShare`] the process keeps to the share that it had at the first call for the
    /// key in that outage, although the reading changes.
    pub fn share(&self, key: &[u8]) -> f64 {
        let engine = self.engine();
        engine.share(key, Instant::now()).fraction()
    }

    /// How the limit is doing. Looks at every key in use, with a short lock for each.
    pub fn readings(&self) -> Readings {
        self.engine().read(Instant::now())
    }

    fn engine(&self) -> &Engine {
        &self.handle.0
    }

    pub(super) fn admit_at(&self, key: &[u8], tokens: u64, now: Instant) -> Admission<Taken, Asked> {
        if tokens == 0 {
            return Admission::Admitted(Taken { entry: None, tokens, by: By::Store { at: Duration::ZERO } });
        }
        let engine = self.engine();
        let quota = engine.quota();
        let entry = match engine.entry(key, tokens, &quota, now) {
            Ok(entry) => entry,
            Err(refused) => return Admission::Refused(refused),
        };
        let mut state = lock(&entry.state);
        if !engine.health.decides() {
            let verdict = engine.decide_alone(&entry, &mut state, &quota, tokens, now);
            drop(state);
            return match verdict {
                Ok(outage) => {
                    Admission::Admitted(Taken { entry: Some(entry), tokens, by: By::Itself { at: now, outage } })
                }
                Err(refused) => Admission::Refused(refused),
            };
        }
        let at = engine.origin.nanos_to(now);
        let room = state.books.known(&quota, at).room(quota.burst());
        // Somebody may have been given back what he had taken, or the key been deleted: so it is believed for a while only.
        let is_news = state.books.is_younger(clock::nanos(engine.pace.period()), at);
        if room < tokens && is_news {
            let wait = Duration::from_nanos(state.books.until_room(&quota, tokens, at));
            return Admission::Refused(RateLimited::new(Some(wait)).with_remaining(room));
        }
        let verdict = engine.ask(&entry, state, tokens);
        Admission::Waits(Asked { entry, tokens, verdict, give_up_at: now + before_the_tick(engine.deadline) })
    }

    pub(super) fn would_refuse_at(&self, key: &[u8], tokens: u64, due: Instant) -> bool {
        self.engine().would_refuse(key, tokens, due)
    }

    /// What comes of what was asked.
    fn settle(&self, asked: &Asked, verdict: Verdict, now: Instant) -> Result<Taken, RateLimited> {
        let Asked { entry, tokens, .. } = asked;
        match verdict {
            Verdict::Granted { at } => Ok(Taken { entry: Some(entry.clone()), tokens: *tokens, by: By::Store { at } }),
            Verdict::Refused { retry_after } => Err(RateLimited::new(Some(retry_after))),
            Verdict::Unanswered => {
                let mut state = lock(&entry.state);
                let outage = self.engine().decide_alone(entry, &mut state, &self.quota(), *tokens, now)?;
                Ok(Taken { entry: Some(entry.clone()), tokens: *tokens, by: By::Itself { at: now, outage } })
            }
        }
    }

    pub(super) fn poll_asked(
        &self,
        asked: &mut Asked,
        cx: &mut Context<'_>,
        now: Instant,
    ) -> Poll<Result<Taken, RateLimited>> {
        let verdict = match asked.poll_verdict(cx) {
            Poll::Ready(verdict) => verdict,
            Poll::Pending if asked.give_up_at <= now => asked.give_up(),
            Poll::Pending => return Poll::Pending,
        };
        Poll::Ready(self.settle(asked, verdict, now))
    }

    /// What was granted meanwhile goes back.
    pub(super) fn leave(&self, asked: &mut Asked) {
        if let Verdict::Granted { at } = asked.give_up() {
            let mut state = lock(&asked.entry.state);
            state.books.refund(asked.tokens, at);
            self.engine().queue(&asked.entry, &mut state);
        }
    }

    pub(super) fn deadline(&self) -> Duration {
        self.engine().deadline
    }
}

impl Asked {
    /// When it is not waited for any longer.
    pub(super) fn give_up_at(&self) -> Instant {
        self.give_up_at
    }

    fn poll_verdict(&mut self, cx: &mut Context<'_>) -> Poll<Verdict> {
        // No answer will come where there is no flusher any more.
        Pin::new(&mut self.verdict).poll(cx).map(|verdict| verdict.unwrap_or(Verdict::Unanswered))
    }

    /// Waits no longer: what comes from now on is not for it.
    fn give_up(&mut self) -> Verdict {
        self.verdict.close();
        match self.verdict.try_recv() {
            Ok(verdict) => verdict,
            Err(TryRecvError::Empty | TryRecvError::Closed) => Verdict::Unanswered,
        }
    }
}

/// Leaves when it is dropped before it has its answer.
struct Waiting<'a> {
    limit: &'a Exact,
    asked: Option<Asked>,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if let Some(asked) = &mut self.asked {
            self.limit.leave(asked);
        }
    }
}

/// Timers go off at the next whole millisecond. So a decision is made within the deadline, not up to a millisecond later.
fn before_the_tick(deadline: Duration) -> Duration {
    const TICK: Duration = Duration::from_nanos(999_999);
    if deadline > 2 * TICK { deadline - TICK } else { deadline / 2 }
}

/// Configures an [`Exact`] limit.
#[must_use]
pub struct ExactBuilder {
    store: Arc<dyn Store>,
    namespace: Namespace,
    quota: Quota,
    deadline: Duration,
    probe: Duration,
    processes: u64,
    max_debt: Option<u64>,
    on_outage: OnOutage,
    max_keys: usize,
    random: Random,
}

impl ExactBuilder {
    /// How long a decision may take; then this process decides by itself. Default: 5 ms, some ten round trips in one data
    /// centre, and little for a call that is worth limiting.
    pub fn deadline(self, deadline: Duration) -> Self {
        Self { deadline, ..self }
    }

    /// How often a store that is down is asked whether it is back. Default: 100 ms.
    pub fn probe_every(self, period: Duration) -> Self {
        Self { probe: period, ..self }
    }

    /// About how many processes there are. In an outage a process that does not know its [share](Exact::share) of a key
    /// takes one part of this number. Too low a number admits too much then. Default: 8.
    pub fn processes(self, processes: u64) -> Self {
        Self { processes, ..self }
    }

    /// The most tokens beyond the burst that a key may owe after an outage; the rest is forgiven. Default: a burst, so
    /// that an outage slows a key for a few periods at most. At most 2^55.
    ///
    /// A debt arises where processes together admitted more in an outage than the rate allows: cut off from a store
    /// that others still asked, or with another policy than [`OnOutage::FairShare`]. With fair shares and a store that
    /// is down for all processes there is next to none.
    ///
    /// While there is a debt, two fifths of the rate repay it and callers have the other three. Any rate that callers
    /// do not use repays it as well. So a debt of `n` tokens is repaid after at most `2.5 * n / rate`. With a quota of
    /// 100 per second and the default, callers have 60 per second for at most 2.5 s. With zero all that does not fit
    /// below the burst is forgiven.
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
    /// The quotas must be as [`Quota`] says; deadline and probe longer than zero and at most 366 days; processes and keys at
    /// least 1; the debt at most 2^55.
    pub fn build(self) -> Result<(Exact, Flusher), ConfigError> {
        let Self { store, namespace, quota, deadline, probe, processes, max_debt, on_outage, max_keys, random } = self;
        check_duration("rate_limit.deadline", deadline)?;
        check_duration("rate_limit.probe_every", probe)?;
        let max_debt = max_debt.unwrap_or(quota.burst());
        let pace = Pace::AtOnce { probe };
        Parts { store, namespace, quota, deadline, pace, max_debt, processes, on_outage, random, max_keys }
            .build()
            .map(|(handle, flusher)| (Exact { handle }, flusher))
    }
}

impl fmt::Debug for Exact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exact").field("quota", &self.quota()).finish_non_exhaustive()
    }
}

impl fmt::Debug for Taken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Taken").field("tokens", &self.tokens).field("by", &self.by).finish_non_exhaustive()
    }
}

impl fmt::Debug for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Asked").field("tokens", &self.tokens).finish_non_exhaustive()
    }
}

impl fmt::Debug for ExactBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ExactBuilder").field("quota", &self.quota).finish_non_exhaustive()
    }
}
