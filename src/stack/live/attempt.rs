use super::{
    config_gate::{OVERTAKEN_AT, Version},
    depth,
    shared::LiveShared,
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

/// Starts another pass for calls that reach the inner gates after their first pass. These are the further attempts of a
/// retry and, on a server, the calls that waited at the rate limit.
#[derive(Clone)]
pub struct LiveAttemptStage<Next> {
    pub(super) shared: Arc<LiveShared>,
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
        // In a client, the first attempt belongs to the call's first pass. In a server, so does a call that did not
        // wait at the rate limit.
        if frame.is_in_pass() {
            return self.next.start(request, frame);
        }
        self.start_later::<S, Request>(request, frame)
    }

    /// Asks the inner stages under one configuration, unless changes overtake the question eight times.
    fn would_refuse(&self, request: &Request, due: Instant, frame: &mut Frame) -> bool {
        let _pass = depth::pass();
        // A prediction need not be exact: after `OVERTAKEN_AT` questions that a change overtook, the last answer
        // counts.
        let mut refuses = false;
        for _ in 0..OVERTAKEN_AT {
            let version = self.shared.version();
            refuses = self.next.would_refuse(request, due, frame);
            // A refusal is the decision of one gate, and therefore of one configuration.
            if refuses || self.shared.config_gate.is_current(version) {
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
        // A version in the frame is that of this call's pass: outer stages poll a call immediately after they start it.
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
    /// Starts a call in a pass of its own. The frame keeps the version of the pass until the first poll.
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
