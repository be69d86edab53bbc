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
/// `burst + rate * (t + deadline)` for a key: the store admits as a bucket does, and an answer is used for as long as
/// the deadline at most. `rate * deadline` is the [`overshoot_bound`](Self::overshoot_bound).
///
/// # When the store does not answer
///
/// No caller waits longer than the deadline. After it this process decides by itself, as
/// [`OnOutage`](crate::rate_limit::distributed::OnOutage) says, and reports what it admits to the store later. An
/// answer that comes too late for its caller pays for what the caller took without it.
///
/// After three failures in a row the store is down, and no caller waits at all. Every
/// [`probe_every`](ExactBuilder::probe_every) the flusher asks whether it is back.
///
/// When it is back, each process reports the part of what it admitted that has not drained since. The processes decide
/// by themselves for another two and a half probes, and for the time that the store
/// [takes](crate::rate_limit::distributed::Store::returns_within) to be reached again. So no process takes what another
/// has spent. [`StoreHealth::is_up`](crate::rate_limit::distributed::StoreHealth::is_up) is false until then.
///
/// Tokens that do not fit below the burst are a [debt](ExactBuilder::max_debt), which slows the key down and locks no
/// caller out.
///
/// # Cost
///
/// To refuse what is known to be refused: two hashes, three short locks, one reading of the clock. To ask: an
/// allocation, a timer, and a round trip.
///
/// # Cancellation
///
/// A caller that is dropped while it waits takes nothing. The limit gives back to the store what was granted for that
/// caller, less what has drained meanwhile.
#[derive(Clone)]
pub struct Exact {
    pub(in crate::rate_limit::distributed) handle: Arc<Handle<BucketSync>>,
}

impl Exact {
    /// This quota for each key, kept in this store.
    pub fn builder(store: impl Store, quota: Quota) -> ExactBuilder {
        ExactBuilder::new(store, quota)
    }

    /// Takes `tokens` of this key's, all or none, as the store decides.
    ///
    /// # Errors
    ///
    /// [`RateLimited`] where there are too few, with the time until there will be enough. With no time where the cost
    /// is above the burst, or the key longer than [`LONGEST_KEY`](crate::rate_limit::distributed::LONGEST_KEY). Where
    /// the store is down and no better time is known, it is that until the next probe.
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

    /// Gives back what was taken for a call that then was not made.
    pub fn refund(&self, taken: Taken) {
        taken.give_back(self.sync());
    }

    /// Makes another flusher, for a runtime that may outlive that of the first. One works at a time, and the others
    /// wait for their turn: see [`Flusher::run`]. Allocates the flusher; nothing happens before it runs.
    ///
    /// After a time without a flusher the limit goes on as after an outage. The process tells the store what it
    /// admitted meanwhile, and two and a half probes later the store decides again.
    pub fn flusher(&self) -> Flusher {
        self.handle.flusher()
    }

    /// The quota.
    pub fn quota(&self) -> Quota {
        self.sync().quota()
    }

    /// Changes the quota for this process. The store decides each question by the quota of the process that asks. Spent
    /// tokens stay spent, and drain at the old rate until the next question.
    ///
    /// # Errors
    ///
    /// As [`ExactBuilder::build`].
    pub fn set_quota(&self, quota: Quota) -> Result<(), ConfigError> {
        self.sync().set_quota(quota)
    }

    /// How much more than `burst + rate * t` may be admitted in any interval of length t, by all processes together,
    /// while the store answers: `rate * deadline`, rounded up.
    pub fn overshoot_bound(&self) -> u64 {
        let quota = self.quota();
        let tokens = u128::from(quota.count()) * self.sync().deadline.as_nanos();
        u64::try_from(tokens.div_ceil(quota.period().as_nanos().max(1))).unwrap_or(u64::MAX)
    }

    /// This process's part of all that was admitted of this key in the last four seconds by the answers of the store,
    /// from 0 to 1. Without answers for that long, and for a key not in use, it is one part of the expected
    /// [`processes`](ExactBuilder::processes).
    ///
    /// In an outage with [`OnOutage::FairShare`](crate::rate_limit::distributed::OnOutage::FairShare) the process keeps
    /// to the share that it had at the first call for the key in that outage, although the reading changes.
    pub fn share(&self, key: &[u8]) -> f64 {
        self.sync().share(key, Instant::now()).fraction()
    }

    /// How the limit is doing. Looks at every key in use, with a short lock for each.
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
