use super::{Abandonment, Callee, Describe, Ending, Explanation, Frame, Recall, Stage};
use crate::{
    classify::Outcome,
    context::{CallContext, Forbiddance},
    deadline::Deadline,
    error::Error,
    words::Flag,
};
use pin_project_lite::pin_project;
use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};
use tokio::time::Instant;
use tower::Service;

/// Runs the service with the call's [`CallContext`] as the current one. Outer stages may have set an earlier deadline
/// in this context.
///
/// The scope is the last stage before the innermost one. It therefore starts after all earlier attempts and all waits
/// in queues, and knows when the present attempt began. The scope judges whether an attempt that a deadline ended had
/// at least half of its full time; see [`Ending::CutShort`].
#[derive(Clone, Debug)]
pub struct ScopeStage<Next> {
    pub(crate) next: Next,
}

impl<Next> ScopeStage<Next> {
    /// Makes a scope around the next stage.
    pub fn new(next: Next) -> Self {
        Self { next }
    }
}

pin_project! {
    /// A call at a [`ScopeStage`].
    #[derive(Debug)]
    pub struct ScopeCall<Call> {
        #[pin]
        next: Call,
        context: CallContext,
        // When the attempt has had half of its full time. `Deadline::NEVER` if no outer timeout has a limit.
        half_time: Deadline,
        // Whether a retry was forbidden in any poll so far.
        retry_forbidden: Flag,
    }
}

impl<Next, S, Request> Stage<S, Request> for ScopeStage<Next>
where
    Next: Stage<S, Request>,
    S: Service<Request>,
{
    const READS_DEADLINE: bool = true;

    type Call = ScopeCall<Next::Call>;

    #[inline]
    fn start(&self, request: Request, frame: &mut Frame) -> Self::Call {
        let inherited = frame.inherited();
        let half_time = inherited.half_time(frame);
        let next = self.next.start(request, frame);
        ScopeCall { next, context: inherited.context(), half_time, retry_forbidden: Flag::NO }
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
        let call = call.project();
        let within = Forbiddance::gather();
        let polled = call.context.stack_scope(|| self.next.poll(call.next, callee, cx, frame));
        if within.is_forbidden() {
            *call.retry_forbidden = Flag::YES;
        }
        drop(within);
        if polled.is_ready() {
            frame.set_half_time(*call.half_time);
            if call.retry_forbidden.is_set() {
                forbid_retry(frame);
            }
        }
        if polled.is_ready() && frame.reported().is_some_and(may_be_by_deadline) {
            judge_answer(call.context.deadline_or_never(), *call.half_time, frame);
        }
        polled
    }

    #[inline]
    fn abandon(
        &self,
        call: Pin<&mut Self::Call>,
        callee: Pin<&mut Callee<S, S::Future>>,
        cause: Abandonment,
        frame: &mut Frame,
    ) {
        let call = call.project();
        if let (Abandonment::TimedOut, Some(half_time)) = (cause, call.half_time.instant()) {
            let cut_short = frame.now() < half_time;
            frame.set_cut_short(cut_short);
        }
        call.context.stack_scope(|| self.next.abandon(call.next, callee, cause, frame));
        if call.retry_forbidden.is_set() {
            forbid_retry(frame);
        }
    }
}

impl<Next, S, Request> Recall<S, Request> for ScopeStage<Next>
where
    Next: Recall<S, Request>,
    S: Service<Request>,
{
    fn recall(&self, call: Pin<&mut Self::Call>, frame: &mut Frame) -> Option<Request> {
        self.next.recall(call.project().next, frame)
    }
}

/// Passes the mark of a forbidden retry to the outer stages, and to the context around the stack.
#[cold]
fn forbid_retry(frame: &mut Frame) {
    frame.forbid_retry();
    CallContext::forbid_retry();
}

/// Returns whether a service that itself gives up at its deadline may end the call with this ending.
fn may_be_by_deadline(ending: Ending) -> bool {
    matches!(
        ending,
        Ending::Answered(Outcome::Failure | Outcome::Unprocessed { retry_after: None })
            | Ending::TimedOut
            | Ending::CutShort
    )
}

/// Judges a service that itself gives up at the deadline as if this stack had given up. The service may be a stack with
/// a timeout of its own, longer or shorter than that of this stack. That inner stack reports whether the attempt was
/// [cut short](Ending::CutShort). This function corrects the report by the full time of this stack.
///
/// The service may give up almost a millisecond early: a deadline is rounded down when it is sent, and timers fire at
/// whole milliseconds.
#[cold]
fn judge_answer(deadline: Deadline, half_time: Deadline, frame: &mut Frame) {
    let now = frame.now();
    let is_over = deadline.remaining(now).is_some_and(|left| left < Duration::from_millis(1));
    match (half_time.instant(), frame.reported()) {
        (Some(half_time), _) if now < half_time && is_over => frame.report(Ending::CutShort),
        (Some(half_time), Some(Ending::CutShort)) if now >= half_time => frame.report(Ending::TimedOut),
        _ => {}
    }
}

impl<Next: Describe> Describe for ScopeStage<Next> {
    fn describe(&self, explanation: &mut Explanation) {
        self.next.describe(explanation);
    }
}
