use super::Deadline;
use crate::{
    error::{Error, TimedOut},
    shell::{Abandonment, Frame, Stage},
    stack::{Describe, Explanation},
};
use pin_project_lite::pin_project;
use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};
use tower::Service;

/// Ends a call whose time is up. The limit covers everything further in: readiness, queues, attempts.
#[derive(Clone, Debug)]
pub struct TimeoutStage<Next> {
    /// What an explanation calls it.
    name: &'static str,
    limit: Duration,
    next: Next,
}

impl<Next> TimeoutStage<Next> {
    pub(crate) fn new(name: &'static str, limit: Duration, next: Next) -> Self {
        Self { name, limit, next }
    }
}

pin_project! {
    /// A call at a [`TimeoutStage`].
    #[derive(Debug)]
    pub struct TimeoutCall<Call> {
        // `None` where the caller's deadline had passed before the call began: work for nobody.
        #[pin]
        next: Option<Call>,
        // `None` until the call is first seen pending, where nothing further in asked for it earlier.
        deadline: Option<Deadline>,
        // What the call inherited from its caller, and not from a timeout further out in the stack.
        inherited: Deadline,
    }
}

impl<Next, S, Request> Stage<S, Request> for TimeoutStage<Next>
where
    Next: Stage<S, Request>,
    S: Service<Request>,
{
    const READS_DEADLINE: bool = Next::READS_DEADLINE;

    type Call = TimeoutCall<Next::Call>;

    #[inline]
    fn start(&self, request: Request, frame: &mut Frame) -> Self::Call {
        let given = frame.inherited();
        let inherited = if given.is_enforced() { Deadline::NEVER } else { given.deadline() };
        let mut deadline = None;
        if Next::READS_DEADLINE || frame.knows_now() || inherited != Deadline::NEVER {
            let now = frame.now();
            if inherited.has_passed(now) {
                return TimeoutCall { next: None, deadline: Some(inherited), inherited };
            }
            let own = Deadline::after(now, self.limit).earlier(inherited);
            frame.set_inherited(given.enforcing(own));
            deadline = Some(own);
        }
        TimeoutCall { next: Some(self.next.start(request, frame)), deadline, inherited }
    }

    #[inline]
    fn poll(
        &self,
        call: Pin<&mut Self::Call>,
        service: &mut S,
        cx: &mut Context<'_>,
        frame: &mut Frame,
    ) -> Poll<Result<S::Response, Error<S::Error>>> {
        let call = call.project();
        let Some(mut next) = call.next.as_pin_mut() else { return Poll::Ready(Err(timed_out(None, frame))) };
        // The answer first: one that is there at the deadline is not thrown away.
        if let Poll::Ready(result) = self.next.poll(next.as_mut(), service, cx, frame) {
            return Poll::Ready(result);
        }
        let now = frame.now();
        let deadline = *call.deadline.get_or_insert_with(|| Deadline::after(now, self.limit).earlier(*call.inherited));
        if !deadline.has_passed(now) {
            if let Some(instant) = deadline.instant() {
                frame.wake_at(instant);
            }
            return Poll::Pending;
        }
        self.next.abandon(next, Abandonment::TimedOut, frame);
        let limit = (deadline != *call.inherited).then_some(self.limit);
        Poll::Ready(Err(timed_out(limit, frame)))
    }

    #[inline]
    fn abandon(&self, call: Pin<&mut Self::Call>, cause: Abandonment, frame: &mut Frame) {
        if let Some(next) = call.project().next.as_pin_mut() {
            self.next.abandon(next, cause, frame);
        }
    }
}

fn timed_out<E>(limit: Option<Duration>, frame: &Frame) -> Error<E> {
    Error::Rejected(TimedOut::new(limit, frame.reached_service()).into())
}

impl<Next: Describe> Describe for TimeoutStage<Next> {
    fn describe(&self, explanation: &mut Explanation) {
        explanation.timeout(self.name, self.limit, &self.next);
    }
}
