use super::{SlidingWindow, TokenBucket, bucket_state::Way, line::Place, token_bucket::Turn};
use crate::{
    error::RateLimited,
    shell::{Frame, RefusesNow},
    timeout::Deadline,
};
use std::{
    convert::Infallible,
    task::{Context, Poll},
    time::Duration,
};
use tokio::time::Instant;

/// What a rate limit takes its tokens from: a [`TokenBucket`], a [`SlidingWindow`], a bucket for each key, several of
/// them; or one of your own. One that refuses at once implements [`admit`](Self::admit) and [`refund`](Self::refund), and
/// its place is [`Infallible`].
pub trait Limit<Request> {
    /// Whether a call may wait. If so it reads the deadline that it inherits.
    const WAITS: bool = false;

    /// Whether a call waits only until it is known if there are enough tokens, not until there are. Then it waits in
    /// [shadow](super::RateLimit::shadow), too: nobody knows earlier whether it would be refused.
    const ASKS: bool = false;

    /// What an admitted call has taken: plain data, with no destructor of its own.
    type Permit;

    /// A place among those who wait: plain data, with no destructor of its own. [`Infallible`] where nobody does.
    type Place;

    /// Takes tokens for a call, all or none, or says that it has to wait.
    fn admit(&self, request: &Request, tokens: u64, frame: &mut Frame) -> Admission<Self::Permit, Self::Place>;

    /// Whether a call of this cost would be refused at `due`, as far as can be known now. Nothing changes by asking. A
    /// [retry](crate::retry) further out asks before it waits.
    ///
    /// A limit that lets calls wait refuses those that would have to wait too long. Default: `false`.
    fn would_refuse(&self, _request: &Request, _tokens: u64, _due: Instant, _frame: &mut Frame) -> bool {
        false
    }

    /// Asks for a place. On `Pending` the waker is registered, or [`Frame::wake_at`] was asked; on `Ready` the place is
    /// gone. Not called where nobody waits.
    fn poll(
        &self,
        _place: &mut Self::Place,
        _cx: &mut Context<'_>,
        _frame: &mut Frame,
    ) -> Poll<Result<Self::Permit, RateLimited>> {
        Poll::Ready(Err(RateLimited::new(None)))
    }

    /// Gives up a place, and what was granted to it meanwhile. Not called where nobody waits.
    fn leave(&self, _place: &mut Self::Place, _frame: &mut Frame) {}

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

impl<Permit> Admission<Permit, Infallible> {
    /// The verdict where nobody waits.
    #[inline]
    pub(super) fn at_once(self) -> Result<Permit, RateLimited> {
        match self {
            Self::Admitted(permit) => Ok(permit),
            Self::Refused(refused) => Err(refused),
            Self::Waits(place) => match place {},
        }
    }
}

impl<Permit> From<Result<Permit, RateLimited>> for Admission<Permit, Infallible> {
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

    /// The longest that a call waits here in [shadow](super::RateLimit::shadow).
    fn longest_wait_in_shadow(&self) -> Duration {
        Duration::ZERO
    }
}

impl<Request> Limit<Request> for TokenBucket {
    /// The tokens taken.
    type Permit = u64;
    type Place = Infallible;

    #[inline]
    fn admit(&self, _request: &Request, tokens: u64, frame: &mut Frame) -> Admission<u64, Infallible> {
        let taken = self.take_at(tokens, frame.now());
        if taken != Ok(Way::Open) {
            frame.user_code_runs();
        }
        taken.map(|_| tokens).into()
    }

    fn would_refuse(&self, _request: &Request, tokens: u64, due: Instant, _frame: &mut Frame) -> bool {
        self.would_refuse_at(tokens, due)
    }

    #[inline]
    fn refund(&self, tokens: u64, frame: &mut Frame) {
        self.refund(tokens);
        // It may have woken calls that waited.
        frame.user_code_runs();
    }
}

impl DescribeLimit for TokenBucket {
    fn describe(&self) -> String {
        match self.is_closed() {
            true => format!("{}, closed", self.quota()),
            false => self.quota().to_string(),
        }
    }
}

/// Of a call that costs one token.
impl RefusesNow for TokenBucket {
    fn refuses_now(&self, frame: &mut Frame) -> bool {
        self.would_refuse_at(1, frame.now())
    }
}

/// A bucket in which refused calls count: [`RateLimit::count_refused`](super::RateLimit::count_refused).
#[derive(Clone, Debug)]
pub struct Owing(pub(super) TokenBucket);

impl<Request> Limit<Request> for Owing {
    /// The tokens taken.
    type Permit = u64;
    type Place = Infallible;

