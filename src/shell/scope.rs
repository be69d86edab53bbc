use super::{Abandonment, Frame, Stage};
use crate::{
    context::CallContext,
    error::Error,
    stack::{Describe, Explanation},
};
use pin_project_lite::pin_project;
use std::{
    pin::Pin,
    task::{Context, Poll},
};
use tower::Service;

/// Runs the service with the call's [`CallContext`] as the current one, as narrowed by the stages further out.
#[derive(Clone, Debug)]
pub struct ScopeStage<Next> {
    pub(crate) next: Next,
}

impl<Next> ScopeStage<Next> {
    /// A scope around the next stage.
    pub fn new(next: Next) -> Self {
        Self { next }
    }
}

pin_project! {
    /// A call at a [`ScopeStage`].
    #[derive(Debug)]
    pub struct ScopeCall<Call> {
        #[pin]
        next: Call,
        context: CallContext,
    }
}

impl<Next, S, Request> Stage<S, Request> for ScopeStage<Next>
where
    Next: Stage<S, Request>,
    S: Service<Request>,
{
    const READS_DEADLINE: bool = true;

    type Call = ScopeCall<Next::Call>;

    #[inline]
    fn start(&self, request: Request, frame: &mut Frame) -> Self::Call {
        let context = frame.inherited().context();
        ScopeCall { next: self.next.start(request, frame), context }
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
        call.context.sync_scope(|| self.next.poll(call.next, service, cx, frame))
    }

    #[inline]
    fn abandon(&self, call: Pin<&mut Self::Call>, cause: Abandonment, frame: &mut Frame) {
        let call = call.project();
        call.context.sync_scope(|| self.next.abandon(call.next, cause, frame));
    }
}

impl<Next: Describe> Describe for ScopeStage<Next> {
    fn describe(&self, explanation: &mut Explanation) {
        self.next.describe(explanation);
    }
}
