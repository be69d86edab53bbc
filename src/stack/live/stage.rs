use super::{depth, instrument::LiveInstrument, passes::Version, shared::Shared};
use crate::{
    error::Error,
    shell::{Abandonment, Callee, Describe, Explanation, Frame, Recall, RefusesNow, Stage, Terms},
};
use pin_project_lite::pin_project;
use std::{
    mem,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};
use tokio::time::Instant;
use tower::Service;

/// Begins each call with the terms in force, and lets it pass the gates by one configuration. The outermost stage of a
/// stack that can be told another configuration while calls pass.
#[derive(Clone)]
pub struct LiveStage<Next> {
    pub(super) shared: Arc<Shared>,
    pub(super) next: Next,
}

pin_project! {
    /// A call at a [`LiveStage`].
    #[derive(Debug)]
    pub struct LiveCall<Call> {
        #[pin]
        next: Call,
        // From the beginning to the end.
        terms: Terms,
        // Of the pass, until that ends.
        version: Version,
    }
}

impl<Next, S, Request> Stage<S, Request> for LiveStage<Next>
where
    Next: Recall<S, Request>,
    S: Service<Request>,
{
    const READS_DEADLINE: bool = Next::READS_DEADLINE;

    type Call = LiveCall<Next::Call>;

    #[inline]
    fn start(&self, request: Request, frame: &mut Frame) -> Self::Call {
        let _pass = depth::pass();
        let (version, terms) = self.shared.begin();
        frame.set_terms(terms);
        frame.set_in_pass(true);
        frame.begin_pass();
        let next = self.next.start(request, frame);
        frame.set_in_pass(false);
        LiveCall { next, terms, version }
    }

    fn would_refuse(&self, request: &Request, due: Instant, frame: &mut Frame) -> bool {
        self.next.would_refuse(request, due, frame)
    }

    #[inline]
    fn poll(
        &self,
        call: Pin<&mut Self::Call>,
        callee: Pin<&mut Callee<S, S::Future>>,
        cx: &mut Context<'_>,
        frame: &mut Frame,
    ) -> Poll<Result<S::Response, Error<S::Error>>> {
        let mut call = call.project();
        frame.set_terms(*call.terms);
        if *call.version != Version::NONE {
            self.end_pass::<S, Request>(call.next.as_mut(), call.version, call.terms, frame);
        }
        self.next.poll(call.next, callee, cx, frame)
    }

    #[inline]
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

impl<Next> LiveStage<Next> {
    /// Ends the pass in which the call begins.
    #[inline]
    fn end_pass<S, Request>(
        &self,
        call: Pin<&mut Next::Call>,
        version: &mut Version,
        terms: &mut Terms,
        frame: &mut Frame,
    ) where
        Next: Recall<S, Request>,
        S: Service<Request>,
    {
        frame.set_in_pass(true);
        let version = mem::replace(version, Version::NONE);
        if self.shared.end_pass::<Next, S, Request>(&self.next, call, version, frame) {
            *terms = frame.terms().copied().unwrap_or(*terms);
        }
        frame.set_in_pass(false);
    }
}

/// A change under way is not waited for.
impl<Next: RefusesNow> RefusesNow for LiveStage<Next> {
    fn refuses_now(&self, frame: &mut Frame) -> bool {
        self.next.refuses_now(frame)
    }
}

impl<Next: Describe> Describe for LiveStage<Next> {
    fn describe(&self, explanation: &mut Explanation) {
        explanation.by_terms(self.shared.terms_in_force());
        explanation.instrument(LiveInstrument(self.shared.clone()));
        self.next.describe(explanation);
    }
}
