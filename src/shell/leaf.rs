use super::{Abandonment, Ending, Frame, Stage};
use crate::{
    classify::{AnyError, Classify},
    error::Error,
};
use pin_project_lite::pin_project;
use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};
use tower::Service;

/// The innermost stage: the user's service, and the verdict on its answers.
///
/// It drives the readiness of the very instance that it then calls, and drops the service's future before anybody
/// further out hears of the answer.
#[derive(Clone, Debug, Default)]
pub struct Leaf<C = AnyError> {
    pub(crate) classifier: C,
}

impl<C> Leaf<C> {
    /// A service whose answers mean what `classifier` says.
    pub fn new(classifier: C) -> Self {
        Self { classifier }
    }
}

pin_project! {
    /// A call at the [`Leaf`].
    #[project = LeafCallProjection]
    #[project_replace = LeafCallTaken]
    #[derive(Debug)]
    pub enum LeafCall<F, Request> {
        /// The service is not ready yet.
        Waiting { request: Request },
        /// The service has been called.
        Running { #[pin] future: F },
        /// Answered, abandoned, or torn down by a panic.
        Ended,
    }
}

impl<C, S, Request> Stage<S, Request> for Leaf<C>
where
    C: Classify<S::Response, S::Error>,
    S: Service<Request>,
{
    const READS_DEADLINE: bool = false;

    type Call = LeafCall<S::Future, Request>;

    #[inline]
    fn start(&self, request: Request, _frame: &mut Frame) -> Self::Call {
        LeafCall::Waiting { request }
    }

    #[inline]
    fn poll(
        &self,
        mut call: Pin<&mut Self::Call>,
        service: &mut S,
        cx: &mut Context<'_>,
        frame: &mut Frame,
    ) -> Poll<Result<S::Response, Error<S::Error>>> {
        // All below is user code, and nothing here reads the clock.
        frame.user_code_runs();
        if let LeafCallProjection::Waiting { .. } = call.as_mut().project() {
            if let Err(error) = ready!(service.poll_ready(cx)) {
                call.set(LeafCall::Ended);
                return Poll::Ready(self.verdict(Err(error), frame));
            }
            // Replaced before the call, so that a panic in it leaves nothing to call again.
            if let LeafCallTaken::Waiting { request } = call.as_mut().project_replace(LeafCall::Ended) {
                let future = service.call(request);
                call.set(LeafCall::Running { future });
            }
        }
        match call.as_mut().project() {
            LeafCallProjection::Running { future } => {
                frame.service_was_reached();
                let result = ready!(future.poll(cx));
                call.set(LeafCall::Ended);
                Poll::Ready(self.verdict(result, frame))
            }
            LeafCallProjection::Waiting { .. } | LeafCallProjection::Ended => super::polled_after_end(),
        }
    }

    #[inline]
    fn abandon(&self, mut call: Pin<&mut Self::Call>, _cause: Abandonment, frame: &mut Frame) {
        frame.user_code_runs();
        if let LeafCallProjection::Running { .. } = call.as_mut().project() {
            frame.service_was_reached();
        }
        call.set(LeafCall::Ended);
    }
}

impl<C> Leaf<C> {
    /// Classifies the service's answer, once for all stages further out.
    #[inline]
    fn verdict<T, E>(&self, result: Result<T, E>, frame: &mut Frame) -> Result<T, Error<E>>
    where
        C: Classify<T, E>,
    {
        let rejection = result.as_ref().err().and_then(|error| self.classifier.rejection(error));
        let ending = match rejection {
            Some(rejection) => Ending::from(rejection),
            None => Ending::Answered(self.classifier.classify(result.as_ref())),
        };
        frame.report(ending);
        result.map_err(Error::Service)
    }
}
