use crate::{clock::Nanos, rate_limit::tokens::Tokens};
use std::{collections::BTreeMap, mem, task::Waker};

/// Those who wait for tokens, in order of arrival, and those whose turn has come but who have not asked since.
///
/// It is the order and nothing else: whoever holds the lock on it decides whose turn it is.
#[derive(Debug, Default)]
pub(super) struct Line {
    waiting: BTreeMap<u64, Waiter>,
    answered: BTreeMap<u64, Answer>,
    /// The number of the next place.
    next: u64,
    /// The sum of the tokens that are waited for.
    tokens: Tokens,
    /// The tokens of all who ever joined, which wraps.
    joined: u64,
    /// Those to be woken once the lock is released.
    woken: Vec<Waker>,
    /// Those to be dropped then: with the last one a task may go, and all places that it holds.
    dropped: Vec<Waker>,
}

/// One place in a [`Line`]: to be given up by whoever holds it.
#[derive(Debug)]
pub(super) struct Place(u64);

#[derive(Debug)]
struct Waiter {
    tokens: Tokens,
    /// What all had joined for when this one had: the distance to the same number of the first one is what lies between
    /// them, or more if somebody there gave up.
    joined: u64,
    /// When it expects its turn, and asks again by itself.
    expected: Nanos,
    waker: Option<Waker>,
    /// It is being polled: what it is about to be told it need not be woken for.
    asking: bool,
}

#[derive(Debug)]
enum Answer {
    Granted { tokens: Tokens },
    Refused,
    Closed,
}

/// Where a place stands.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Standing {
    Granted,
    Refused,
    /// Nobody is served any more.
    Closed,
    /// Its turn is expected at this time.
    Expected(Nanos),
    /// It was expected by now, but has not come. These tokens are granted first, its own included.
    Behind {
        tokens: Tokens,
    },
}

impl Line {
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// The tokens that are waited for.
    pub(super) fn tokens(&self) -> Tokens {
        self.tokens
    }

    /// The tokens that are waited for by this place and those before it. `None` where it was answered.
    pub(super) fn tokens_up_to(&self, place: &Place) -> Option<Tokens> {
        self.waiting.contains_key(&place.0).then(|| {
            self.waiting
                .range(..=place.0)
                .fold(Tokens::ZERO, |tokens, (_, waiter)| tokens.saturating_add(waiter.tokens))
        })
    }

    pub(super) fn join(&mut self, tokens: Tokens, expected: Nanos) -> Place {
        let place = self.next;
        self.next = self.next.wrapping_add(1);
        self.tokens = self.tokens.saturating_add(tokens);
        self.joined = self.joined.wrapping_add(tokens.0);
        self.waiting.insert(place, Waiter { tokens, joined: self.joined, expected, waker: None, asking: false });
        Place(place)
    }

    /// What the first one waits for.
    pub(super) fn first(&self) -> Option<Tokens> {
        self.waiting.first_key_value().map(|(_, first)| first.tokens)
    }

    /// It is the first one's turn.
    pub(super) fn grant(&mut self) {
        self.answer(|first| Answer::Granted { tokens: first.tokens });
    }

    /// The first one can never have what it waits for.
    pub(super) fn refuse(&mut self) {
        self.answer(|_| Answer::Refused);
    }

    /// Nobody can have more than `burst` any more, wherever they stand.
    pub(super) fn refuse_above(&mut self, burst: Tokens) {
        let Self { waiting, answered, tokens, woken, .. } = self;
        waiting.retain(|place, waiter| {
            let stays = waiter.tokens <= burst;
            if !stays {
                *tokens = tokens.saturating_sub(waiter.tokens);
                answered.insert(*place, Answer::Refused);
                woken.extend(waiter.waker.take());
            }
            stays
        });
    }

    /// Nobody who waits is served any more. Those whose turn has come keep what they were granted.
    pub(super) fn close(&mut self) {
        while !self.waiting.is_empty() {
            self.answer(|_| Answer::Closed);
        }
    }

    fn answer(&mut self, answer: impl FnOnce(&Waiter) -> Answer) {
        if let Some((place, first)) = self.waiting.pop_first() {
            self.tokens = self.tokens.saturating_sub(first.tokens);
            self.answered.insert(place, answer(&first));
            let wakers = if first.asking { &mut self.dropped } else { &mut self.woken };
            wakers.extend(first.waker);
        }
    }

    /// The first one's turn comes at this time. It is woken if it expects it later.
    pub(super) fn expect(&mut self, due: Nanos) {
        if let Some(mut first) = self.waiting.first_entry() {
            let first = first.get_mut();
            if first.expected > due && !first.asking {
                self.woken.extend(first.waker.take());
            }
            first.expected = due;
        }
    }

    /// This place's turn is now expected at this time.
    pub(super) fn expect_at(&mut self, place: &Place, due: Nanos) {
        if let Some(waiter) = self.waiting.get_mut(&place.0) {
            waiter.expected = due;
        }
    }

    /// This place is about to be asked for.
    pub(super) fn announce(&mut self, place: &Place) {
        if let Some(waiter) = self.waiting.get_mut(&place.0) {
            waiter.asking = true;
        }
    }

    /// Asks for a place at `now`. A place that was answered is gone.
    pub(super) fn poll(&mut self, place: &Place, waker: Waker, now: Nanos) -> Standing {
        let first =
            self.waiting.first_key_value().map_or(self.joined, |(_, first)| first.joined.wrapping_sub(first.tokens.0));
        match self.waiting.get_mut(&place.0) {
            Some(waiter) => {
                waiter.asking = false;
                self.dropped.extend(waiter.waker.replace(waker));
                if waiter.expected > now {
                    return Standing::Expected(waiter.expected);
                }
                Standing::Behind { tokens: Tokens(waiter.joined.wrapping_sub(first)) }
            }
            None => {
                self.dropped.push(waker);
                match self.answered.remove(&place.0) {
                    Some(Answer::Granted { .. }) => Standing::Granted,
                    Some(Answer::Closed) => Standing::Closed,
                    // Nobody asks for a place that is gone.
                    Some(Answer::Refused) | None => Standing::Refused,
                }
            }
        }
    }

    /// Gives up a place. Returns the tokens that had been granted to it.
    pub(super) fn leave(&mut self, place: &Place) -> Option<Tokens> {
        if let Some(waiter) = self.waiting.remove(&place.0) {
            self.tokens = self.tokens.saturating_sub(waiter.tokens);
            self.dropped.extend(waiter.waker);
            return None;
        }
        match self.answered.remove(&place.0) {
            Some(Answer::Granted { tokens }) => Some(tokens),
            Some(Answer::Refused | Answer::Closed) | None => None,
        }
    }

    /// Whom to wake, and whom to drop, once the lock is released.
    pub(super) fn take_wakers(&mut self) -> (Vec<Waker>, Vec<Waker>) {
        (mem::take(&mut self.woken), mem::take(&mut self.dropped))
    }
}
