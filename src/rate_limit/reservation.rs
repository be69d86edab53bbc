use super::{TokenBucket, line::Place, token_bucket::Turn};
use crate::{context::CallContext, error::RateLimited, shell::Timer};
use pin_project_lite::pin_project;
use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
};
use tokio::time::Instant;

/// Tokens taken for something that may yet not happen: given back when dropped, unless it is [committed](Self::commit).
#[derive(Debug)]
#[must_use = "a reservation that is dropped at once reserves nothing"]
pub struct Reservation {
    bucket: TokenBucket,
    /// Zero once committed.
    tokens: u64,
}

impl Reservation {
    pub(super) fn new(bucket: TokenBucket, tokens: u64) -> Self {
        Self { bucket, tokens }
    }

    /// The tokens that it holds.
    pub fn tokens(&self) -> u64 {
        self.tokens
    }

    /// It has happened: the tokens are spent.
    pub fn commit(mut self) {
        self.tokens = 0;
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if self.tokens > 0 {
            self.bucket.refund(self.tokens);
        }
    }
}

pin_project! {
    /// The future of [`TokenBucket::acquire`].
    #[must_use = "futures do nothing unless polled"]
    pub struct Acquire {
        bucket: TokenBucket,
        tokens: u64,
        state: State,
        #[pin]
        timer: Timer,
    }

    impl PinnedDrop for Acquire {
        fn drop(this: Pin<&mut Self>) {
            let this = this.project();
            if let State::InLine(place) = this.state {
                this.bucket.leave_at(place, Instant::now());
            }
        }
    }
}

#[derive(Debug)]
enum State {
    Unpolled,
    InLine(Place),
    Ended,
}

impl Acquire {
    pub(super) fn new(bucket: TokenBucket, tokens: u64) -> Self {
        Self { bucket, tokens, state: State::Unpolled, timer: Timer::new() }
    }
}

impl Future for Acquire {
    type Output = Result<(), RateLimited>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        if let State::Unpolled = this.state {
            *this.state = State::Ended;
            let deadline = CallContext::current().deadline_or_never();
            match this.bucket.join_at(*this.tokens, Instant::now(), deadline)? {
                None => return Poll::Ready(Ok(())),
                Some(place) => *this.state = State::InLine(place),
            }
        }
        let answer = loop {
            let State::InLine(place) = this.state else { crate::shell::polled_after_end() };
            match this.bucket.poll_place_at(place, cx.waker(), Instant::now()) {
                Turn::NotBefore(instant) => ready!(this.timer.as_mut().poll_until(instant, cx)),
                Turn::Come => break Ok(()),
                Turn::Refused(refused) => break Err(refused),
            }
        };
        *this.state = State::Ended;
        this.timer.disarm();
        Poll::Ready(answer)
    }
}

impl fmt::Debug for Acquire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Acquire").field("tokens", &self.tokens).field("state", &self.state).finish_non_exhaustive()
    }
}
