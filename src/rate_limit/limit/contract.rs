use crate::{
    error::RateLimited,
    shell::{Decision, Frame},
};
use std::{
    task::{Context, Poll},
    time::Duration,
};
use tokio::time::Instant;

/// The source of a rate limit's tokens: a [`TokenBucket`](crate::rate_limit::TokenBucket), a
/// [`SlidingWindow`](crate::rate_limit::SlidingWindow), a bucket for each key, several of them; or one of your own. One that
/// refuses at once implements [`admit`](Self::admit) and [`refund`](Self::refund), and its place is
/// [`Infallible`](std::convert::Infallible).
pub trait Limit<Request> {
    /// Whether a call may wait. If so it reads the deadline that it inherits.
    const WAITS: bool = false;

    /// Whether a call waits only until it is known if there are enough tokens, not until there are. Then it waits in
    /// [shadow](crate::rate_limit::RateLimit::shadow), too: until then it is not known whether it would be refused.
    const ASKS: bool = false;

    /// What an admitted call has taken: plain data, with no destructor of its own.
    type Permit;

    /// A place among those who wait: plain data, with no destructor of its own. [`Infallible`](std::convert::Infallible)
    /// where no call waits.
    type Place;

    /// Takes tokens for a call, all or none, or says that it has to wait.
    fn admit(
        &self,
        request: &Request,
        tokens: u64,
        frame: &mut Frame,
    ) -> Decision<Self::Permit, Self::Place, RateLimited>;

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

/// Says in words what a limit allows, for [`Explanation`](crate::stack::Explanation).
pub trait DescribeLimit {
    /// What it allows.
    fn describe(&self) -> String;

    /// The longest that a call waits here.
    fn longest_wait(&self) -> Duration {
        Duration::ZERO
    }

    /// The longest that a call waits here in [shadow](crate::rate_limit::RateLimit::shadow).
    fn longest_wait_in_shadow(&self) -> Duration {
        Duration::ZERO
    }
}
