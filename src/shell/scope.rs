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

/// Runs the service with the call's [`CallContext`] as the current one, as narrowed by the stages further out.
///
/// It is the last stage that an attempt passes before the service, so it knows when the attempt began, however long the
/// call had waited for another one or in line. It judges whether an attempt that ends at its deadline had its patience;
/// see [`Ending::CutShort`].
#[derive(Clone, Debug)]
pub struct ScopeStage<Next> {
    pub(crate) next: Next,
}

impl<Next> ScopeStage<Next> {
    /// A scope around the next stage.
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
        // When the attempt has had half of its full patience; never where there is no timeout in the stack.
        patient_from: Deadline,
        // A retry was forbidden within an earlier poll.
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
        let patient_from = inherited.half_of_patience(frame);
        let next = self.next.start(request, frame);
        ScopeCall { next, context: inherited.context(), patient_from, retry_forbidden: Flag::NO }
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
            frame.set_patient_from(*call.patient_from);
            if call.retry_forbidden.is_set() {
                forbid_retry(frame);
            }
        }
        if polled.is_ready() && frame.reported().is_some_and(may_be_by_deadline) {
            judge_answer(call.context.deadline_or_never(), *call.patient_from, frame);
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
        if let (Abandonment::TimedOut, Some(patient_from)) = (cause, call.patient_from.instant()) {
            let cut_short = frame.now() < patient_from;
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

/// Hands on to the stages further out, and to what is around the stack, that a retry is forbidden.
#[cold]
fn forbid_retry(frame: &mut Frame) {
    frame.forbid_retry();
    CallContext::forbid_retry();
}

/// Whether a service that gives up by itself at the deadline which it sees may have answered so.
fn may_be_by_deadline(ending: Ending) -> bool {
    matches!(
        ending,
        Ending::Answered(Outcome::Failure | Outcome::Unprocessed { retry_after: None })
            | Ending::TimedOut
            | Ending::CutShort
    )
}

/// A service that gives up at the deadline is judged as one that this stack gave up then. Its own patience, if it is a
/// stack too, may be longer or shorter than that of this one.
///
/// Its timer may be a little early: the deadline was rounded down to be sent, and timers fire at whole milliseconds.
#[cold]
fn judge_answer(deadline: Deadline, patient_from: Deadline, frame: &mut Frame) {
    let now = frame.now();
    let is_over = deadline.remaining(now).is_some_and(|left| left < Duration::from_millis(1));
    match (patient_from.instant(), frame.reported()) {
        (Some(patient_from), _) if now < patient_from && is_over => frame.report(Ending::CutShort),
        (Some(patient_from), Some(Ending::CutShort)) if now >= patient_from => frame.report(Ending::TimedOut),
        _ => {}
    }
}

impl<Next: Describe> Describe for ScopeStage<Next> {
    fn describe(&self, explanation: &mut Explanation) {
        self.next.describe(explanation);
    }
}
