use super::{
    admit::{Taken, Waiting},
    builder::ExactBuilder,
};
use crate::{
    error::{ConfigError, RateLimited},
    rate_limit::{
        Quota,
        distributed::{
            by_key::Distributed,
            store::Store,
            sync::{bucket::synchronizer::BucketSync, flusher::Flusher, readings::Readings, synchronizer::Handle},
        },
    },
    shell::Decision,
};
use std::{fmt, future::poll_fn, pin::pin, sync::Arc, task::Poll};
use tokio::time::{Instant, sleep_until};

/// A limit that many processes share by asking the store for each decision. Each key has a token bucket of the same
/// quota.
///
/// The flusher asks for all callers. At most two requests are in flight at a time. Callers that arrive while two are in
/// flight wait for the next request. A request carries a batch of keys, and all callers of a key share its entry in the
/// batch. A busy key therefore costs at most two requests per round trip, independent of its number of callers. This
/// process remembers a refusal until tokens are due again, but no longer than the time between two probes. A caller
/// that it refuses from memory costs no request.
///
/// # Bound
///
/// While the store answers, all processes together admit at most `burst + rate * (t + deadline)` tokens of a key. This
/// holds for any interval of length t. The store grants as a token bucket does, but a caller may use a grant up to one
/// deadline after the store made it. `rate * deadline` is the [`overshoot_bound`](Self::overshoot_bound).
///
/// # When the store does not answer
///
/// No caller waits longer than the deadline. After the deadline this process decides by itself, as
/// [`OnOutage`](crate::rate_limit::distributed::OnOutage) says, and later reports to the store what it admitted. A
/// grant that comes too late for its caller pays for the tokens that the caller took without the grant.
///
/// After three failures in a row the store is down, and callers no longer wait. The flusher then asks once in each
/// [probe period](ExactBuilder::probe_every) whether the store is back.
///
/// When the store is back, each process reports the part of what it admitted that has not drained since. The processes
/// decide by themselves for another 2.5 probe periods, plus the time that they [need to
/// reconnect](crate::rate_limit::distributed::Store::returns_within). So no process takes tokens that another has
/// spent. [`StoreHealth::is_up`](crate::rate_limit::distributed::StoreHealth::is_up) is false until then.
///
/// Tokens that do not fit below the burst are a [debt](ExactBuilder::max_debt). A debt slows the key down and locks no
/// caller out.
///
/// # Cost
///
/// A refusal from memory costs two hashes, three short locks and one reading of the clock. A request to the store costs
/// an allocation, a timer and a round trip.
///
/// # Cancellation
///
/// A caller that is dropped while it waits takes nothing. Tokens that the store has already granted to that caller go
/// back to the store, less what has drained since. Tokens that the store grants to it later first pay for spends of
/// this process that the store does not know. The rest of them goes back in the same way.
#[doc(alias = "distributed rate limit")]
#[derive(Clone)]
pub struct Exact {
    pub(in crate::rate_limit::distributed) handle: Arc<Handle<BucketSync>>,
}

impl Exact {
    /// Starts to configure a limit with this quota for each key, kept in this store.
    pub fn builder(store: impl Store, quota: Quota) -> ExactBuilder {
        ExactBuilder::new(store, quota)
    }

    /// Takes `tokens` of this key, all or none, as the store decides.
    ///
    /// # Errors
    ///
    /// [`RateLimited`] if too few tokens are left, with the time until there will be enough. If this process decides by
    /// itself and the policy knows no time, as with `OnOutage::Closed`, the error has the time between two probes.
    /// There is no time if the cost is above the burst, or the key is longer than
    /// [`LONGEST_KEY`](crate::rate_limit::distributed::LONGEST_KEY).
    pub async fn acquire(&self, key: &[u8], tokens: u64) -> Result<Taken, RateLimited> {
        let asked = match self.admit(key, tokens, Instant::now()) {
            Decision::Admitted(taken) => return Ok(taken),
            Decision::Refused(refused) => return Err(refused),
            Decision::Waits(asked) => asked,
        };
        let mut give_up = pin!(sleep_until(self.give_up_at(&asked)));
        let mut waiting = Waiting::new(self, asked);
        poll_fn(|cx| {
            let answer = waiting.poll(cx);
            if answer.is_pending() && give_up.as_mut().poll(cx).is_ready() {
                return waiting.give_up().map_or(Poll::Pending, Poll::Ready);
            }
            answer
        })
        .await
    }

    /// Gives back the tokens of a call that was not made after all, less what has drained since. If this process
    /// admitted the call by itself, it takes back at most the tokens that it has not yet reported for the key.
    pub fn refund(&self, taken: Taken) {
        taken.give_back(self.sync());
    }

    /// Makes another flusher, for a runtime that may outlive that of the first. One flusher works at a time, and the
    /// others wait for their turn: see [`Flusher::run`]. The new flusher does nothing before it runs.
    ///
    /// After a time without a flusher the limit continues as after an outage. The process reports what it admitted. The
    /// store decides again 2.5 probe periods after its next answer, plus the time that processes [need to
    /// reconnect](Store::returns_within).
    pub fn flusher(&self) -> Flusher {
        self.handle.flusher()
    }

    /// Returns the quota.
    pub fn quota(&self) -> Quota {
        self.sync().quota()
    }

    /// Changes the quota for this process. The store decides each request by the quota of the process that asks. Spent
    /// tokens stay spent, and drain at the old rate until the next request.
    ///
    /// # Errors
    ///
    /// As [`ExactBuilder::build`].
    pub fn set_quota(&self, quota: Quota) -> Result<(), ConfigError> {
        self.sync().set_quota(quota)
    }

    /// Returns how many tokens beyond `burst + rate * t` all processes together may admit in any interval of length t,
    /// while the store answers: `rate * deadline`, rounded up.
    pub fn overshoot_bound(&self) -> u64 {
        let quota = self.quota();
        let tokens = u128::from(quota.count()) * self.sync().deadline.as_nanos();
        u64::try_from(tokens.div_ceil(quota.period().as_nanos().max(1))).unwrap_or(u64::MAX)
    }

    /// Returns this process's part of all tokens of this key that were admitted in the last four seconds, by the
    /// answers of the store. From 1/1024 to 1. Without answers in that time, and for a key not in use, it is one
    /// divided by the expected number of [`processes`](ExactBuilder::processes).
    ///
    /// In an outage with [`OnOutage::FairShare`](crate::rate_limit::distributed::OnOutage::FairShare) this reading may
    /// change. The process still keeps to the share that it had at its first call for the key in that outage.
    pub fn share(&self, key: &[u8]) -> f64 {
        self.sync().share(key, Instant::now()).fraction()
    }

    /// Returns the state of the limit. Reads every key in use, one 16th of the table at a time.
    pub fn readings(&self) -> Readings {
        self.sync().read(Instant::now())
    }

    pub(super) fn sync(&self) -> &BucketSync {
        self.handle.synchronizer()
    }
}

impl fmt::Debug for Exact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exact").field("quota", &self.quota()).finish_non_exhaustive()
    }
}
