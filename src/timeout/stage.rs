use super::patience::{Patience, PatienceWith, of_settings};
use crate::{
    classify::Outcome,
    deadline::Deadline,
    error::{Error, TimedOut, TimedOutBy, TimedOutIn},
    shell::{
        Abandonment, CallSettings, Callee, Describe, Ending, Explanation, Frame, Inherited, Recall, RefusesNow, Stage,
    },
};
use pin_project_lite::pin_project;
use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};
use tokio::time::Instant;
use tower::Service;

/// Ends a call whose time is up. The limit covers all inner stages: readiness, queues, attempts.
#[derive(Clone, Debug)]
pub struct TimeoutStage<Next, P = Duration> {
    of: Of,
    limit: P,
    next: Next,
}

/// The work that a timeout bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Of {
    /// The call. On a server: the handler, without the wait in the queue.
    Call,
    /// One attempt.
    Attempt,
}

impl Of {
    /// Returns the name of the timeout in explanations.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Call => "timeout",
            Self::Attempt => "attempt timeout",
        }
    }

    /// Returns the name of its field in a builder.
    pub(crate) fn field(self) -> &'static str {
        match self {
            Self::Call => "timeout",
            Self::Attempt => "attempt_timeout",
        }
    }

    /// Returns which deadline ended a call that this timeout gave up at its own limit.
    fn by(self) -> TimedOutBy {
        match self {
            Self::Call => TimedOutBy::Call,
            Self::Attempt => TimedOutBy::Attempt,
        }
    }

    /// Returns the limit of this timeout in the settings.
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

    /// Returns the limit of this call.
    #[inline]
    fn limit(&self, kept: P::Kept, frame: &Frame) -> Option<Duration> {
        self.limit.limit(kept, || of_settings(frame.settings(), self.of))
    }

    /// Returns the deadline of a call that begins at `now`.
    #[inline]
    fn until(&self, now: Instant, kept: P::Kept, frame: &Frame) -> Deadline {
        self.limit(kept, frame).map_or(Deadline::NEVER, |limit| Deadline::after(now, limit))
    }

    /// Returns whether a call with the deadline `own` has run for less than half of its limit, or has no limit.
    fn is_cut_short(&self, own: Deadline, now: Instant, kept: P::Kept, frame: &Frame) -> bool {
        let half = self.limit(kept, frame).map(|limit| limit / 2);
        own.remaining(now).zip(half).is_none_or(|(left, half)| left > half)
    }

    /// Returns why a call with this inherited deadline is refused, or `None` if it begins.
    #[inline]
    fn refusal(&self, given: Inherited, frame: &mut Frame) -> Option<Refusal> {
        let left = given.deadline().remaining(frame.now())?;
        if left.is_zero() {
            return Some(if given.is_enforced() { Refusal::ByNext } else { Refusal::At(given) });
        }
        self.limit.is_hopeless(left, frame.now()).then_some(Refusal::At(given))
    }
}

/// Why a call is not begun.
#[derive(Clone, Copy, Debug)]
enum Refusal {
    /// The deadline of an outer timeout has passed. That timeout ends the call in the same poll.
    ByNext,
    /// The inherited deadline has passed, or leaves too little time for any answer.
    At(Inherited),
    /// The closure chose a limit of zero.
    NoTime(TimedOutBy),
}

impl Refusal {
    /// Returns the error of the call, if this stage ends it.
    #[cold]
    fn details(self) -> Option<TimedOut> {
        let details = match self {
            Self::ByNext => return None,
            Self::At(given) => TimedOut::new(given.enforced_limit(), false).cut_short(),
            Self::NoTime(by) => TimedOut::new(Some(Duration::ZERO), false).ended_by(by).cut_short(),
        };
        Some(details.given_up(TimedOutIn::Waiting, Some(Duration::ZERO)))
    }
}

