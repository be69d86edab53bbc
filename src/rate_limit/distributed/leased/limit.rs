use super::builder::LeasedBuilder;
use crate::{
    error::RateLimited,
    rate_limit::{
        distributed::{
            by_key::Distributed,
            store::Store,
            sync::{
                flusher::Flusher,
                lease::{
                    entry::LeaseEntry,
                    synchronizer::{LeaseSync, Withdrawn},
                },
                readings::Readings,
                synchronizer::Handle,
            },
        },
        tokens::Tokens,
    },
    shell::{Decision, Explanation},
};
use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    sync::oneshot,
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
/// No future holds tokens: [`acquire`](Self::acquire) takes them in the poll that returns them.
#[derive(Clone)]
pub struct Leased {
    pub(in crate::rate_limit::distributed) handle: Arc<Handle<LeaseSync>>,
}

/// The tokens that an admitted call has taken of a [`Leased`] limit. Dropping it spends them.
pub struct Spent {
    /// None where the call costs nothing, or was admitted beyond what this process holds.
    taken: Option<Withdrawn>,
    tokens: Tokens,
}

/// The place of a call that waits until the store has answered for its key for the first time.
pub struct Newcomer {
    entry: Arc<LeaseEntry>,
    tokens: Tokens,
    settled: oneshot::Receiver<()>,
    /// When it is not waited for any longer.
    give_up_at: Instant,
}

impl Leased {
    /// At most `limit` tokens in any `window`, for each key, kept in this store.
    pub fn builder(store: impl Store, limit: u64, window: Duration) -> LeasedBuilder {
        LeasedBuilder::new(store, limit, window)
    }

    /// Takes `tokens` of this key's, all or none, from what this process holds. It holds nothing of a key for which it
    /// never asked: [`acquire`](Self::acquire) waits until the store has answered for it.
    ///
    /// # Errors
    ///
    /// [`RateLimited`] where it holds too few; then more are asked for, and the time is that until they may be there.
    /// With no time where the cost is above the limit, or the key longer than
    /// [`LONGEST_KEY`](crate::rate_limit::distributed::LONGEST_KEY).
    pub fn try_acquire(&self, key: &[u8], tokens: u64) -> Result<Spent, RateLimited> {
        let tokens = Tokens(tokens);
        if tokens == Tokens::ZERO {
            return Ok(Spent { taken: None, tokens });
        }
        let entry = self.sync().entry(key, tokens)?;
        self.take(&entry, tokens)
    }

    /// Takes `tokens` of this key's, all or none. For a new key the store is asked at once, and the caller waits for
    /// the answer, for the store's [`deadline`](LeasedBuilder::deadline) at most. It does not wait for any other key,
    /// nor while the store is down.
    ///
    /// # Errors
    ///
    /// As [`try_acquire`](Self::try_acquire).
    pub async fn acquire(&self, key: &[u8], tokens: u64) -> Result<Spent, RateLimited> {
        match self.admit_at(key, tokens, Instant::now) {
            Decision::Admitted(spent) => Ok(spent),
            Decision::Refused(refused) => Err(refused),
            Decision::Waits(newcomer) => {
                // An answer that does not come in time is none.
                let _ = timeout_at(newcomer.give_up_at, newcomer.settled).await;
                self.take(&newcomer.entry, newcomer.tokens)
            }
        }
    }

    /// Takes tokens of this key's, or waits until the store has first answered for it.
    pub(super) fn admit_at(
        &self,
        key: &[u8],
        tokens: u64,
        now: impl FnOnce() -> Instant,
    ) -> Decision<Spent, Newcomer, RateLimited> {
        let tokens = Tokens(tokens);
        if tokens == Tokens::ZERO {
            return Decision::Admitted(Spent { taken: None, tokens });
        }
        let sync = self.sync();
        let entry = match sync.entry(key, tokens) {
            Ok(entry) => entry,
            Err(refused) => return Decision::Refused(refused),
        };
        if let Some(settled) = sync.wait_for_first_answer(&entry, tokens) {
            let give_up_at = now() + sync.deadline;
            return Decision::Waits(Newcomer { entry, tokens, settled, give_up_at });
        }
        match self.take(&entry, tokens) {
            Ok(spent) => Decision::Admitted(spent),
            Err(refused) => Decision::Refused(refused),
        }
    }

