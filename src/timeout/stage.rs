use super::patience::{Patience, of_settings};
use crate::{
    classify::Outcome,
    deadline::Deadline,
    error::{Error, TimedOut, TimedOutBy},
    shell::{Abandonment, CallSettings, Callee, Describe, Ending, Explanation, Frame, Recall, RefusesNow, Stage},
};
use pin_project_lite::pin_project;
use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};
use tokio::time::Instant;
use tower::Service;

/// Ends a call whose time is up. The limit covers everything further in: readiness, queues, attempts.
#[derive(Clone, Debug)]
pub struct TimeoutStage<Next, P = Duration> {
    of: Of,
    limit: P,
    next: Next,
}

/// What a timeout bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Of {
    /// The call; on a server, the work on it.
    Call,
    /// One attempt.
    Attempt,
}

impl Of {
    /// What the timeout is called.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Call => "timeout",
            Self::Attempt => "attempt timeout",
        }
    }

    /// Its field in a builder.
    pub(crate) fn field(self) -> &'static str {
        match self {
            Self::Call => "timeout",
            Self::Attempt => "attempt_timeout",
        }
    }

    /// The deadline that it sets.
    fn by(self) -> TimedOutBy {
        match self {
            Self::Call => TimedOutBy::Call,
            Self::Attempt => TimedOutBy::Attempt,
        }
    }

    /// The limit among these settings.
    #[inline]
    pub(crate) fn limit(self, settings: &CallSettings) -> Option<Duration> {
        match self {
            Self::Call => settings.timeout(),
            Self::Attempt => settings.attempt_timeout(),
        }
    }
}

impl<Next, P: Patience> TimeoutStage<Next, P> {
    pub(crate) fn new(of: Of, limit: P, next: Next) -> Self {
        Self { of, limit, next }
    }

    /// The limit of this call.
    #[inline]
    fn limit(&self, kept: P::Kept, frame: &Frame) -> Duration {
        self.limit.limit(kept, || of_settings(frame.settings(), self.of))
    }

    /// Whether a call that would have until `own` has run for less than half of the limit.
    fn is_cut_short(&self, own: Deadline, now: Instant, kept: P::Kept, frame: &Frame) -> bool {
        own.remaining(now).is_none_or(|left| left > self.limit(kept, frame) / 2)
    }
}

pin_project! {
    /// A call at a [`TimeoutStage`].
    #[derive(Debug)]
    pub struct TimeoutCall<Call, K = ()> {
        // `None` where the caller's deadline had passed before the call began: no caller waits for an answer.
        #[pin]
        next: Option<Call>,
        // When the limit ends the call. `None` until the call is first seen pending, where nothing further in asked for
        // it earlier.
        own: Option<Deadline>,
        // What the call inherited from its caller, and not from a timeout further out in the stack.
        inherited: Deadline,
        // What the limit learns from: nothing where it is fixed.
        kept: K,
    }
}

impl<Next, S, Request, P> Stage<S, Request> for TimeoutStage<Next, P>
where
    P: Patience,
    Next: Stage<S, Request>,
    S: Service<Request>,
{
    const READS_DEADLINE: bool = Next::READS_DEADLINE;

    type Call = TimeoutCall<Next::Call, P::Kept>;

    #[inline(always)]
    fn start(&self, request: Request, frame: &mut Frame) -> Self::Call {
        let given = frame.inherited();
        let inherited = if given.is_enforced() { Deadline::NEVER } else { given.deadline() };
        let mut own = None;
        let kept = self.limit.begin(|| frame.now());
        if P::LEARNS || Next::READS_DEADLINE || inherited != Deadline::NEVER {
            let now = frame.now();
            if inherited.has_passed(now) {
                drop(request);
                frame.user_code_runs();
                return TimeoutCall { next: None, own, inherited, kept };
            }
            let limit = self.limit(kept, frame);
            let until = Deadline::after(now, limit);
            frame.set_inherited(given.enforcing(until.earlier(inherited), limit));
            own = Some(until);
        }
        TimeoutCall { next: Some(self.next.start(request, frame)), own, inherited, kept }
    }

    #[inline]
    fn poll(
        &self,
        call: Pin<&mut Self::Call>,
        mut callee: Pin<&mut Callee<S, S::Future>>,
        cx: &mut Context<'_>,
        frame: &mut Frame,
    ) -> Poll<Result<S::Response, Error<S::Error>>> {
        let call = call.project();
        let Some(mut next) = call.next.as_pin_mut() else {
            return Poll::Ready(Err(timed_out(TimedOut::new(None, false).cut_short())));
        };
        // The answer first: one that is there at the deadline is not thrown away.
        if let Poll::Ready(result) = self.next.poll(next.as_mut(), callee.as_mut(), cx, frame) {
            // A failure says nothing of how long an answer takes.
            if P::LEARNS && frame.reported() == Some(Ending::Answered(Outcome::Success)) {
                self.limit.answered(*call.kept, || frame.now());
            }
            return Poll::Ready(result);
        }
        let now = frame.now();
        let own = *call.own.get_or_insert_with(|| Deadline::after(now, self.limit(*call.kept, frame)));
        let deadline = own.earlier(*call.inherited);
        if !deadline.has_passed(now) {
            if let Some(instant) = deadline.instant() {
                frame.wake_at(instant);
            }
            return Poll::Pending;
        }
        let cut_short = self.is_cut_short(own, now, *call.kept, frame);
        frame.set_cut_short(cut_short);
        self.next.abandon(next, callee, Abandonment::TimedOut, frame);
        let limit = (deadline != *call.inherited).then_some(self.limit(*call.kept, frame));
        if P::LEARNS && limit.is_some() {
            self.limit.given_up(*call.kept);
        }
        let by = if limit.is_some() { self.of.by() } else { TimedOutBy::Caller };
        let spent = own.instant().map(|own| {
            let left = own.saturating_duration_since(now);
            let late = now.saturating_duration_since(own);
            self.limit(*call.kept, frame).saturating_sub(left) + late
        });
        let details = TimedOut::new(limit, frame.reached_service()).ended_by(by).given_up(frame.abandoned_in(), spent);
        // The attempt under way may have had its patience though the call had not.
        Poll::Ready(Err(timed_out(if cut_short && frame.is_cut_short() { details.cut_short() } else { details })))
    }

    fn would_refuse(&self, request: &Request, due: Instant, frame: &mut Frame) -> bool {
        self.next.would_refuse(request, due, frame)
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

impl<Next, S, Request, P> Recall<S, Request> for TimeoutStage<Next, P>
where
    P: Patience,
    Next: Recall<S, Request>,
    S: Service<Request>,
{
    fn recall(&self, call: Pin<&mut Self::Call>, frame: &mut Frame) -> Option<Request> {
        self.next.recall(call.project().next.as_pin_mut()?, frame)
    }
}

fn timed_out<E>(details: TimedOut) -> Error<E> {
    Error::Rejected(details.into())
}

impl<Next: Describe, P: Patience> Describe for TimeoutStage<Next, P> {
    fn describe(&self, explanation: &mut Explanation) {
        self.limit.explain(explanation);
        let Some(built) = self.limit.fixed() else {
            explanation.limit_latency_at_most(self.of.name(), self.limit.longest(), &self.next);
            return;
        };
        let limit = of_settings(explanation.settings(), self.of).unwrap_or(built);
        explanation.limit_latency(self.of.name(), limit, &self.next);
    }
}

impl<Next: RefusesNow, P: Clone> RefusesNow for TimeoutStage<Next, P> {
    fn refuses_now(&self, frame: &mut Frame) -> bool {
        self.next.refuses_now(frame)
    }
}