pin_project! {
    /// A call at a [`TimeoutStage`].
    #[derive(Debug)]
    #[project = TimeoutCallParts]
    pub enum TimeoutCall<Call, K = ()> {
        Begun {
            #[pin]
            next: Call,
            // When the limit ends the call. `None` until the first pending poll, unless it is needed at the start. That
            // is so if an inner stage reads the deadline, if the limit is not fixed, or if `inherited` has a deadline.
            own: Option<Deadline>,
            // The deadline inherited from the caller. `NEVER` if an outer timeout of the stack enforces that deadline.
            inherited: Deadline,
            // The data that the limit learns from, or the limit chosen for the request. Nothing for a fixed limit.
            kept: K,
        },
        Refused {
            details: Option<TimedOut>,
        },
    }
}

impl<Call, K> TimeoutCall<Call, K> {
    /// Drops the request before any work.
    #[cold]
    fn refused<Request>(request: Request, refusal: Refusal, frame: &mut Frame) -> Self {
        drop(request);
        frame.user_code_runs();
        Self::Refused { details: refusal.details() }
    }

    /// Returns the call of the next stage, if it has begun.
    fn next(self: Pin<&mut Self>) -> Option<Pin<&mut Call>> {
        match self.project() {
            TimeoutCallParts::Begun { next, .. } => Some(next),
            TimeoutCallParts::Refused { .. } => None,
        }
    }
}

impl<Next, S, Request, P> Stage<S, Request> for TimeoutStage<Next, P>
where
    P: PatienceWith<Request>,
    Next: Stage<S, Request>,
    S: Service<Request>,
{
    const READS_DEADLINE: bool = Next::READS_DEADLINE;

    type Call = TimeoutCall<Next::Call, P::Kept>;

    #[inline(always)]
    fn start(&self, request: Request, frame: &mut Frame) -> Self::Call {
        let given = frame.inherited();
        if given.deadline() != Deadline::NEVER {
            if let Some(refusal) = self.refusal(given, frame) {
                return TimeoutCall::refused(request, refusal, frame);
            }
        }
        let inherited = if given.is_enforced() { Deadline::NEVER } else { given.deadline() };
        let mut own = None;
        let kept = self.limit.begin(&request, frame);
        if P::READS_REQUEST && self.limit(kept, frame).is_some_and(|limit| limit.is_zero()) {
            return TimeoutCall::refused(request, Refusal::NoTime(self.of.by()), frame);
        }
        if P::READS_REQUEST && given.deadline() != Deadline::NEVER {
            // The closure may have taken the time that was left.
            if let Some(refusal) = self.refusal(given, frame) {
                return TimeoutCall::refused(request, refusal, frame);
            }
        }
        if P::LEARNS || P::READS_REQUEST || Next::READS_DEADLINE || inherited != Deadline::NEVER {
            let until = self.until(frame.now(), kept, frame);
            frame.set_inherited(match self.limit(kept, frame) {
                Some(limit) => given.enforcing(until, limit),
                None => given.enforcing_inherited(),
            });
            own = Some(until);
        }
        TimeoutCall::Begun { next: self.next.start(request, frame), own, inherited, kept }
    }

    #[inline]
    fn poll(
        &self,
        call: Pin<&mut Self::Call>,
        mut callee: Pin<&mut Callee<S, S::Future>>,
        cx: &mut Context<'_>,
        frame: &mut Frame,
    ) -> Poll<Result<S::Response, Error<S::Error>>> {
        let (mut next, own, inherited, kept) = match call.project() {
            TimeoutCallParts::Begun { next, own, inherited, kept } => (next, own, *inherited, *kept),
            TimeoutCallParts::Refused { details } => {
                return details.clone().map_or(Poll::Pending, |details| Poll::Ready(Err(timed_out(details))));
            }
        };
        // Poll before looking at the clock: an answer that is ready at the deadline is returned.
        if let Poll::Ready(result) = self.next.poll(next.as_mut(), callee.as_mut(), cx, frame) {
            if P::LEARNS {
                // A failure does not show how long an answer takes, unless it came at the deadline.
                match frame.reported() {
                    Some(Ending::Answered(Outcome::Success)) => self.limit.answered(kept, || frame.now()),
                    _ => self.limit.failed(kept, || frame.now()),
                }
            }
            return Poll::Ready(result);
        }
        let now = frame.now();
        let own = *own.get_or_insert_with(|| self.until(now, kept, frame));
        let deadline = own.earlier(inherited);
        if !deadline.has_passed(now) {
            if let Some(instant) = deadline.instant() {
                frame.wake_at(instant);
            }
            return Poll::Pending;
        }
        let is_own = deadline != inherited;
        if P::LEARNS {
            // Learns before the service's future is dropped, because its drop may panic.
            if is_own { self.limit.given_up(kept) } else { self.limit.cut(kept, || now) }
        }
        let cut_short = self.is_cut_short(own, now, kept, frame);
        frame.set_cut_short(cut_short);
        self.next.abandon(next, callee, Abandonment::TimedOut, frame);
        let limit = self.limit(kept, frame);
        let by = if is_own { self.of.by() } else { TimedOutBy::Caller };
        let spent = own.instant().zip(limit).map(|(own, limit)| {
            let left = own.saturating_duration_since(now);
            let late = now.saturating_duration_since(own);
            limit.saturating_sub(left).saturating_add(late)
        });
        let limit = limit.filter(|_| is_own);
        let details = TimedOut::new(limit, frame.reached_service()).ended_by(by).given_up(frame.abandoned_in(), spent);
        // The call is evidence about the service if it had half of its time, or its current attempt had half of the
        // attempt's time.
        Poll::Ready(Err(timed_out(if cut_short && frame.is_cut_short() { details.cut_short() } else { details })))
    }

    fn would_refuse(&self, request: &Request, due: Instant, frame: &mut Frame) -> bool {
        let left = frame.inherited().deadline().remaining(due);
        left.is_some_and(|left| self.limit.would_be_hopeless(left, due)) || self.next.would_refuse(request, due, frame)
    }

    #[inline]
    fn abandon(
        &self,
        call: Pin<&mut Self::Call>,
        callee: Pin<&mut Callee<S, S::Future>>,
        cause: Abandonment,
        frame: &mut Frame,
    ) {
        let TimeoutCallParts::Begun { next, kept, .. } = call.project() else { return };
        if P::LEARNS && cause == Abandonment::TimedOut {
            self.limit.cut(*kept, || frame.now());
        }
        self.next.abandon(next, callee, cause, frame);
    }
}

