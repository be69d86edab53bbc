use super::shared::LiveShared;
use crate::{
    error::{Error, SwitchedOff},
    shell::{Abandonment, Callee, Describe, Explanation, Frame, Recall, RefusesNow, Stage},
};
use pin_project_lite::pin_project;
use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};
use tokio::time::Instant;
use tower::Service;

/// The kill switch: admits all calls, or none. It holds no permit for a call, and is therefore simpler than a gate.
#[derive(Clone)]
pub struct SwitchStage<Next> {
    pub(super) shared: Arc<LiveShared>,
    pub(super) next: Next,
}

pin_project! {
    /// A call at a [`SwitchStage`].
    #[derive(Debug)]
    pub struct SwitchCall<Call> {
        // `None` if the call was refused.
        #[pin]
        next: Option<Call>,
    }
}

impl<Next, S, Request> Stage<S, Request> for SwitchStage<Next>
where
    Next: Stage<S, Request>,
    S: Service<Request>,
{
    const READS_DEADLINE: bool = Next::READS_DEADLINE;

    type Call = SwitchCall<Next::Call>;

    #[inline]
    fn start(&self, request: Request, frame: &mut Frame) -> Self::Call {
        if self.shared.is_off() {
            // Dropping the request runs user code.
            drop(request);
            frame.user_code_runs();
            return SwitchCall { next: None };
        }
        SwitchCall { next: Some(self.next.start(request, frame)) }
    }

    fn would_refuse(&self, request: &Request, due: Instant, frame: &mut Frame) -> bool {
        self.shared.is_off() || self.next.would_refuse(request, due, frame)
    }

    #[inline]
    fn poll(
        &self,
        call: Pin<&mut Self::Call>,
        callee: Pin<&mut Callee<S, S::Future>>,
        cx: &mut Context<'_>,
        frame: &mut Frame,
    ) -> Poll<Result<S::Response, Error<S::Error>>> {
        match call.project().next.as_pin_mut() {
            Some(next) => self.next.poll(next, callee, cx, frame),
            None => Poll::Ready(Err(Error::Rejected(SwitchedOff::new().into()))),
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
        if let Some(next) = call.project().next.as_pin_mut() {
            self.next.abandon(next, callee, cause, frame);
        }
    }
}

impl<Next, S, Request> Recall<S, Request> for SwitchStage<Next>
where
    Next: Recall<S, Request>,
    S: Service<Request>,
{
    fn recall(&self, call: Pin<&mut Self::Call>, frame: &mut Frame) -> Option<Request> {
        self.next.recall(call.project().next.as_pin_mut()?, frame)
    }
}

impl<Next: RefusesNow> RefusesNow for SwitchStage<Next> {
    fn refuses_now(&self, frame: &mut Frame) -> bool {
        self.shared.is_off() || self.next.refuses_now(frame)
    }
}

impl<Next: Describe> Describe for SwitchStage<Next> {
    fn describe(&self, explanation: &mut Explanation) {
        if self.shared.is_off() {
            explanation.layer("kill switch", "no call passes");
        }
        self.next.describe(explanation);
    }
}
