use super::{
    Queue,
    pace::Share,
    queue::{Standing, Ticket},
    state::Arrival,
    waiters::Place,
};
use crate::{Rejection, context::CallContext, shell::Timer};
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
    /// It has no planned instant, unlike that of a token bucket, whose [`due_at`](crate::rate_limit::Acquire::due_at) follows
    /// from the rate. When its turn comes depends on when the calls in the service end, and on who overtakes it. For a forecast
    /// ask [`Queue::readings`] before the first poll: [`expected_wait`](super::Readings::expected_wait) is the wait of one that
    /// came now and was served after all who wait. It is unknown at the beginning of the first backlog.
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
        let permit = |queue: &Queue| Poll::Ready(Ok(Permit::new(queue.clone())));
        if let State::Unpolled = this.state {
            *this.state = State::Ended;
            if this.queue.enter() {
                return permit(this.queue);
            }
            let context = CallContext::current();
            let (criticality, deadline) = (context.criticality(), context.deadline_or_never());
            match this.queue.arrive(Ticket { weight: *this.weight, criticality, deadline }, Instant::now())? {
                Arrival::Admitted(_) => return permit(this.queue),
                Arrival::Waits(place) => *this.state = State::Waiting(place),
            }
        }
        loop {
            let State::Waiting(place) = *this.state else { crate::shell::polled_after_end() };
            let permit = match this.queue.poll(place, cx.waker(), Instant::now()) {
                Standing::NotBefore(instant) => {
                    ready!(this.timer.as_mut().poll_until(instant, cx));
                    continue;
                }
                Standing::Come(_) => Ok(Permit::new(this.queue.clone())),
                Standing::Refused(rejection) => Err(rejection),
            };
            *this.state = State::Ended;
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
