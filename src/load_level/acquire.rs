use super::{Queue, pace::PaceSlot, queue::ArrivingCall, state::CallPhase};
use crate::{context::CallContext, error::Rejection, shell::Timer, waiters::WaiterId};
use pin_project_lite::pin_project;
use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
};
use tokio::time::Instant;

/// A place in the service. Dropping the permit gives it back.
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
        self.queue.end(PaceSlot::NONE, Instant::now);
    }
}

pin_project! {
    /// The future of [`Queue::acquire`].
    ///
    /// Unlike the future of a token bucket, it has no planned instant ([`due_at`](crate::rate_limit::Acquire::due_at)).
    /// Its turn depends on when the calls in the service end, and on which calls overtake it. For a forecast ask
    /// [`Queue::readings`] before the first poll: [`expected_wait`](super::Readings::expected_wait) is the wait of a
    /// call that comes now and is served after all waiters. It can be unknown, for example at the beginning of the
    /// first backlog.
    #[must_use = "futures do nothing unless polled"]
    pub struct Acquire {
        queue: Queue,
        weight: u64,
        state: AcquireState,
        #[pin]
        timer: Timer,
    }

    impl PinnedDrop for Acquire {
        fn drop(this: Pin<&mut Self>) {
            let this = this.project();
            if let AcquireState::Waiting(id) = this.state {
                this.queue.leave(*id, Instant::now());
            }
        }
    }
}

/// The state of the future.
#[derive(Debug)]
enum AcquireState {
    Unpolled,
    Waiting(WaiterId),
    Ended,
}

impl Acquire {
    pub(super) fn new(queue: Queue, weight: u64) -> Self {
        Self { queue, weight, state: AcquireState::Unpolled, timer: Timer::new() }
    }
}

impl Future for Acquire {
    type Output = Result<Permit, Rejection>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        // The last reading of the clock, if no user code has run since.
        let mut now = None;
        loop {
            let answer = match *this.state {
                AcquireState::Unpolled if this.queue.enter() => Ok(PaceSlot::NONE),
                AcquireState::Unpolled => {
                    *this.state = AcquireState::Ended;
                    let context = CallContext::current();
                    let (criticality, deadline) = (context.criticality(), context.deadline_or_never());
                    let call = ArrivingCall { weight: *this.weight, criticality, deadline };
                    let arrived_at = Instant::now();
                    let (arrival, woke) = this.queue.arrive(call, arrived_at);
                    now = (!woke).then_some(arrived_at);
                    match arrival {
                        // Unpolled => Waiting
                        CallPhase::Waiting(id) => {
                            *this.state = AcquireState::Waiting(id);
                            continue;
                        }
                        CallPhase::Admitted(slot) => Ok(slot),
                        CallPhase::Refused(refusal) => Err(refusal),
                    }
                }
                AcquireState::Waiting(id) => {
                    match this.queue.poll(id, cx.waker(), now.take().unwrap_or_else(Instant::now)) {
                        // Waiting => Waiting
                        CallPhase::Waiting(next_poll_at) => {
                            ready!(this.timer.as_mut().poll_until(next_poll_at, cx));
                            continue;
                        }
                        CallPhase::Admitted(slot) => Ok(slot),
                        CallPhase::Refused(refusal) => Err(refusal),
                    }
                }
                AcquireState::Ended => crate::shell::polled_after_end(),
            };
            // Unpolled | Waiting => Ended
            *this.state = AcquireState::Ended;
            // From here on the permit returns the place, even if `disarm` panics: `disarm` drops a waker, which is user
            // code.
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
