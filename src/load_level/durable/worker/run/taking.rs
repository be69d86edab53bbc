//! Takes messages from the stream.

use super::{
    super::{
        requests::{Taken, Wait},
        settings::Settings,
    },
    Asking, Run,
};
use crate::redis::Fault;
use futures_util::stream::{FuturesOrdered, StreamExt};
use std::task::{Context, Poll};
use tokio::time::Instant;

/// The most requests in flight while the stream has a backlog: the server makes the next answer while the worker reads
/// one.
const MOST_AT_ONCE: usize = 4;

/// The most messages of one request.
const MOST_TAKEN: usize = 250;

type Answer = (usize, Result<Vec<Taken>, Fault>);

#[derive(Default)]
pub(super) struct Taking {
    requests: FuturesOrdered<Asking<Answer>>,
    /// The most messages that these requests may bring.
    expected: usize,
    backlog: Backlog,
}

/// Whether the last answer had all messages that its request asked for, so that the stream may have more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Backlog {
    /// One request at a time, which waits for messages. Further requests would wait behind it.
    #[default]
    None,
    /// Several requests at a time, which do not wait.
    Some,
}

impl Taking {
    pub(super) fn is_idle(&self) -> bool {
        self.requests.is_empty()
    }

    /// Returns the most messages that the requests in flight may bring.
    pub(super) fn expected(&self) -> usize {
        self.expected
    }

    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Answer> {
        match self.requests.poll_next_unpin(cx) {
            Poll::Ready(Some(answer)) => Poll::Ready(answer),
            Poll::Ready(None) | Poll::Pending => Poll::Pending,
        }
    }
}

impl<C> Run<C> {
    pub(super) fn take(&mut self) {
        let (most, wait) = match self.taking.backlog {
            Backlog::None => (1, Wait::ForOne),
            Backlog::Some => (MOST_AT_ONCE, Wait::Not),
        };
        while self.taking.requests.len() < most {
            let count = self.to_take();
            if count == 0 {
                return;
            }
            self.taking.expected += count;
            let take = self.requests.clone().take(count, wait);
            self.taking.requests.push_back(Box::pin(async move { (count, take.await) }));
        }
    }

    pub(super) fn taken(&mut self, count: usize, result: Result<Vec<Taken>, Fault>, now: Instant) {
        self.taking.expected -= count;
        let has_more = result.as_ref().is_ok_and(|messages| messages.len() >= count);
        self.taking.backlog = if has_more { Backlog::Some } else { Backlog::None };
        for taken in self.answered(result, now).unwrap_or_default() {
            self.receive(taken, now);
        }
    }

    /// Returns how many more messages the worker may have, beyond those that it has or expects.
    pub(super) fn room(&self) -> usize {
        let Settings { concurrency, prefetch, .. } = self.settings;
        (concurrency + prefetch).saturating_sub(self.keeping.held() + self.taking.expected)
    }

    /// Returns how many messages to ask for. Zero while the group or the clock is not known, and while ordinary
    /// messages must wait for a suspect. The worker may have `most` messages, the sum of the concurrency and the
    /// prefetch. While more than half of these wait for a call or are expected, it also asks for none.
    fn to_take(&self) -> usize {
        let most = self.settings.concurrency + self.settings.prefetch;
        let (waiting, expected) = (self.waiting.ordinary.len(), self.taking.expected);
        if !self.tending.is_known() || self.holds_up_others() || waiting + expected > most / 2 {
            return 0;
        }
        let wanted = most.saturating_sub(self.calls.in_flight() + waiting + expected);
        let count = wanted.min(self.room()).min(MOST_TAKEN);
        // A small request is not worthwhile while Redis has yet to confirm ends, which make room for more messages.
        let is_few = count < (most / 8).min(MOST_TAKEN);
        if is_few && !self.settling.is_done() { 0 } else { count }
    }
}
