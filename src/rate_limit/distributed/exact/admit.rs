use super::limit::Exact;
use crate::{
    clock::Nanos,
    error::RateLimited,
    rate_limit::{
        distributed::{
            by_key::Distributed,
            outage::Outage,
            sync::bucket::{
                entry::{BucketEntry, Verdict},
                synchronizer::BucketSync,
            },
        },
        tokens::Tokens,
    },
    shell::{Decision, Explanation},
    sync::lock,
};
use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::{
    sync::oneshot::{self, error::TryRecvError},
    time::Instant,
};

/// The tokens that an admitted call has taken of an [`Exact`] limit. Dropping a `Taken` leaves them spent.
pub struct Taken {
    tokens: Tokens,
    /// The entry of the key, and the party that admitted the call. `None` if the call costs nothing.
    taken: Option<(Arc<BucketEntry>, By)>,
}

/// The party that admitted a call.
#[derive(Clone, Copy, Debug)]
enum By {
    /// The store, at this time by the store's clock.
    Store { at: Duration },
    /// This process, at this time by its own clock. `outage` is `None` if the store was up and only the answer for this
    /// call was missing.
    Itself { at: Instant, outage: Option<Outage> },
}

/// The place of a call that waits for the store.
///
/// | event | outcome of the call |
/// |---|---|
/// | the store grants its tokens | admitted by the store |
/// | the store refuses | refused |
/// | the store does not answer, or not in time | this process decides |
/// | the caller drops the call | it leaves, and any grant pays for other spends or goes back to the store |
pub struct Asked {
    entry: Arc<BucketEntry>,
    tokens: Tokens,
    verdict: oneshot::Receiver<Verdict>,
    /// When the call stops waiting.
    give_up_at: Instant,
}

impl Taken {
    /// Gives the tokens back to the party that admitted the call, less what has drained since.
    pub(super) fn give_back(self, sync: &BucketSync) {
        let Some((entry, by)) = self.taken else { return };
        let mut state = lock(&entry.state);
        match by {
            By::Store { at } => {
                state.ledger.refund(self.tokens, at);
                sync.queue(&entry, &mut state);
            }
            By::Itself { at, outage } => {
                let age = Nanos::of(Instant::now().saturating_duration_since(at));
                state.ledger.unspend(self.tokens, age, &sync.quota(), outage);
            }
        }
    }
}

impl Asked {
    fn poll_verdict(&mut self, cx: &mut Context<'_>) -> Poll<Verdict> {
        // A sender without a verdict is dropped only with its flusher. No answer will come then.
        Pin::new(&mut self.verdict).poll(cx).map(|verdict| verdict.unwrap_or(Verdict::Unanswered))
    }

    /// Stops waiting. Returns the verdict if it has come, else `Unanswered`. A later grant does not go to this call.
    fn give_up(&mut self) -> Verdict {
        self.verdict.close();
        match self.verdict.try_recv() {
            Ok(verdict) => verdict,
            Err(TryRecvError::Empty | TryRecvError::Closed) => Verdict::Unanswered,
        }
    }

    /// Turns the verdict into the decision about the call.
    fn settle(&self, verdict: Verdict, sync: &BucketSync, now: Instant) -> Result<Taken, RateLimited> {
        let Self { entry, tokens, .. } = self;
        let by = match verdict {
            // Asked => Admitted
            Verdict::Granted { at } => By::Store { at },
            // Asked => Refused
            Verdict::Refused { retry_after } => return Err(RateLimited::new(Some(retry_after))),
            // Asked => (Admitted | Refused)
            Verdict::Unanswered => {
                let mut state = lock(&entry.state);
                let outage = sync.decide_alone(entry, &mut state, &sync.quota(), *tokens, now)?;
                By::Itself { at: now, outage }
            }
        };
        Ok(Taken { tokens: *tokens, taken: Some((entry.clone(), by)) })
    }
}

impl Distributed for Exact {
    const WAITS: bool = true;

    type Permit = Taken;
    type Place = Asked;

