use crate::{
    clock::Nanos,
    rate_limit::tokens::Tokens,
    waiters::{WaiterId, Waiters, Wakers},
};
use std::task::Waker;

/// The waiters of a token bucket in order of arrival, and those that were answered but have not polled since.
///
/// The bucket keeps the queue under its lock, and decides whose turn it is.
#[derive(Debug)]
pub(super) struct WaitQueue {
    waiters: Waiters<Waiter, Answer, 1>,
    /// The sum of the tokens of all calls that ever joined. It wraps.
    joined: u64,
}

/// The only class of waiters.
const CLASS: usize = 0;

#[derive(Clone, Copy, Debug)]
struct Waiter {
    tokens: Tokens,
    /// [`WaitQueue::joined`] just after this call joined. This number minus that of the first waiter is a sum of
    /// tokens. It covers all calls that joined after the first waiter, up to and including this one. Some of these
    /// calls may have given up or been refused.
    joined: u64,
}

#[derive(Clone, Copy, Debug)]
enum Answer {
    Granted,
    /// The cost is above the burst.
    Refused,
    /// The bucket is closed.
    Closed,
}

/// The state of a place in the wait queue.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum BucketWaiterState {
    Granted,
    /// The cost is above the burst.
    Refused,
    /// The bucket is closed.
    Closed,
    /// Its turn is expected at this time.
    Expected(Nanos),
    /// Its turn was expected by now, but has not come. The waiters ahead and this one together wait for `tokens` or
    /// fewer.
    Behind {
        tokens: Tokens,
    },
}

impl WaitQueue {
    pub(super) fn new() -> Self {
        Self { waiters: Waiters::new(), joined: 0 }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(super) fn len(&self) -> usize {
        self.waiters.all().calls
    }

    /// Returns the tokens that all waiters wait for.
    pub(super) fn tokens(&self) -> Tokens {
        Tokens(u64::try_from(self.waiters.all().weight).unwrap_or(u64::MAX))
    }

    /// Returns the tokens that this waiter and the waiters ahead of it wait for. `None` if it was answered.
    pub(super) fn tokens_up_to(&self, id: WaiterId) -> Option<Tokens> {
        let own = self.waiters.get(id)?.tokens;
        let before = self.waiters.in_order(CLASS).take_while(|(other, _)| *other != id);
        Some(before.fold(own, |sum, (_, waiter)| sum.saturating_add(waiter.tokens)))
    }

    /// Takes a place at the end, whose turn is expected at `expected`. Returns `None` if 2^32 - 1 places are taken.
    pub(super) fn join(&mut self, tokens: Tokens, expected: Nanos) -> Option<WaiterId> {
        let joined = self.joined.wrapping_add(tokens.0);
        let id = self.waiters.join(CLASS, tokens.0, expected, Waiter { tokens, joined })?;
        self.joined = joined;
        Some(id)
    }

    /// Returns the tokens that the first waiter waits for.
    pub(super) fn first(&self) -> Option<Tokens> {
        Some(self.waiters.get(self.waiters.oldest(CLASS)?)?.tokens)
    }

    /// Grants the first waiter its tokens.
    pub(super) fn grant(&mut self) {
        self.answer_first(Answer::Granted);
    }

    /// Refuses the first waiter: it can never get its tokens.
    pub(super) fn refuse(&mut self) {
        self.answer_first(Answer::Refused);
    }

    /// Refuses all waiters for more than `burst` tokens, wherever they are in the queue.
    pub(super) fn refuse_above(&mut self, burst: Tokens) {
        let waiters = self.waiters.in_order(CLASS);
        let refused: Vec<_> = waiters.filter(|(_, waiter)| waiter.tokens > burst).map(|(id, _)| id).collect();
        for id in refused {
            self.waiters.answer(id, Answer::Refused);
        }
    }

    /// Refuses all waiters. Those that were granted their tokens keep them.
    pub(super) fn close(&mut self) {
        while !self.is_empty() {
            self.answer_first(Answer::Closed);
        }
    }

    fn answer_first(&mut self, answer: Answer) {
        if let Some(first) = self.waiters.oldest(CLASS) {
            self.waiters.answer(first, answer);
        }
    }

    /// Records that the first waiter's turn comes at `due`. Wakes the waiter's task if the task would poll later,
    /// unless the task polls now: see [`announce`](Self::announce).
    pub(super) fn expect(&mut self, due: Nanos) {
        if let Some(first) = self.waiters.oldest(CLASS) {
            self.waiters.expect(first, due);
        }
    }

    /// Records that the task of this place polls now. The task needs no wake-up until [`wait_on`](Self::wait_on) is
    /// called or the lock is released.
    pub(super) fn announce(&mut self, id: WaiterId) {
        self.waiters.announce(id);
    }

    /// Returns the state of a place at `now`. Frees the place if it was answered.
    pub(super) fn ask(&mut self, id: WaiterId, now: Nanos) -> BucketWaiterState {
        let Some(next_poll_at) = self.waiters.next_poll_at(id) else {
            return match self.waiters.take_answer(id) {
                Some((Answer::Granted, _)) => BucketWaiterState::Granted,
                Some((Answer::Closed, _)) => BucketWaiterState::Closed,
                // `None` does not happen: no task polls a place that is gone.
                Some((Answer::Refused, _)) | None => BucketWaiterState::Refused,
            };
        };
        if next_poll_at > now {
            return BucketWaiterState::Expected(next_poll_at);
        }
        BucketWaiterState::Behind { tokens: self.tokens_or_more_up_to(id) }
    }

    /// Returns at least [`tokens_up_to`](Self::tokens_up_to), in constant time. Includes the tokens of waiters in
    /// between that gave up or were refused.
    fn tokens_or_more_up_to(&self, id: WaiterId) -> Tokens {
        let before = |first: Waiter| first.joined.wrapping_sub(first.tokens.0);
        let first = self.waiters.oldest(CLASS).and_then(|first| self.waiters.get(first)).map_or(self.joined, before);
        Tokens(self.waiters.get(id).map_or(0, |waiter| waiter.joined.wrapping_sub(first)))
    }

    /// Keeps the place waiting. Its turn is expected at `due`. Swaps `waker` with the waker registered before.
    pub(super) fn wait_on(&mut self, id: WaiterId, due: Nanos, waker: &mut Option<Waker>) {
        self.waiters.wait_on(id, due, waker);
    }

    /// Gives up a place. Returns the tokens that were granted to it.
    pub(super) fn leave(&mut self, id: WaiterId) -> Option<Tokens> {
        match self.waiters.take_answer(id) {
            Some((Answer::Granted, waiter)) => Some(waiter.tokens),
            Some((Answer::Refused | Answer::Closed, _)) => None,
            None => {
                self.waiters.leave(id);
                None
            }
        }
    }

    /// Takes the wakers to wake or drop once the lock is released.
    pub(super) fn take_wakers(&mut self) -> Wakers {
        self.waiters.take_wakers()
    }
}
