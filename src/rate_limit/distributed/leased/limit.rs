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

/// A limit that many processes share: at most `limit` tokens in any window, for each key, by all processes.
///
/// Each process holds a lease for each key in use: a small credit of tokens. A call takes tokens from the credit in one
/// atomic step, without asking the store. In the background the [`Flusher`] reports what was spent and when, and
/// returns tokens that are not needed. The flusher also asks for the tokens that the demand of the last period
/// suggests. The store counts leased tokens as spent for all other processes. So while every process reaches the store,
/// the limit is not exceeded in any window, even if the demand moves between processes.
///
/// # When the store does not answer
///
/// A process continues with what it holds. One window after it spent tokens, it may spend them again. So the process
/// keeps to its share: the tokens that it held when it lost the store, and those that it had spent in the window
/// before. All shares together are at most the limit, unless [`processes`](LeasedBuilder::processes) is set. When the
/// store answers again, a process first reports what it spent. Then it takes no new tokens until the other processes
/// had time to report, too. The process waits for 1.2 periods, plus the time that the others [need to
/// reconnect](Store::returns_within). If a store fails again and again within less than that time, little is admitted,
/// and never too much.
///
/// # Cost
///
/// While the store answers, a decision about a known key costs two hashes, one short lock and one compare-and-swap. The
/// lock is that of one of 16 parts of the table. The decision reads no clock, and allocates nothing. In
/// [`acquire`](Self::acquire) and in a stack, a decision about an empty credit takes one more lock. A period costs one
/// batch to the store for each 64 keys in use.
///
/// # Cancellation
///
/// No future holds tokens: [`acquire`](Self::acquire) takes them in the poll that returns them.
#[doc(alias("distributed rate limit", "lease"))]
#[derive(Clone)]
pub struct Leased {
    pub(in crate::rate_limit::distributed) handle: Arc<Handle<LeaseSync>>,
}

/// The tokens that an admitted call has taken of a [`Leased`] limit. Dropping a `Spent` leaves them spent.
pub struct Spent {
    /// `None` if the call costs nothing, or was admitted in an outage without the credit (`OnOutage::Open` or `Local`).
    taken: Option<Withdrawn>,
    tokens: Tokens,
}

/// The place of a call that waits for the first answer of the store for its key.
pub struct FirstWait {
    entry: Arc<LeaseEntry>,
    tokens: Tokens,
    /// Gets a message, or loses its sender, once the store has answered or failed for the key, or once the last flusher
    /// is gone.
    settled: oneshot::Receiver<()>,
    /// When the call stops waiting.
    give_up_at: Instant,
}

impl Leased {
    /// Starts to configure a limit of `limit` tokens in any `window`, for each key, kept in this store.
    pub fn builder(store: impl Store, limit: u64, window: Duration) -> LeasedBuilder {
        LeasedBuilder::new(store, limit, window)
    }

    /// Takes `tokens` of this key, all or none, from what this process holds. For a new key the process holds
    /// nothing and refuses; [`acquire`](Self::acquire) waits for the first answer of the store instead.
    ///
    /// # Errors
    ///
    /// [`RateLimited`] if the process holds too few tokens. The next flush then asks for more, except in an outage and
    /// in the time for reports after it. As the time until more tokens may arrive, the error has the flush period. In
    /// an outage, `OnOutage::Closed` refuses every call, and `OnOutage::Local` each call beyond its quota. With `Local`
    /// the error has the time until the quota has enough tokens, or the flush period if the cost is above the quota's
    /// burst. There is no time if the cost is above the limit, or the key is longer than
    /// [`LONGEST_KEY`](crate::rate_limit::distributed::LONGEST_KEY).
    pub fn try_acquire(&self, key: &[u8], tokens: u64) -> Result<Spent, RateLimited> {
        let tokens = Tokens(tokens);
        if tokens == Tokens::ZERO {
            return Ok(Spent { taken: None, tokens });
        }
        let entry = self.sync().entry(key, tokens)?;
        self.take(&entry, tokens)
    }