    fn admit(&self, key: &[u8], tokens: u64, now: Instant) -> Decision<Taken, Asked, RateLimited> {
        let tokens = Tokens(tokens);
        if tokens == Tokens::ZERO {
            return Decision::Admitted(Taken { tokens, taken: None });
        }
        let sync = self.sync();
        let quota = sync.quota();
        let entry = match sync.entry(key, tokens, &quota, now) {
            Ok(entry) => entry,
            Err(refused) => return Decision::Refused(refused),
        };
        let mut state = lock(&entry.state);
        if !sync.health().decides() {
            let verdict = sync.decide_alone(&entry, &mut state, &quota, tokens, now);
            drop(state);
            return match verdict {
                Ok(outage) => {
                    Decision::Admitted(Taken { tokens, taken: Some((entry, By::Itself { at: now, outage })) })
                }
                Err(refused) => Decision::Refused(refused),
            };
        }
        let at = sync.origin.to(now);
        let room = state.ledger.known(&quota, at).room(&quota);
        // Since the last answer, other processes may have returned tokens, or the store may have lost the key. So this
        // process refuses from a remembered answer only until that answer is one probe period old. Then it asks the
        // store again.
        let is_news = state.ledger.is_younger(Nanos::of(sync.pace.period()), at);
        if room < tokens && is_news {
            let wait = state.ledger.until_room(&quota, tokens, at).duration();
            return Decision::Refused(RateLimited::new(Some(wait)).with_remaining(room.0));
        }
        let verdict = sync.ask(&entry, state, tokens);
        Decision::Waits(Asked { entry, tokens, verdict, give_up_at: now + before_the_tick(sync.deadline) })
    }

    /// Predicts by the last answer of the store, even where `admit` would ask the store again.
    fn would_refuse(&self, key: &[u8], tokens: u64, due: Instant) -> bool {
        self.sync().would_refuse(key, Tokens(tokens), due)
    }

    fn poll(&self, asked: &mut Asked, cx: &mut Context<'_>, now: Instant) -> Poll<Result<Taken, RateLimited>> {
        let verdict = match asked.poll_verdict(cx) {
            Poll::Ready(verdict) => verdict,
            Poll::Pending if asked.give_up_at <= now => asked.give_up(),
            Poll::Pending => return Poll::Pending,
        };
        Poll::Ready(asked.settle(verdict, self.sync(), now))
    }

    fn give_up_at(&self, asked: &Asked) -> Instant {
        asked.give_up_at
    }

    fn leave(&self, asked: &mut Asked) {
        // Asked => Left
        if let Verdict::Granted { at } = asked.give_up() {
            let mut state = lock(&asked.entry.state);
            state.ledger.refund(asked.tokens, at);
            self.sync().queue(&asked.entry, &mut state);
        }
    }

    fn refund(&self, taken: Taken) {
        Exact::refund(self, taken);
    }

    fn describe(&self) -> String {
        format!("for each key {}, by all processes together", self.quota())
    }

    fn longest_wait(&self) -> Duration {
        self.sync().deadline
    }

    fn instruments(&self, name: &'static str, explanation: &mut Explanation) {
        explanation.instrument(self.handle.instrument(name));
    }
}

/// A place in [`Exact::acquire`]. It leaves if it is dropped before its call has its answer.
pub(super) struct Waiting<'a> {
    limit: &'a Exact,
    /// `None` once the call has its answer.
    asked: Option<Asked>,
}

impl<'a> Waiting<'a> {
    pub(super) fn new(limit: &'a Exact, asked: Asked) -> Self {
        Self { limit, asked: Some(asked) }
    }

    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Taken, RateLimited>> {
        let Some(asked) = &mut self.asked else { return Poll::Pending };
        let verdict = ready!(asked.poll_verdict(cx));
        self.settle(verdict).map_or(Poll::Pending, Poll::Ready)
    }

    /// Stops waiting: the time to give up has come. Returns `None` if the call already has its answer.
    pub(super) fn give_up(&mut self) -> Option<Result<Taken, RateLimited>> {
        let verdict = self.asked.as_mut()?.give_up();
        self.settle(verdict)
    }

    fn settle(&mut self, verdict: Verdict) -> Option<Result<Taken, RateLimited>> {
        let asked = self.asked.take()?;
        Some(asked.settle(verdict, self.limit.sync(), Instant::now()))
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if let Some(asked) = &mut self.asked {
            self.limit.leave(asked);
        }
    }
}

/// Shortens the deadline by a tick of the timer, a millisecond. A timer fires up to a tick late, and a decision must
/// come within the deadline. A deadline of at most two ticks is halved instead.
fn before_the_tick(deadline: Duration) -> Duration {
    const TICK: Duration = Duration::from_nanos(999_999);
    if deadline > 2 * TICK { deadline - TICK } else { deadline / 2 }
}

impl fmt::Debug for Taken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let by = self.taken.as_ref().map(|(_, by)| by);
        f.debug_struct("Taken").field("tokens", &self.tokens.0).field("by", &by).finish_non_exhaustive()
    }
}

impl fmt::Debug for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Asked").field("tokens", &self.tokens.0).finish_non_exhaustive()
    }
}
