use crate::{
    clock::Nanos,
    rate_limit::tokens::Tokens,
    waiters::{Place, Waiters, Wakers},
};
use std::task::Waker;

/// The calls that wait for tokens, in order of arrival, and those whose turn has come but that have not asked since.
///
/// The bucket has it under its lock and decides whose turn it is.
#[derive(Debug)]
pub(super) struct WaitQueue {
    waiters: Waiters<Waiter, Answer, 1>,
    /// The tokens of all calls that ever joined, which wraps.
    joined: u64,
}

/// The only class of waiters.
const CLASS: usize = 0;

#[derive(Clone, Copy, Debug)]
struct Waiter {
    tokens: Tokens,
    /// The tokens of all calls that had joined when this one had. The distance to the first waiter's number is the
    /// tokens between them, or more if a waiter there gave up.
    joined: u64,
}

#[derive(Clone, Copy, Debug)]
enum Answer {
    Granted,
    Refused,
    Closed,
}

/// Where a place stands.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum BucketWaiterState {
    Granted,
    Refused,
    /// The bucket is closed.
    Closed,
    /// Its turn is expected at this time.
    Expected(Nanos),
    /// Its turn was expected by now, but has not come. These tokens are granted first, its own included.
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

    /// The tokens that all waiters wait for.
    pub(super) fn tokens(&self) -> Tokens {
        Tokens(u64::try_from(self.waiters.all().weight).unwrap_or(u64::MAX))
    }

    /// The tokens that this place and those before it wait for. `None` where it was answered.
    pub(super) fn tokens_up_to(&self, place: Place) -> Option<Tokens> {
        let own = self.waiters.get(place)?.tokens;
        let before = self.waiters.in_order(CLASS).take_while(|(other, _)| *other != place);
        Some(before.fold(own, |sum, (_, waiter)| sum.saturating_add(waiter.tokens)))
    }

    /// Takes a place at the end, which expects its turn at `expected`. `None` if 2^32 - 1 places are taken.
    pub(super) fn join(&mut self, tokens: Tokens, expected: Nanos) -> Option<Place> {
        let joined = self.joined.wrapping_add(tokens.0);
        let place = self.waiters.join(CLASS, tokens.0, expected, Waiter { tokens, joined })?;
        self.joined = joined;
        Some(place)
    }

    /// The tokens that the first waiter waits for.
    pub(super) fn first(&self) -> Option<Tokens> {
        Some(self.waiters.get(self.waiters.oldest(CLASS)?)?.tokens)
    }

    /// It is the first waiter's turn.
    pub(super) fn grant(&mut self) {
        self.answer_first(Answer::Granted);
    }

    /// The first waiter can never have its tokens.
    pub(super) fn refuse(&mut self) {
        self.answer_first(Answer::Refused);
    }

    /// No waiter can have more than `burst` from now on, wherever it stands.
    pub(super) fn refuse_above(&mut self, burst: Tokens) {
        let waiters = self.waiters.in_order(CLASS);
        let refused: Vec<_> = waiters.filter(|(_, waiter)| waiter.tokens > burst).map(|(place, _)| place).collect();
        for place in refused {
            self.waiters.answer(place, Answer::Refused);
        }
    }

    /// Refuses all waiters. Those whose turn has come keep their tokens.
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

    /// The first waiter's turn comes at `due`. Wakes it if it expects its turn later.
    pub(super) fn expect(&mut self, due: Nanos) {
        if let Some(first) = self.waiters.oldest(CLASS) {
            self.waiters.expect(first, due);
        }
    }

    /// The task of this place asks now, until it [waits on](Self::wait_on) or the lock is released.
    pub(super) fn announce(&mut self, place: Place) {
        self.waiters.announce(place);
    }

    /// Asks for a place at `now`. A place that was answered is gone.
    pub(super) fn ask(&mut self, place: Place, now: Nanos) -> BucketWaiterState {
        let Some(asks_at) = self.waiters.asks_at(place) else {
            return match self.waiters.take_answer(place) {
                Some((Answer::Granted, _)) => BucketWaiterState::Granted,
                Some((Answer::Closed, _)) => BucketWaiterState::Closed,
                // No task asks for a place that is gone.
                Some((Answer::Refused, _)) | None => BucketWaiterState::Refused,
            };
        };
        if asks_at > now {
            return BucketWaiterState::Expected(asks_at);
        }
        BucketWaiterState::Behind { tokens: self.tokens_or_more_up_to(place) }
    }

    /// As [`tokens_up_to`](Self::tokens_up_to), but in constant time: more if a waiter in between gave up.
    fn tokens_or_more_up_to(&self, place: Place) -> Tokens {
        let before = |first: Waiter| first.joined.wrapping_sub(first.tokens.0);
        let first = self.waiters.oldest(CLASS).and_then(|first| self.waiters.get(first)).map_or(self.joined, before);
        Tokens(self.waiters.get(place).map_or(0, |waiter| waiter.joined.wrapping_sub(first)))
    }

    /// The task of this place waits on, and expects its turn at `due`. Swaps `waker` with the one to be woken until
    /// now.
    pub(super) fn wait_on(&mut self, place: Place, due: Nanos, waker: &mut Option<Waker>) {
        self.waiters.wait_on(place, due, waker);
    }

    /// Gives up a place. Returns the tokens that had been granted to it.
    pub(super) fn leave(&mut self, place: Place) -> Option<Tokens> {
        match self.waiters.take_answer(place) {
            Some((Answer::Granted, waiter)) => Some(waiter.tokens),
            Some((Answer::Refused | Answer::Closed, _)) => None,
            None => {
                self.waiters.leave(place);
                None
            }
        }
    }

    /// The wake-ups that are due once the lock is released.
    pub(super) fn take_wakers(&mut self) -> Wakers {
        self.waiters.take_wakers()
    }
}
