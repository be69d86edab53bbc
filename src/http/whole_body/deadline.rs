use crate::{
    deadline::Deadline,
    error::Error,
    shell::{Abandonment, Callee, Describe, Explanation, Frame, Recall, RefusesNow, Stage},
};
use http::Response;
use pin_project_lite::pin_project;
use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};
use tokio::time::Instant;
use tower::Service;

/// Exempts a response body from the deadline of [`whole_body`](crate::stack::ServerBuilder::whole_body), when set in
/// the extensions of the response. For server-sent events and endless streams.
///
/// ```
/// use http::Response;
/// use steadfast::http::NoBodyDeadline;
///
/// let mut response = Response::new("events");
/// response.extensions_mut().insert(NoBodyDeadline);
/// ```
#[derive(Clone, Copy, Debug)]
pub struct NoBodyDeadline;

/// The deadline of an attempt, in the extensions of its response until the border takes it.
#[derive(Clone, Copy)]
pub(super) struct BodyDeadline {
    pub(super) at: Instant,
    /// Whether the body ends at the deadline. If `false`, the deadline only decides whether a failure of the body
    /// counts against the service.
    pub(super) ends_body: bool,
    /// The time at which the attempt has had half of its [full time](crate::shell::Ending::CutShort).
    pub(super) half_time: Deadline,
}

impl BodyDeadline {
    /// Returns whether the attempt has had half of its full time. Returns `true` if the attempt has no full time,
    /// because no timeout has a limit.
    pub(super) fn had_half_time(&self, now: Instant) -> bool {
        self.half_time.instant().is_none_or(|half_time| half_time <= now)
    }
}

/// Notes the deadline of the attempt in its response. The timeout around this stage enforces that deadline on the head.
#[derive(Clone, Copy, Debug)]
pub struct BodyDeadlineStage<Next> {
    pub(super) next: Next,
    /// Whether the deadline also ends the body.
    pub(super) ends_body: bool,
}

pin_project! {
    /// A call at a [`BodyDeadlineStage`].
    #[derive(Debug)]
    pub struct BodyDeadlineCall<Call> {
        #[pin]
        next: Call,
        // The deadline of the attempt, as inherited at its start.
        at: Deadline,
    }
}

impl<Next, S, Request, B> Stage<S, Request> for BodyDeadlineStage<Next>
where
    Next: Stage<S, Request>,
    S: Service<Request, Response = Response<B>>,
{
    const READS_DEADLINE: bool = true;

    type Call = BodyDeadlineCall<Next::Call>;

    fn start(&self, request: Request, frame: &mut Frame) -> Self::Call {
        let at = frame.inherited().deadline();
        BodyDeadlineCall { next: self.next.start(request, frame), at }
    }

    fn would_refuse(&self, request: &Request, due: Instant, frame: &mut Frame) -> bool {
        self.next.would_refuse(request, due, frame)
    }

    fn poll(
        &self,
        call: Pin<&mut Self::Call>,
        callee: Pin<&mut Callee<S, S::Future>>,
        cx: &mut Context<'_>,
        frame: &mut Frame,
    ) -> Poll<Result<Response<B>, Error<S::Error>>> {
        let call = call.project();
        let mut result = ready!(self.next.poll(call.next, callee, cx, frame));
        if let (Ok(response), Some(at)) = (&mut result, call.at.instant()) {
            let extensions = response.extensions_mut();
            // If the response has a deadline already, an inner timeout has noted it. That deadline is no later than
            // this one.
            if extensions.get::<BodyDeadline>().is_none() {
                let ends_body = self.ends_body && extensions.get::<NoBodyDeadline>().is_none();
                extensions.insert(BodyDeadline { at, ends_body, half_time: frame.half_time() });
            }
        }
        Poll::Ready(result)
    }

    fn abandon(
        &self,
        call: Pin<&mut Self::Call>,
        callee: Pin<&mut Callee<S, S::Future>>,
        cause: Abandonment,
        frame: &mut Frame,
    ) {
        self.next.abandon(call.project().next, callee, cause, frame);
    }
}

impl<Next, S, Request, B> Recall<S, Request> for BodyDeadlineStage<Next>
where
    Next: Recall<S, Request>,
    S: Service<Request, Response = Response<B>>,
{
    fn recall(&self, call: Pin<&mut Self::Call>, frame: &mut Frame) -> Option<Request> {
        self.next.recall(call.project().next, frame)
    }
}

impl<Next: Describe> Describe for BodyDeadlineStage<Next> {
    fn describe(&self, explanation: &mut Explanation) {
        self.next.describe(explanation);
    }
}

impl<Next: RefusesNow> RefusesNow for BodyDeadlineStage<Next> {
    fn refuses_now(&self, frame: &mut Frame) -> bool {
        self.next.refuses_now(frame)
    }
}
