//! Reports the ends of deliveries to Redis.

use super::{super::requests::Outcome, Asking, Run};
use crate::redis::Fault;
use futures_util::stream::{FuturesUnordered, StreamExt};
use std::{
    collections::VecDeque,
    task::{Context, Poll},
};
use tokio::time::Instant;

/// The most requests in flight.
const MOST_AT_ONCE: usize = 2;
/// The most outcomes in one request.
const MOST_SETTLED: usize = 500;

/// While a request is in flight, a second one is sent only with more outcomes than this. Fewer outcomes wait, so that
/// they go together in one request.
const FEW_SETTLED: usize = 250;

type Answer = (Vec<Outcome>, Result<(), Fault>);

#[derive(Default)]
pub(super) struct Settling {
    /// The outcomes that wait to be sent.
    outcomes: VecDeque<Outcome>,
    requests: FuturesUnordered<Asking<Answer>>,
}

impl Settling {
    pub(super) fn add(&mut self, outcomes: impl IntoIterator<Item = Outcome>) {
        self.outcomes.extend(outcomes);
    }

    /// Returns whether Redis has confirmed every outcome.
    pub(super) fn is_done(&self) -> bool {
        self.outcomes.is_empty() && self.requests.is_empty()
    }

    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Answer> {
        match self.requests.poll_next_unpin(cx) {
            Poll::Ready(Some(answer)) => Poll::Ready(answer),
            Poll::Ready(None) | Poll::Pending => Poll::Pending,
        }
    }

    /// Returns the outcomes of the next request, in the order of the stream. `None` if no request is to be sent now.
    fn next(&mut self) -> Option<Vec<Outcome>> {
        let on_their_way = self.requests.len();
        if on_their_way >= MOST_AT_ONCE || self.outcomes.len() <= on_their_way * FEW_SETTLED {
            return None;
        }
        let count = self.outcomes.len().min(MOST_SETTLED);
        let mut outcomes: Vec<Outcome> = self.outcomes.drain(..count).collect();
        outcomes.sort_unstable_by_key(|outcome| outcome.entry);
        Some(outcomes)
    }
}

impl<C> Run<C> {
    pub(super) fn settle(&mut self) {
        while let Some(outcomes) = self.settling.next() {
            self.settling.requests.push(Box::pin(self.requests.clone().settle(outcomes)));
        }
    }

    /// Releases the messages whose ends Redis has recorded. After a failure the outcomes wait to be sent again.
    pub(super) fn settled(&mut self, outcomes: Vec<Outcome>, result: Result<(), Fault>, now: Instant) {
        if self.answered(result, now).is_none() {
            return self.settling.add(outcomes);
        }
        for outcome in &outcomes {
            self.keeping.release(outcome.entry);
        }
    }
}
