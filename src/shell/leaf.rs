use super::{Abandonment, Callee, Ending, Frame, NoStamp, Recall, Stage, Stamp};
use crate::{
    classify::{AnyError, Classify},
    context::CallContext,
    error::Error,
};
use pin_project_lite::pin_project;
use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};
use tower::Service;

/// The innermost stage: the user's service, the stamp on its requests, and the verdict on its answers.
///
/// It calls the same instance whose readiness it polled, and drops the service's future before outer stages see the
/// answer.
#[derive(Clone, Debug, Default)]
pub struct Leaf<C = AnyError, W = NoStamp> {
    classifier: C,
    stamp: W,
}

impl<C> Leaf<C> {
    /// Makes a leaf whose `classifier` judges the answers of the service.
    pub fn new(classifier: C) -> Self {
        Self { classifier, stamp: NoStamp }
    }
}

impl<C, W> Leaf<C, W> {
    /// Sets the [`Stamp`] that writes to the request of each attempt.
    pub fn stamp<V>(self, stamp: V) -> Leaf<C, V> {
        Leaf { classifier: self.classifier, stamp }
    }

    /// Sets another classifier.
    pub(crate) fn classify_with<D>(self, classifier: D) -> Leaf<D, W> {
        Leaf { classifier, stamp: self.stamp }
    }
}

pin_project! {
    /// A call at the [`Leaf`].
    #[derive(Debug)]
    pub struct LeafCall<Request> {
        // `Some` until the service is ready. Then the callee has the service's future, until the service answers. Also
        // `None` after the service failed to become ready, and after `abandon` or `recall`.
        request: Option<Request>,
    }
}

impl<C, W, S, Request> Stage<S, Request> for Leaf<C, W>
where
    C: Classify<S::Response, S::Error>,
    W: Stamp<Request>,
    S: Service<Request>,
{
    const READS_DEADLINE: bool = false;

    type Call = LeafCall<Request>;

    #[inline]
    fn start(&self, request: Request, _frame: &mut Frame) -> Self::Call {
        LeafCall { request: Some(request) }
    }

    #[inline]
    fn poll(
        &self,
        call: Pin<&mut Self::Call>,
        mut callee: Pin<&mut Callee<S, S::Future>>,
        cx: &mut Context<'_>,
        frame: &mut Frame,
    ) -> Poll<Result<S::Response, Error<S::Error>>> {
        // The service and the stamp are user code and may take long, so the frame forgets the time that it read before
        // them. Of the two, only the stamp gets the frame and can make it read the clock again. Therefore the frame
        // forgets the time once more after the stamp.
        frame.user_code_runs();
        let request = call.project().request;
        if request.is_some() {
            if let Err(error) = ready!(callee.as_mut().poll_ready(cx)) {
                *request = None;
                return Poll::Ready(self.verdict(Err(error), frame));
            }
            // Taken before the call, so that after a panic no request is left to send again.
            if let Some(mut request) = request.take() {
                self.stamp.stamp(&mut request, frame);
                frame.user_code_runs();
                frame.service_was_reached();
                callee.as_mut().call(request);
            }
        }
        let Some(polled) = callee.poll(cx) else { super::polled_after_end() };
        frame.service_was_reached();
        Poll::Ready(self.verdict(ready!(polled), frame))
    }

    #[inline]
    fn abandon(
        &self,
        call: Pin<&mut Self::Call>,
        mut callee: Pin<&mut Callee<S, S::Future>>,
        _cause: Abandonment,
        frame: &mut Frame,
    ) {
        frame.user_code_runs();
        if call.project().request.take().is_some() {
            frame.abandoned_at_service(false);
        }
        if callee.as_mut().is_running() {
            frame.service_was_reached();
            frame.abandoned_at_service(true);
            callee.stop();
        }
    }
}

impl<C, W, S, Request> Recall<S, Request> for Leaf<C, W>
where
    C: Classify<S::Response, S::Error>,
    W: Stamp<Request>,
    S: Service<Request>,
{
    fn recall(&self, call: Pin<&mut Self::Call>, _frame: &mut Frame) -> Option<Request> {
        call.project().request.take()
    }
}

impl<C, W> Leaf<C, W> {
    /// Classifies the service's answer, or its failure to become ready, once for all outer stages. Reports the verdict
    /// in the frame.
    #[inline]
    fn verdict<T, E>(&self, mut result: Result<T, E>, frame: &mut Frame) -> Result<T, Error<E>>
    where
        C: Classify<T, E>,
    {
        let rejection = result.as_ref().err().and_then(|error| self.classifier.rejection(error));
        let ending = match rejection {
            Some(rejection) => Ending::from(rejection),
            None => Ending::Answered(self.classifier.classify(result.as_ref())),
        };
        frame.report(ending);
        if self.classifier.forbids_retry(result.as_ref()) {
            // The frame carries the mark to the stages of this stack, and the context carries it to outer stacks.
            frame.forbid_retry();
            CallContext::forbid_retry();
        }
        if let Ok(response) = &mut result {
            self.classifier.remove_untrusted(response);
        }
        result.map_err(Error::Service)
    }
}
