use super::{
    entry::{BucketEntry, Verdict, Waiter},
    synchronizer::{BucketSync, Pace},
};
use crate::{
    answer::answer,
    rate_limit::{
        Quota,
        distributed::{
            ledger::bucket::Wants,
            store::{Charge, Charged, LARGEST_BATCH, Store, StoreError},
            sync::{ask::ask, synchronizer::Synchronizer},
        },
        tokens::Tokens,
    },
    sync::{Ordering, lock},
};
use std::{mem, sync::Arc, time::Duration};
use tokio::time::Instant;

/// Keys in flight: charges on their way to the store. A batch that is dropped, with its flusher, has failed.
pub(super) struct BucketBatch {
    charges: Vec<Charge>,
    /// The entry of each charge, and the callers that wait for the answer. Empty for a probe.
    asking: Vec<(Arc<BucketEntry>, Vec<Waiter>)>,
    sent: Instant,
}

/// A batch, and the answer of the store or the failure.
pub(super) type Landed = (BucketBatch, Result<Vec<Charged>, StoreError>);

impl BucketBatch {
    /// Sends the batch to the store, and waits for the answer.
    pub(super) async fn fly(self, store: Arc<dyn Store>, deadline: Duration) -> Landed {
        let answer = ask(|| store.charge(&self.charges), self.charges.len(), deadline).await;
        (self, answer)
    }
}

impl Drop for BucketBatch {
    fn drop(&mut self) {
        for ((entry, _), charge) in self.asking.iter().zip(&self.charges) {
            lock(&entry.state).ledger.failed(charge);
        }
    }
}

impl BucketSync {
    /// Returns the next batch, if there is anything to ask or to report. It takes at most `leaving` keys from the
    /// queue, and subtracts them from `leaving`. If the queue is empty, it sets `leaving` to zero.
    pub(super) fn next_batch(&self, now: Instant, leaving: &mut usize) -> Option<BucketBatch> {
        let quota = self.quota();
        let mut batch = BucketBatch { charges: Vec::new(), asking: Vec::new(), sent: now };
        while batch.charges.len() < LARGEST_BATCH && *leaving > 0 {
            let Some(entry) = lock(&self.queue).pop_front() else {
                *leaving = 0;
                break;
            };
            *leaving -= 1;
            let mut state = lock(&entry.state);
            // A caller that has gone wants nothing. Its waiter is dropped without the lock, since the drop may run the
            // code of a waker.
            let (gone, waiters): (Vec<_>, Vec<_>) =
                state.dequeue().into_iter().partition(|waiter| waiter.verdict.is_closed());
            if waiters.is_empty() && !state.ledger.has_news() {
                // Queued => Idle
                drop(state);
                drop(gone);
                continue;
            }
            // Queued => InFlight
            let wants = Wants {
                want: waiters.iter().fold(Tokens::ZERO, |sum, waiter| sum.saturating_add(waiter.tokens)),
                least: waiters.iter().map(|waiter| waiter.tokens).min().unwrap_or_default(),
            };
            let sequence = self.sequence.fetch_add(1, Ordering::Relaxed) + 1;
            let now = self.origin.to(now);
            batch.charges.push(state.ledger.charge(&entry.name, &quota, &self.owner, wants, sequence, now));
            drop(state);
            batch.asking.push((entry, waiters));
        }
        (!batch.charges.is_empty()).then_some(batch)
    }

    /// Returns a probe that tests whether a failed store can do its work. The probe takes a token of a key that no
    /// limit uses. To grant it, the store has to write.
    pub(super) fn probe(&self, now: Instant) -> BucketBatch {
        let quota = Quota::new(1, Duration::from_millis(1));
        let key = Arc::from(&b"steadfast probes whether the store is back"[..]);
        let probe = Charge::that_wants(1, key, quota, self.owner.client);
        BucketBatch { charges: vec![probe], asking: Vec::new(), sent: now }
    }

    /// Applies the answer or the failure of a batch.
    pub(super) fn landed(&self, (mut batch, answer): Landed, now: Instant) {
        self.health().note(&answer, batch.sent, self.deadline, now);
        let asked = mem::take(&mut batch.asking).into_iter().zip(&batch.charges);
        match answer {
            Ok(charged) => {
                for (((entry, waiters), charge), charged) in asked.zip(&charged) {
                    self.answered(&entry, waiters, charge, charged, batch.sent, now);
                }
            }
            Err(_) => {
                for ((entry, waiters), charge) in asked {
                    self.failed(&entry, waiters, charge);
                }
                if !self.health().decides() {
                    self.let_no_caller_wait();
                }
            }
        }
    }

    /// Notes for one key that the store has not answered.
    fn failed(&self, entry: &Arc<BucketEntry>, waiters: Vec<Waiter>, charge: &Charge) {
        let mut state = lock(&entry.state);
        state.ledger.failed(charge);
        if state.ledger.has_news() {
            // InFlight => Queued
            self.queue(entry, &mut state);
        }
        drop(state);
        release(waiters);
    }

    /// Applies the answer of the store for one key.
    fn answered(
        &self,
        entry: &Arc<BucketEntry>,
        waiters: Vec<Waiter>,
        charge: &Charge,
        charged: &Charged,
        sent: Instant,
        now: Instant,
    ) {
        let mut state = lock(&entry.state);
        let (sent, now) = (self.origin.to(sent), self.origin.to(now));
        let asked = match self.pace {
            // A call that the ledger refuses would be refused by the store.
            Pace::AtOnce { .. } => Some(sent),
            // A call that the ledger admits would be admitted by the store, if no other process spends.
            Pace::Each(_) => None,
        };
        state.ledger.answered(charge, charged, asked, now);
        // A store must not grant more than it was asked for.
        let mut left = Tokens(charged.granted.min(charge.want));
        let judge = |Waiter { tokens, verdict }| {
            // Callers that have gone get nothing of the grant.
            let answer = if tokens <= left && !verdict.is_closed() {
                left = left.saturating_sub(tokens);
                Verdict::Granted { at: charged.at }
            } else {
                let wait = state.ledger.until_room(&charge.quota, tokens, now);
                Verdict::Refused { retry_after: wait.duration() }
            };
            (tokens, verdict, answer)
        };
        let judged: Vec<_> = waiters.into_iter().map(judge).collect();
        drop(state);
        for (tokens, verdict, judgement) in judged {
            let granted = matches!(judgement, Verdict::Granted { .. });
            // The caller may have gone in the meantime.
            if !answer(verdict, judgement) && granted {
                left = left.saturating_add(tokens);
            }
        }
        let mut state = lock(&entry.state);
        let left = state.ledger.pay(left, &charge.quota, now);
        state.ledger.refund(left, charged.at);
        if state.ledger.has_news() {
            // InFlight => Queued. Callers that came in the meantime have already queued the key.
            self.queue(entry, &mut state);
        }
    }
}

/// Notifies callers that the store did not answer. Their wakers run, so no lock may be held.
pub(super) fn release(waiters: Vec<Waiter>) {
    for waiter in waiters {
        // A caller that has gone needs no answer.
        answer(waiter.verdict, Verdict::Unanswered);
    }
}
