use super::{config_gate::Version, depth, instrument::LiveInstrument, shared::LiveShared};
use crate::{
    error::Error,
    shell::{Abandonment, CallSettings, Callee, Describe, Explanation, Frame, Recall, RefusesNow, Stage},
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

/// Starts each call with the settings in force, and takes it through the gates under one configuration. It is the
/// outermost stage of a live stack, apart from the observer's.
#[derive(Clone)]
pub struct LiveStage<Next> {
    pub(super) shared: Arc<LiveShared>,
    pub(super) next: Next,
}

pin_project! {
    /// A call at a [`LiveStage`].
    #[derive(Debug)]
    pub struct LiveCall<Call> {
        #[pin]
        next: Call,
        // The settings that the call keeps. A repeated pass replaces them.
        settings: CallSettings,
        // The version at the start of the pass, or `Version::NONE` after the pass has ended.
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
        let (version, settings) = self.shared.begin();
        frame.set_settings(settings);
        frame.set_in_pass(true);
        frame.begin_pass();
        let next = self.next.start(request, frame);
        frame.set_in_pass(false);
        LiveCall { next, settings, version }
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
        frame.set_settings(*call.settings);
        if *call.version != Version::NONE {
            self.end_pass::<S, Request>(call.next.as_mut(), call.version, call.settings, frame);
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
    /// Ends the pass in which the call started.
    #[inline]
    fn end_pass<S, Request>(
        &self,
        call: Pin<&mut Next::Call>,
        version: &mut Version,
        settings: &mut CallSettings,
        frame: &mut Frame,
    ) where
        Next: Recall<S, Request>,
        S: Service<Request>,
    {
        frame.set_in_pass(true);
        let version = mem::replace(version, Version::NONE);
        if self.shared.end_pass::<Next, S, Request>(&self.next, call, version, frame) {
            *settings = frame.settings().copied().unwrap_or(*settings);
        }
        frame.set_in_pass(false);
    }
}

/// Does not wait for a running change, so the answer may mix the old and the new configuration.
impl<Next: RefusesNow> RefusesNow for LiveStage<Next> {
    fn refuses_now(&self, frame: &mut Frame) -> bool {
        self.next.refuses_now(frame)
    }
}

impl<Next: Describe> Describe for LiveStage<Next> {
    fn describe(&self, explanation: &mut Explanation) {
        explanation.with_settings(self.shared.settings_in_force());
        explanation.instrument(LiveInstrument(self.shared.clone()));
        self.next.describe(explanation);
    }
}
