use super::{TokenBucket, line::Place, token_bucket::Turn};
use crate::{error::RateLimited, shell::Frame};
use std::{
    convert::Infallible,
    task::{Context, Poll},
    time::Duration,
};
use tokio::time::Instant;

/// What a rate limit takes its tokens from: a [`TokenBucket`], a [`SlidingWindow`](super::SlidingWindow), a bucket for
/// each key, several of them; or one of your own.
pub trait Limit<Request> {
    /// Whether a call may wait. If so it reads the deadline that it inherits.
    const WAITS: bool;

    /// What an admitted call has taken: plain data, with no destructor of its own.
    type Permit;

    /// A place among those who wait: plain data, with no destructor of its own. [`Infallible`] where nobody does.
    type Place;

    /// Takes tokens for a call, all or none, or says that it has to wait.
    fn admit(&self, request: &Request, tokens: u64, frame: &mut Frame) -> Admission<Self::Permit, Self::Place>;

    /// Asks for a place. On `Pending` the waker is registered, or [`Frame::wake_at`] was asked; on `Ready` the place is
    /// gone.
    fn poll(
        &self,
        place: &mut Self::Place,
        cx: &mut Context<'_>,
        frame: &mut Frame,
    ) -> Poll<Result<Self::Permit, RateLimited>>;

    /// Gives up a place, and what was granted to it meanwhile.
    fn leave(&self, place: &mut Self::Place, frame: &mut Frame);

    /// Gives back what was taken for a call that then was not made, or need not count.
    fn refund(&self, permit: Self::Permit, frame: &mut Frame);
}

/// What becomes of a call at a [`Limit`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Admission<Permit, Place> {
    /// The call may go on, and has taken this.
    Admitted(Permit),
    /// There are too few tokens.
    Refused(RateLimited),
    /// There will be enough soon, and this is the call's place until then.
    Waits(Place),
}

impl<Permit, Place> From<Result<Permit, RateLimited>> for Admission<Permit, Place> {
    #[inline]
    fn from(verdict: Result<Permit, RateLimited>) -> Self {
        match verdict {
            Ok(permit) => Self::Admitted(permit),
            Err(refused) => Self::Refused(refused),
        }
    }
}

/// Says in words what a limit allows, for [`Explanation`](crate::stack::Explanation).
pub trait DescribeLimit {
    /// What it allows.
    fn describe(&self) -> String;

    /// The longest that a call waits here.
    fn longest_wait(&self) -> Duration {
        Duration::ZERO
    }
}

/// One store of tokens for all calls, which has them or has not: a [`TokenBucket`] or a
/// [`SlidingWindow`](super::SlidingWindow). Every such store is a [`Limit`] that refuses at once.
pub trait Tokens {
    /// Takes `tokens` at `now`, all or none.
    ///
    /// # Errors
    ///
    /// [`RateLimited`] with the time until there are enough, or with none where there never will be.
    fn take(&self, tokens: u64, now: Instant) -> Result<(), RateLimited>;

    /// Gives back what was taken for nothing.
    fn give_back(&self, tokens: u64);
}

impl<Request, T: Tokens> Limit<Request> for T {
    const WAITS: bool = false;

    type Permit = u64;
    type Place = Infallible;

    #[inline]
    fn admit(&self, _request: &Request, tokens: u64, frame: &mut Frame) -> Admission<u64, Infallible> {
        self.take(tokens, frame.now()).map(|()| tokens).into()
    }

    fn poll(
        &self,
        place: &mut Infallible,
        _cx: &mut Context<'_>,
        _frame: &mut Frame,
    ) -> Poll<Result<u64, RateLimited>> {
        match *place {}
    }

    fn leave(&self, place: &mut Infallible, _frame: &mut Frame) {
        match *place {}
    }

    #[inline]
    fn refund(&self, tokens: u64, _frame: &mut Frame) {
        self.give_back(tokens);
    }
}

impl Tokens for TokenBucket {
    #[inline]
    fn take(&self, tokens: u64, now: Instant) -> Result<(), RateLimited> {
        self.try_acquire_at(tokens, now)
    }

    #[inline]
    fn give_back(&self, tokens: u64) {
        self.refund(tokens);
    }
}

impl DescribeLimit for TokenBucket {
    fn describe(&self) -> String {
        self.quota().to_string()
    }
}

/// A bucket in which refused calls count: [`RateLimit::count_refused`](super::RateLimit::count_refused).
#[derive(Clone, Debug)]
pub struct Owing(pub(super) TokenBucket);

impl Tokens for Owing {
    fn take(&self, tokens: u64, now: Instant) -> Result<(), RateLimited> {
        self.0.try_acquire_or_owe_at(tokens, now)
    }

    fn give_back(&self, tokens: u64) {
        self.0.refund(tokens);
    }
}

impl DescribeLimit for Owing {
    fn describe(&self) -> String {
        format!("{}, refused calls count", self.0.quota())
    }
}

/// A bucket for which calls wait: [`RateLimit::wait`](super::RateLimit::wait).
#[derive(Clone, Debug)]
pub struct InLine(pub(super) TokenBucket);

/// The place of a call that waits for a bucket.
#[derive(Debug)]
pub struct PlaceInLine {
    place: Place,
    tokens: u64,
}

impl<Request> Limit<Request> for InLine {
    const WAITS: bool = true;

    type Permit = u64;
    type Place = PlaceInLine;

    #[inline]
    fn admit(&self, _request: &Request, tokens: u64, frame: &mut Frame) -> Admission<u64, PlaceInLine> {
        let now = frame.now();
        match self.0.join_at(tokens, now, frame.inherited().deadline()) {
            Ok(None) => Admission::Admitted(tokens),
            Ok(Some(place)) => Admission::Waits(PlaceInLine { place, tokens }),
            Err(refused) => Admission::Refused(refused),
        }
    }

    fn poll(&self, place: &mut PlaceInLine, cx: &mut Context<'_>, frame: &mut Frame) -> Poll<Result<u64, RateLimited>> {
        match self.0.poll_place_at(&place.place, cx.waker(), frame.now()) {
            Turn::Come => Poll::Ready(Ok(place.tokens)),
            Turn::Refused(refused) => Poll::Ready(Err(refused)),
            Turn::NotBefore(instant) => {
                frame.wake_at(instant);
                Poll::Pending
            }
        }
    }

    fn leave(&self, place: &mut PlaceInLine, frame: &mut Frame) {
        self.0.leave_at(&place.place, frame.now());
    }

    fn refund(&self, tokens: u64, _frame: &mut Frame) {
        self.0.refund(tokens);
    }
}

impl DescribeLimit for InLine {
    fn describe(&self) -> String {
        format!("{}, calls wait up to {:?}", self.0.quota(), self.0.max_wait())
    }

    fn longest_wait(&self) -> Duration {
        self.0.max_wait()
    }
}
