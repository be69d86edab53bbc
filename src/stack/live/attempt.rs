use super::{
    depth,
    passes::{OVERTAKEN_AT, Version},
    shared::Shared,
};
use crate::{
    error::Error,
    shell::{Abandonment, Callee, Describe, Explanation, Frame, Recall, RefusesNow, Stage},
};
use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};
use tokio::time::Instant;
use tower::Service;

/// Lets a call pass the gates by one configuration that comes to them later than it began: each attempt inside of a
/// retry, and on a server what has waited at its rate limit.
#[derive(Clone)]
pub struct LiveAttemptStage<Next> {
    pub(super) shared: Arc<Shared>,
    pub(super) next: Next,
}

impl<Next, S, Request> Stage<S, Request> for LiveAttemptStage<Next>
where
    Next: Recall<S, Request>,
    S: Service<Request>,
{
    const READS_DEADLINE: bool = Next::READS_DEADLINE;

    type Call = Next::Call;

    #[inline]
    fn start(&self, request: Request, frame: &mut Frame) -> Self::Call {
        // The first attempt is part of the call's own pass, and so is a call that does not wait.
        if frame.is_in_pass() {
            return self.next.start(request, frame);
        }
        self.start_later::<S, Request>(request, frame)
    }

    /// What would refuse is looked at by one configuration.
    fn would_refuse(&self, request: &Request, due: Instant, frame: &mut Frame) -> bool {
        let _pass = depth::pass();
        // It is a forecast. If changes go on and on, the last answer will do.
        let mut refuses = false;
        for _ in 0..OVERTAKEN_AT {
            let version = self.shared.version();
            refuses = self.next.would_refuse(request, due, frame);
            // If one gate does, it does by one configuration.
            if refuses || self.shared.passes.is_current(version) {
                break;
            }
        }
        refuses
    }

    #[inline]
    fn poll(
        &self,
        mut call: Pin<&mut Self::Call>,
        callee: Pin<&mut Callee<S, S::Future>>,
        cx: &mut Context<'_>,
        frame: &mut Frame,
    ) -> Poll<Result<S::Response, Error<S::Error>>> {
        // The stages further out poll a call at once that they have begun.
        let version = Version::of(frame.take_later_pass());
        if version != Version::NONE {
            self.shared.end_pass::<Next, S, Request>(&self.next, call.as_mut(), version, frame);
        }
        self.next.poll(call, callee, cx, frame)
    }

    #[inline]
    fn abandon(
        &self,
        call: Pin<&mut Self::Call>,
        callee: Pin<&mut Callee<S, S::Future>>,
        cause: Abandonment,
        frame: &mut Frame,
    ) {
        self.next.abandon(call, callee, cause, frame);
    }
}

impl<Next> LiveAttemptStage<Next> {
    /// Begins a pass of its own.
    #[inline(never)]
    fn start_later<S, Request>(&self, request: Request, frame: &mut Frame) -> Next::Call
    where
        Next: Recall<S, Request>,
        S: Service<Request>,
    {
        let _pass = depth::pass();
        let version = self.shared.version();
        frame.begin_pass();
        let call = self.next.start(request, frame);
        frame.set_later_pass(version.word());
        call
    }
}

impl<Next, S, Request> Recall<S, Request> for LiveAttemptStage<Next>
where
    Next: Recall<S, Request>,
    S: Service<Request>,
{
    fn recall(&self, call: Pin<&mut Self::Call>, frame: &mut Frame) -> Option<Request> {
        self.next.recall(call, frame)
    }
}

impl<Next: RefusesNow> RefusesNow for LiveAttemptStage<Next> {
    fn refuses_now(&self, frame: &mut Frame) -> bool {
        self.next.refuses_now(frame)
    }
}

impl<Next: Describe> Describe for LiveAttemptStage<Next> {
    fn describe(&self, explanation: &mut Explanation) {
        self.next.describe(explanation);
    }
}
