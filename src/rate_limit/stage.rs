use super::{
    layer::RateLimit,
    limit::{Admission, Cost, DescribeLimit, Limit, RefundIf},
};
use crate::{
    error::{Error, Rejection},
    shell::{Abandonment, Callee, Describe, Ending, Explanation, Frame, Inherited, RefusesNow, SettleOnDrop, Stage},
};
use pin_project_lite::pin_project;
use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};
use tokio::time::Instant;
use tower::Service;

/// Refuses calls beyond a rate, or lets them wait for their turn. The stage of a [`RateLimit`].
#[derive(Clone, Debug)]
pub struct RateLimitStage<R, Next> {
    pub(super) limit: R,
    pub(super) next: Next,
}

impl<R, Next> RateLimitStage<R, Next> {
    /// A limit in front of the next stage.
    pub fn new(limit: R, next: Next) -> Self {
        Self { limit, next }
    }
}

pin_project! {
    /// A call at a [`RateLimitStage`].
    #[derive(Debug)]
    pub struct RateLimitCall<Call, Permit, Place, Request> {
        #[pin]
        state: State<Call, Permit, Place, Request>,
    }
}

pin_project! {
    #[project = StateProjection]
    #[derive(Debug)]
    enum State<Call, Permit, Place, Request> {
        // Refused; the rejection comes out of the first poll.
        Refused { rejection: Option<Rejection> },
        // Waiting for its turn, with the request and what it will inherit.
        Waiting { place: Place, waiting: Option<(Request, Inherited)> },
        // Admitted and on its way further in. What it took is here between polls; during one it is in a guard on the
        // stack, so that an unwinding panic settles it. A call that is let through though it is beyond the rate took
        // nothing.
        Admitted { #[pin] next: Call, taken: Option<Permit> },
        // Ended, and everything given back that was not spent.
        Ended,
    }
}

impl<L, C, J, Next, S, Request> Stage<S, Request> for RateLimitStage<RateLimit<L, C, J>, Next>
where
    L: Limit<Request>,
    C: Cost<Request>,
    J: RefundIf<S::Response, S::Error>,
    Next: Stage<S, Request>,
    S: Service<Request>,
{
    const READS_DEADLINE: bool = L::WAITS || Next::READS_DEADLINE;

    type Call = RateLimitCall<Next::Call, Option<L::Permit>, L::Place, Request>;

    #[inline]
    fn start(&self, request: Request, frame: &mut Frame) -> Self::Call {
        let state = match self.limit.admit(&request, frame) {
            Admission::Admitted(permit) => self.go_on::<S, Request>(request, permit, frame),
            Admission::Waits(place) => {
                let inherited = frame.inherited();
                State::Waiting { place, waiting: Some((request, inherited)) }
            }
            Admission::Refused(refused) => {
                // The request is dropped here, and its drop is user code.
                frame.user_code_runs();
                State::Refused { rejection: Some(refused.into()) }
            }
        };
        RateLimitCall { state }
    }

    fn would_refuse(&self, request: &Request, due: Instant, frame: &mut Frame) -> bool {
        self.limit.would_refuse(request, due, frame) || self.next.would_refuse(request, due, frame)
    }

    #[inline]
    fn poll(
        &self,
        call: Pin<&mut Self::Call>,
        callee: Pin<&mut Callee<S, S::Future>>,
        cx: &mut Context<'_>,
        frame: &mut Frame,
    ) -> Poll<Result<S::Response, Error<S::Error>>> {
        let mut state = call.project().state;
        if let StateProjection::Waiting { place, waiting } = state.as_mut().project() {
            let verdict = ready!(self.limit.limit.poll(place, cx, frame));
            let waited = waiting.take();
            state.set(State::Ended);
            match (self.limit.admit_waited(verdict), waited) {
                (Ok(permit), Some((request, inherited))) => {
                    frame.set_inherited(inherited);
                    let admitted = self.go_on::<S, Request>(request, permit, frame);
                    state.set(admitted);
                }
                (Err(refused), waited) => {
                    drop(waited);
                    frame.user_code_runs();
                    return Poll::Ready(Err(Error::Rejected(refused.into())));
                }
                (Ok(_), None) => crate::shell::polled_after_end(),
            }
        }
        match state.as_mut().project() {
            StateProjection::Admitted { next, taken } => {
                // Without what it took a call has been torn down by a panic: it must not go on unadmitted.
                let Some(permit) = taken.take() else { crate::shell::polled_after_end() };
                let guard = self.guard(permit, Ending::Panicked);
                let Poll::Ready(result) = self.next.poll(next, callee, cx, frame) else {
                    *taken = guard.keep();
                    return Poll::Pending;
                };
                state.set(State::Ended);
                let need_not_count = match &result {
                    Ok(response) => self.limit.refund_if.need_not_count(Ok(response), frame),
                    Err(Error::Service(error)) => self.limit.refund_if.need_not_count(Err(error), frame),
                    Err(Error::Rejected(_)) => false,
                };
                match guard.keep() {
                    Some(permit) if need_not_count => self.limit.give_back(permit, frame),
                    Some(permit) => self.limit.settle(permit, Ending::of(&result, frame), frame),
                    None => {}
                }
                Poll::Ready(result)
            }
            StateProjection::Refused { rejection } => match rejection.take() {
                Some(rejection) => Poll::Ready(Err(Error::Rejected(rejection))),
                None => crate::shell::polled_after_end(),
            },
            StateProjection::Waiting { .. } | StateProjection::Ended => crate::shell::polled_after_end(),
        }
    }

    #[inline]
    fn abandon(
        &self,
        call: Pin<&mut Self::Call>,
        callee: Pin<&mut Callee<S, S::Future>>,
        cause: Abandonment,
        frame: &mut Frame,
    ) {
        let mut state = call.project().state;
        match state.as_mut().project() {
            StateProjection::Admitted { next, taken } => {
                let guard = taken.take().map(|permit| self.guard(permit, Ending::Panicked));
                self.next.abandon(next, callee, cause, frame);
                state.set(State::Ended);
                if let Some(guard) = guard {
                    guard.settle(Ending::of_abandoned(cause, frame), frame);
                }
            }
            StateProjection::Waiting { place, .. } => {
                self.limit.limit.leave(place, frame);
                // The request is dropped here.
                frame.user_code_runs();
                state.set(State::Ended);
            }
            StateProjection::Refused { .. } | StateProjection::Ended => {}
        }
    }
}

impl<L, C, J, Next> RateLimitStage<RateLimit<L, C, J>, Next> {
    /// An admitted call goes on to the next stage.
    #[inline]
    fn go_on<S, Request>(
        &self,
        request: Request,
        permit: Option<L::Permit>,
        frame: &mut Frame,
    ) -> State<Next::Call, Option<L::Permit>, L::Place, Request>
    where
        L: Limit<Request>,
        Next: Stage<S, Request>,
        S: Service<Request>,
    {
        let guard = self.guard::<Request>(permit, Ending::Refused { retry_after: None });
        let next = self.next.start(request, frame);
        State::Admitted { next, taken: guard.keep() }
    }

    /// Holds what a call took while user code may panic.
    #[inline]
    fn guard<Request>(
        &self,
        permit: Option<L::Permit>,
        panicked: Ending,
    ) -> SettleOnDrop<Option<L::Permit>, impl Fn(Option<L::Permit>, Ending, &mut Frame)>
    where
        L: Limit<Request>,
    {
        let settle = |permit, ending, frame: &mut Frame| self.limit.settle(permit, ending, frame);
        SettleOnDrop::new(settle, Some(permit), panicked)
    }
}

impl<L: RefusesNow, C, J, Next: RefusesNow> RefusesNow for RateLimitStage<RateLimit<L, C, J>, Next> {
    fn refuses_now(&self, frame: &mut Frame) -> bool {
        self.limit.refuses_now(frame) || self.next.refuses_now(frame)
    }
}

impl<L: DescribeLimit, C, J, Next: Describe> Describe for RateLimitStage<RateLimit<L, C, J>, Next> {
    fn describe(&self, explanation: &mut Explanation) {
        explanation.layer("rate limit", self.limit.describe());
        explanation.wait(self.limit.longest_wait(), &self.next);
    }
}
