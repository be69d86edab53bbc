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
    #[derive(Debug)]
    pub struct LeafCall<F, Request> {
        #[pin]
        state: State<F, Request>,
    }
}

pin_project! {
    #[project = StateProjection]
    #[project_replace = StateTaken]
    #[derive(Debug)]
    enum State<F, Request> {
        // The service is not ready yet.
        Waiting { request: Request },
        // The service has been called.
        Running { #[pin] future: F },
        // Answered, abandoned, or torn down by a panic.
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
        LeafCall { state: State::Waiting { request } }
    }

    #[inline]
    fn poll(
        &self,
        call: Pin<&mut Self::Call>,
        service: &mut S,
        cx: &mut Context<'_>,
        frame: &mut Frame,
    ) -> Poll<Result<S::Response, Error<S::Error>>> {
        // All below is user code, and nothing here reads the clock.
        frame.user_code_runs();
        let mut state = call.project().state;
        if let StateProjection::Waiting { .. } = state.as_mut().project() {
            if let Err(error) = ready!(service.poll_ready(cx)) {
                state.set(State::Ended);
                return Poll::Ready(self.verdict(Err(error), frame));
            }
            // Replaced before the call, so that a panic in it leaves nothing to call again.
            if let StateTaken::Waiting { request } = state.as_mut().project_replace(State::Ended) {
                frame.service_was_reached();
                let future = service.call(request);
                state.set(State::Running { future });
            }
        }
        match state.as_mut().project() {
            StateProjection::Running { future } => {
                frame.service_was_reached();
                let result = ready!(future.poll(cx));
                state.set(State::Ended);
                Poll::Ready(self.verdict(result, frame))
            }
            StateProjection::Waiting { .. } | StateProjection::Ended => super::polled_after_end(),
        }
    }

    #[inline]
    fn abandon(&self, call: Pin<&mut Self::Call>, _cause: Abandonment, frame: &mut Frame) {
        frame.user_code_runs();
        let mut state = call.project().state;
        if let StateProjection::Running { .. } = state.as_mut().project() {
            frame.service_was_reached();
        }
        state.set(State::Ended);
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