impl<Next, S, Request, P> Recall<S, Request> for TimeoutStage<Next, P>
where
    P: PatienceWith<Request>,
    Next: Recall<S, Request>,
    S: Service<Request>,
{
    fn recall(&self, call: Pin<&mut Self::Call>, frame: &mut Frame) -> Option<Request> {
        self.next.recall(call.next()?, frame)
    }
}

fn timed_out<E>(details: TimedOut) -> Error<E> {
    Error::Rejected(details.into())
}

impl<Next: Describe, P: Patience> Describe for TimeoutStage<Next, P> {
    fn describe(&self, explanation: &mut Explanation) {
        self.limit.explain(explanation);
        match (self.limit.fixed(), self.limit.longest()) {
            (Ok(built), _) => {
                let limit = of_settings(explanation.settings(), self.of).unwrap_or(built);
                explanation.limit_latency(self.of.name(), limit, &self.next);
            }
            (Err(_), Some(ceiling)) => explanation.limit_latency_at_most(self.of.name(), ceiling, &self.next),
            (Err(_), None) => {
                explanation.layer(self.of.name(), "chosen for each request");
                self.next.describe(explanation);
            }
        }
    }
}

impl<Next: RefusesNow, P> RefusesNow for TimeoutStage<Next, P> {
    fn refuses_now(&self, frame: &mut Frame) -> bool {
        self.next.refuses_now(frame)
    }
}