    /// Takes `tokens` of this key, all or none. For a new key the flusher asks the store at once, and the caller waits
    /// for the answer, at most for the store's [`deadline`](LeasedBuilder::deadline). For any other key, or while the
    /// store is down, the caller does not wait.
    ///
    /// # Errors
    ///
    /// As [`try_acquire`](Self::try_acquire).
    pub async fn acquire(&self, key: &[u8], tokens: u64) -> Result<Spent, RateLimited> {
        match self.admit_at(key, tokens, Instant::now) {
            Decision::Admitted(spent) => Ok(spent),
            Decision::Refused(refused) => Err(refused),
            Decision::Waits(newcomer) => {
                // Afterwards the credit decides, even if the store has not answered in time.
                let _ = timeout_at(newcomer.give_up_at, newcomer.settled).await;
                self.take(&newcomer.entry, newcomer.tokens)
            }
        }
    }

    /// Takes tokens of this key, or waits for the first answer of the store for it.
    pub(super) fn admit_at(
        &self,
        key: &[u8],
        tokens: u64,
        now: impl FnOnce() -> Instant,
    ) -> Decision<Spent, FirstWait, RateLimited> {
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
            return Decision::Waits(FirstWait { entry, tokens, settled, give_up_at });
        }
        match self.take(&entry, tokens) {
            Ok(spent) => Decision::Admitted(spent),
            Err(refused) => Decision::Refused(refused),
        }
    }

    fn take(&self, entry: &Arc<LeaseEntry>, tokens: Tokens) -> Result<Spent, RateLimited> {
        self.sync().take(entry, tokens).map(|taken| Spent { taken, tokens })
    }

    /// Returns the limit and the window.
    pub(in crate::rate_limit) fn terms(&self) -> (u64, Duration) {
        (self.sync().limit.0, self.sync().window)
    }

    fn sync(&self) -> &LeaseSync {
        self.handle.synchronizer()
    }

    /// Makes another flusher, for a runtime that may outlive that of the first. One flusher works at a time, and the
    /// others wait for their turn: see [`Flusher::run`]. The new flusher does nothing before it runs.
    ///
    /// After a time without a flusher the limit continues as after an outage. The process reports what it spent. It
    /// takes new tokens 1.2 periods after the next answer of the store, plus the time that processes [need to
    /// reconnect](Store::returns_within).
    pub fn flusher(&self) -> Flusher {
        self.handle.flusher()
    }

    /// Gives back the tokens of a call that was not made after all. The call must have taken them less than a window
    /// minus 1.2 periods ago. With a window of 10 s and a period of 1 s, that is less than 8.8 s ago. This time counts
    /// from the flusher's last reading of the clock before the call. Older tokens stay spent. In an outage with
    /// `OnOutage::Open` or `OnOutage::Local`, a call takes nothing from what this process holds. Its tokens stay spent,
    /// too.
    pub fn refund(&self, spent: Spent) {
        if let Some(withdrawn) = spent.taken {
            self.sync().refund(withdrawn, spent.tokens, Instant::now());
        }
    }

    /// Returns the tokens of this key that this process holds.
    pub fn held(&self, key: &[u8]) -> u64 {
        self.sync().held(key).0
    }

    /// Returns how many tokens beyond the limit may be spent in any window, while the store keeps its data and every
    /// process reaches it: always 0. If some processes reach the store and others do not, those that do not may spend
    /// their shares in addition. Their shares together are at most the limit, unless
    /// [`processes`](LeasedBuilder::processes) is set.
    pub fn overshoot_bound(&self) -> u64 {
        0
    }

    /// Returns the state of the limit. Reads every key in use.
    pub fn readings(&self) -> Readings {
        self.sync().read(Instant::now())
    }
}

impl Distributed for Leased {
    const WAITS: bool = true;

    type Permit = Spent;
    type Place = FirstWait;

    fn admit(&self, key: &[u8], tokens: u64, now: Instant) -> Decision<Spent, FirstWait, RateLimited> {
        self.admit_at(key, tokens, || now)
    }

    fn poll(&self, newcomer: &mut FirstWait, cx: &mut Context<'_>, now: Instant) -> Poll<Result<Spent, RateLimited>> {
        if Pin::new(&mut newcomer.settled).poll(cx).is_pending() && now < newcomer.give_up_at {
            return Poll::Pending;
        }
        Poll::Ready(self.take(&newcomer.entry, newcomer.tokens))
    }

    fn give_up_at(&self, newcomer: &FirstWait) -> Instant {
        newcomer.give_up_at
    }

    /// The call has taken nothing yet.
    fn leave(&self, _newcomer: &mut FirstWait) {}

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

impl fmt::Debug for FirstWait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FirstWait").field("tokens", &self.tokens.0).finish_non_exhaustive()
    }
}
