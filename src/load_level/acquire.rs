use super::{Queue, pace::Share, queue::Ticket, state::Standing};
use crate::{context::CallContext, error::Rejection, shell::Timer, waiters::Place};
use pin_project_lite::pin_project;
use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
};
use tokio::time::Instant;

/// A place in the service, given back when dropped.
#[derive(Debug)]
#[must_use = "a permit that is dropped at once holds no place"]
pub struct Permit {
    queue: Queue,
}

impl Permit {
    pub(super) fn new(queue: Queue) -> Self {
        Self { queue }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.queue.end(Share::NONE, Instant::now);
    }
}

pin_project! {
    /// The future of [`Queue::acquire`].
    ///
    /// It has no planned instant, unlike that of a token bucket, whose [`due_at`](crate::rate_limit::Acquire::due_at)
    /// follows from the rate. Its turn depends on when the calls in the service end, and on which calls overtake it.
    /// For a forecast ask [`Queue::readings`] before the first poll: [`expected_wait`](super::Readings::expected_wait)
    /// is the wait of a call that comes now and is served after all waiters. It is unknown at the beginning of the
    /// first backlog.
    #[must_use = "futures do nothing unless polled"]
    pub struct Acquire {
        queue: Queue,
        weight: u64,
        state: State,
        #[pin]
        timer: Timer,
    }

    impl PinnedDrop for Acquire {
        fn drop(this: Pin<&mut Self>) {
            let this = this.project();
            if let State::Waiting(place) = this.state {
                this.queue.leave(*place, Instant::now());
            }
        }
    }
}

/// Where the future stands.
#[derive(Debug)]
enum State {
    Unpolled,
    Waiting(Place),
    Ended,
}

impl Acquire {
    pub(super) fn new(queue: Queue, weight: u64) -> Self {
        Self { queue, weight, state: State::Unpolled, timer: Timer::new() }
    }
}

impl Future for Acquire {
    type Output = Result<Permit, Rejection>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        // What the clock said last, unless user code has run since.
        let mut now = None;
        loop {
            let answer = match *this.state {
                State::Unpolled if this.queue.enter() => Ok(Share::NONE),
                State::Unpolled => {
                    *this.state = State::Ended;
                    let context = CallContext::current();
                    let (criticality, deadline) = (context.criticality(), context.deadline_or_never());
                    let ticket = Ticket { weight: *this.weight, criticality, deadline };
                    let arrived_at = Instant::now();
                    let (arrival, woke) = this.queue.arrive(ticket, arrived_at);
                    now = (!woke).then_some(arrived_at);
                    match arrival {
                        // Unpolled => Waiting
                        Standing::Waiting(place) => {
                            *this.state = State::Waiting(place);
                            continue;
                        }
                        Standing::Admitted(share) => Ok(share),
                        Standing::Refused(refusal) => Err(refusal),
                    }
                }
                State::Waiting(place) => {
                    match this.queue.poll(place, cx.waker(), now.take().unwrap_or_else(Instant::now)) {
                        // Waiting => Waiting
                        Standing::Waiting(asks_at) => {
                            ready!(this.timer.as_mut().poll_until(asks_at, cx));
                            continue;
                        }
                        Standing::Admitted(share) => Ok(share),
                        Standing::Refused(refusal) => Err(refusal),
                    }
                }
                State::Ended => crate::shell::polled_after_end(),
            };
            // Unpolled | Waiting => Ended
            *this.state = State::Ended;
            // From here on the permit gives the place back. The timer drops a waker, which may panic.
            let permit = answer.map(|_| Permit::new(this.queue.clone())).map_err(Rejection::from);
            this.timer.disarm();
            return Poll::Ready(permit);
        }
    }
}

impl fmt::Debug for Acquire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Acquire").field("weight", &self.weight).field("state", &self.state).finish_non_exhaustive()
    }
}
