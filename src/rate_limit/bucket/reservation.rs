use super::{token_bucket::TokenBucket, turn::Turn};
use crate::{context::CallContext, error::RateLimited, shell::Timer, waiters::WaiterId};
use pin_project_lite::pin_project;
use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
};
use tokio::time::Instant;

/// Tokens taken for work that may not happen. They are given back when the reservation is dropped, unless it is
/// [committed](Self::commit).
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

    /// Returns the tokens of the reservation.
    pub fn tokens(&self) -> u64 {
        self.tokens
    }

    /// Spends the tokens: the work has happened.
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
    /// The future of [`TokenBucket::acquire`] and [`TokenBucket::acquire_at`].
    #[must_use = "futures do nothing unless polled"]
    pub struct Acquire {
        bucket: TokenBucket,
        tokens: u64,
        state: AcquireState,
        #[pin]
        timer: Timer,
    }

    impl PinnedDrop for Acquire {
        fn drop(this: Pin<&mut Self>) {
            let this = this.project();
            if let AcquireState::Waiting(id) = this.state {
                this.bucket.leave_at(*id, Instant::now());
            }
        }
    }
}

#[derive(Debug)]
enum AcquireState {
    /// `came_at` is when the caller came, or `None` for the instant of the first poll.
    Unpolled {
        came_at: Option<Instant>,
    },
    Waiting(WaiterId),
    Ended,
}

impl Acquire {
    pub(super) fn new(bucket: TokenBucket, tokens: u64, came_at: Option<Instant>) -> Self {
        Self { bucket, tokens, state: AcquireState::Unpolled { came_at }, timer: Timer::new() }
    }

    /// Returns when the wait ends, as known now: when the tokens for the waiters ahead and for this one are minted.
    /// `None` before the first poll and after the wait. The first poll takes the place in the wait queue.
    ///
    /// - The instant moves earlier when the rate rises, a waiter ahead gives up, or tokens are given back.
    /// - It moves later when the rate falls, or when a refused call adds to the
    ///   [debt](TokenBucket::try_acquire_or_owe_at) of the bucket.
    /// - It moves later when a waiter ahead is not polled at its turn and the bucket fills: a full bucket mints
    ///   nothing.
    /// - Waiters behind this one do not move it.
    /// - It is the present instant if the turn has come or the wait was refused, and the task has not run since.
    ///
    /// Reading changes nothing. The task may run up to a millisecond later, when tokio's timers fire.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), steadfast::ConfigError> {
    /// use std::{pin::pin, time::Duration};
    /// use futures::poll;
    /// use steadfast::rate_limit::{Quota, TokenBucket};
    /// use tokio::time::Instant;
    ///
    /// let bucket = TokenBucket::builder(1, Duration::from_secs(10)).max_wait(Duration::from_secs(60)).build()?;
    /// let now = Instant::now();
    /// bucket.try_acquire_at(1, now).unwrap();
    /// let mut waiting = pin!(bucket.acquire(1));
    /// assert_eq!(waiting.due_at(), None);
    /// assert!(poll!(waiting.as_mut()).is_pending());
    /// assert_eq!(waiting.due_at(), Some(now + Duration::from_secs(10)));
    /// bucket.set_quota(Quota::new(1, Duration::from_secs(2)))?;
    /// assert_eq!(waiting.due_at(), Some(now + Duration::from_secs(2)));
    /// waiting.await.unwrap();
    /// assert_eq!(now.elapsed(), Duration::from_secs(2));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Cost
    ///
    /// Reads the clock, takes the lock, and visits each waiter ahead. Do not call it in each poll if the wait queue is
    /// long.
    pub fn due_at(&self) -> Option<Instant> {
        match &self.state {
            AcquireState::Waiting(id) => self.bucket.due_at(*id, Instant::now()),
            AcquireState::Unpolled { .. } | AcquireState::Ended => None,
        }
    }
}

impl Future for Acquire {
    type Output = Result<(), RateLimited>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        if let AcquireState::Unpolled { came_at } = *this.state {
            *this.state = AcquireState::Ended;
            let deadline = CallContext::current().deadline_or_never();
            match this.bucket.join_at(*this.tokens, came_at.unwrap_or_else(Instant::now), deadline)? {
                None => return Poll::Ready(Ok(())),
                Some(id) => *this.state = AcquireState::Waiting(id),
            }
        }
        let answer = loop {
            let AcquireState::Waiting(id) = this.state else { crate::shell::polled_after_end() };
            match this.bucket.poll_place_at(*id, cx.waker(), Instant::now()) {
                Turn::NotBefore(instant) => ready!(this.timer.as_mut().poll_until(instant, cx)),
                Turn::Come => break Ok(()),
                Turn::Refused(refused) => break Err(refused),
            }
        };
        *this.state = AcquireState::Ended;
        this.timer.disarm();
        Poll::Ready(answer)
    }
}

impl fmt::Debug for Acquire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Acquire").field("tokens", &self.tokens).field("state", &self.state).finish_non_exhaustive()
    }
}