    fn admit(&self, _request: &Request, tokens: u64, frame: &mut Frame) -> Admission<u64, Infallible> {
        let taken = self.0.try_acquire_or_owe_at(tokens, frame.now());
        frame.user_code_runs();
        taken.map(|()| tokens).into()
    }

    fn would_refuse(&self, _request: &Request, tokens: u64, due: Instant, _frame: &mut Frame) -> bool {
        self.0.would_refuse_at(tokens, due)
    }

    fn refund(&self, tokens: u64, frame: &mut Frame) {
        self.0.refund(tokens);
        frame.user_code_runs();
    }
}

impl DescribeLimit for Owing {
    fn describe(&self) -> String {
        format!("{}, refused calls count", self.0.describe())
    }
}

impl RefusesNow for Owing {
    fn refuses_now(&self, frame: &mut Frame) -> bool {
        self.0.refuses_now(frame)
    }
}

/// Of a call that costs one token.
impl RefusesNow for SlidingWindow {
    fn refuses_now(&self, frame: &mut Frame) -> bool {
        self.available_at(frame.now()) == 0
    }
}

impl<Request> Limit<Request> for SlidingWindow {
    /// The tokens taken, and when: what is given back is given back to the cell that counts it.
    type Permit = (u64, Instant);
    type Place = Infallible;

    fn admit(&self, _request: &Request, tokens: u64, frame: &mut Frame) -> Admission<(u64, Instant), Infallible> {
        let now = frame.now();
        self.try_acquire_at(tokens, now).map(|()| (tokens, now)).into()
    }

    fn would_refuse(&self, _request: &Request, tokens: u64, due: Instant, _frame: &mut Frame) -> bool {
        self.available_at(due) < tokens
    }

    fn refund(&self, (tokens, taken): (u64, Instant), _frame: &mut Frame) {
        self.refund_taken_at(tokens, taken);
    }
}

impl DescribeLimit for SlidingWindow {
    fn describe(&self) -> String {
        format!("{} in any {:?}", self.limit(), self.window())
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
        let joined = self.0.join_at(tokens, now, frame.inherited().deadline());
        // Under the lock it may have woken calls that waited.
        frame.user_code_runs();
        match joined {
            Ok(None) => Admission::Admitted(tokens),
            Ok(Some(place)) => Admission::Waits(PlaceInLine { place, tokens }),
            Err(refused) => Admission::Refused(refused),
        }
    }

    fn would_refuse(&self, _request: &Request, tokens: u64, due: Instant, frame: &mut Frame) -> bool {
        self.0.would_refuse_a_place_at(tokens, due, frame.inherited().deadline())
    }

    fn poll(&self, place: &mut PlaceInLine, cx: &mut Context<'_>, frame: &mut Frame) -> Poll<Result<u64, RateLimited>> {
        let turn = self.0.poll_place_at(&place.place, cx.waker(), frame.now());
        // It cloned the waker, and may have woken other calls.
        frame.user_code_runs();
        match turn {
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
        frame.user_code_runs();
    }

    fn refund(&self, tokens: u64, frame: &mut Frame) {
        self.0.refund(tokens);
        frame.user_code_runs();
    }
}

/// Of a call that costs one token and has no deadline: it is refused if its turn would come too late.
impl RefusesNow for InLine {
    fn refuses_now(&self, frame: &mut Frame) -> bool {
        self.0.would_refuse_a_place_at(1, frame.now(), Deadline::NEVER)
    }
}

impl DescribeLimit for InLine {
    fn describe(&self) -> String {
        format!("{}, calls wait up to {:?}", self.0.describe(), self.0.max_wait())
    }

    fn longest_wait(&self) -> Duration {
        self.0.max_wait()
    }
}