    fn take(&self, entry: &Arc<LeaseEntry>, tokens: Tokens) -> Result<Spent, RateLimited> {
        self.sync().take(entry, tokens).map(|taken| Spent { taken, tokens })
    }

    /// The limit, and the window.
    pub(in crate::rate_limit) fn terms(&self) -> (u64, Duration) {
        (self.sync().limit.0, self.sync().window)
    }

    fn sync(&self) -> &LeaseSync {
        self.handle.synchronizer()
    }

    /// Makes another flusher, for a runtime that may outlive that of the first. One works at a time, and the others
    /// wait for their turn: see [`Flusher::run`]. Allocates the flusher; nothing happens before it runs.
    ///
    /// After a time without a flusher the limit goes on as after an outage. The process tells the store what it spent
    /// meanwhile, and takes more 1.2 periods later.
    pub fn flusher(&self) -> Flusher {
        self.handle.flusher()
    }

    /// Gives back the tokens of a call that then was not made, if they were taken less than a window ago, less 1.2
    /// periods. Tokens that were admitted beyond what this process holds, in an outage, are not given back.
    pub fn refund(&self, spent: Spent) {
        if let Some(withdrawn) = spent.taken {
            self.sync().refund(withdrawn, spent.tokens, Instant::now());
        }
    }

    /// The tokens of this key that this process holds.
    pub fn held(&self, key: &[u8]) -> u64 {
        self.sync().held(key).0
    }

    /// How much more than the limit may be spent in any window while the store keeps its data and every process is
    /// heard of: nothing. Processes that are cut off while others are not add their shares at that time, at most the
    /// limit.
    pub fn overshoot_bound(&self) -> u64 {
        0
    }

    /// How the limit is doing. It looks at every key in use.
    pub fn readings(&self) -> Readings {
        self.sync().read(Instant::now())
    }
}

impl Distributed for Leased {
    const WAITS: bool = true;

    type Permit = Spent;
    type Place = Newcomer;

    fn admit(&self, key: &[u8], tokens: u64, now: Instant) -> Decision<Spent, Newcomer, RateLimited> {
        self.admit_at(key, tokens, || now)
    }

    fn poll(&self, newcomer: &mut Newcomer, cx: &mut Context<'_>, now: Instant) -> Poll<Result<Spent, RateLimited>> {
        if Pin::new(&mut newcomer.settled).poll(cx).is_pending() && now < newcomer.give_up_at {
            return Poll::Pending;
        }
        Poll::Ready(self.take(&newcomer.entry, newcomer.tokens))
    }

    fn give_up_at(&self, newcomer: &Newcomer) -> Instant {
        newcomer.give_up_at
    }

    /// Nothing was taken yet.
    fn leave(&self, _newcomer: &mut Newcomer) {}

    fn refund(&self, spent: Spent) {
        Leased::refund(self, spent);
    }

    fn describe(&self) -> String {
        let (limit, window) = self.terms();
        format!("for each key {limit} in any {window:?}, by all processes together")
    }

    fn longest_wait(&self) -> Duration {
        self.sync().deadline
    }

    fn instruments(&self, name: &'static str, explanation: &mut Explanation) {
        explanation.instrument(self.handle.instrument(name));
    }
}

impl fmt::Debug for Leased {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let LeaseSync { limit, window, .. } = self.sync();
        f.debug_struct("Leased").field("limit", &limit.0).field("window", window).finish_non_exhaustive()
    }
}

impl fmt::Debug for Spent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Spent").field("tokens", &self.tokens.0).finish_non_exhaustive()
    }
}

impl fmt::Debug for Newcomer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Newcomer").field("tokens", &self.tokens.0).finish_non_exhaustive()
    }
}
