use super::{Repeat, Replay, RetryBudget, budget::Withdrawal, plan::Worth};
use crate::{
    backoff::Backoff,
    clock::Nanos,
    context::CallContext,
    error::{Error, TimedOut},
    random::Random,
    shell::{
        Abandonment, Callee, Denied, Describe, Ending, Explanation, Frame, Inherited, Recall, RefusesNow, Retries,
        Stage,
    },
    words::Flag,
};
use pin_project_lite::pin_project;
use std::{
    mem::needs_drop,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};
use tokio::time::Instant;
use tower::Service;

/// Retries a call while four conditions hold: the service failed, attempts are left, the wait ends before the deadline,
/// and the budget, if there is one, has a retry.
#[derive(Clone, Debug)]
pub struct RetryStage<P, Next> {
    pub(super) attempts: u32,
    pub(super) backoff: Backoff,
    pub(super) max_hint: Duration,
    pub(super) waits_for_refusals: bool,
    pub(super) budget: Option<RetryBudget>,
    pub(super) replay: P,
    pub(super) random: Random,
    pub(super) next: Next,
}

pin_project! {
    /// A call at a [`RetryStage`].
    #[derive(Debug)]
    pub struct RetryCall<Call, Kept> {
        // The attempt in flight; `None` while the call waits for the next one, and after its end.
        #[pin]
        attempt: Option<Call>,
        // The kept value for further attempts; `None` if no further attempt is possible.
        kept: Option<Kept>,
        progress: Progress,
    }
}

/// The progress of a call.
#[derive(Debug)]
pub(super) struct Progress {
    /// The started attempts, including the one in flight.
    attempts: u64,
    /// When the next attempt is due, while the call waits for it.
    pub(super) due: Option<Instant>,
    /// The last backoff, without the hint.
    pub(super) wait: Nanos,
    /// The sum of all waits, including the present one.
    pub(super) waited: Nanos,
    /// The retry that the coming or present attempt took from the budget. While the attempt is polled, a local variable
    /// holds the withdrawal, so that a panic spends it.
    pub(super) withdrawal: Option<Withdrawal>,
    /// Whether the call has made its deposit.
    deposited: Flag,
    /// Whether any attempt has reached the service.
    reached: Flag,
    /// When the request may be sent again, if a value is kept.
    pub(super) repeat: Repeat,
    /// The context that every attempt inherits.
    pub(super) inherited: Inherited,
}

impl Progress {
    pub(super) fn attempts(&self) -> u32 {
        u32::try_from(self.attempts).unwrap_or(u32::MAX)
    }

    /// Reports the retries of this call to observers. Forbids outer retries if this stage denied one, unless the only
    /// reason is that the call may have no second attempt.
    #[inline]
    fn note(&self, denied: Option<Denied>, frame: &mut Frame) {
        // A call with only one attempt is not retried here. An outer retry may still retry it.
        let was_single = denied == Some(Denied::Exhausted) && self.attempts == 1;
        if denied.is_some() && !was_single {
            // An outer retry must not repeat an attempt that this stage has decided not to repeat.
            frame.forbid_retry();
            CallContext::forbid_retry();
        }
        if self.attempts > 1 || self.waited != Nanos::ZERO || denied.is_some() {
            frame.note_retries(Retries::of(self.attempts(), self.waited, denied));
        }
    }
}

impl<P, Next, S, Request> Stage<S, Request> for RetryStage<P, Next>
where
    P: Replay<Request>,
    Next: Stage<S, Request>,
    S: Service<Request> + Clone,
{
    const READS_DEADLINE: bool = true;

    type Call = RetryCall<Next::Call, P::Kept>;

    #[inline(always)]
    fn start(&self, request: Request, frame: &mut Frame) -> Self::Call {
        let inherited = frame.inherited();
        frame.begin_attempt(0, inherited);
        let (request, kept) = if self.attempts(frame) > 1 {
            let kept = self.replay.keep(request, frame);
            // `keep` ran user code: a clone of the request, or a closure.
            frame.user_code_runs();
            kept
        } else {
            (request, None)
        };
        let (repeat, kept) = match kept {
            Some((repeat, kept)) => (repeat, Some(kept)),
            None => (Repeat::IfUnprocessed, None),
        };
        RetryCall {
            attempt: Some(self.next.start(request, frame)),
            kept,
            progress: Progress {
                attempts: 1,
                due: None,
                wait: Nanos::ZERO,
                waited: Nanos::ZERO,
                withdrawal: None,
                deposited: Flag::NO,
                reached: Flag::NO,
                repeat,
                inherited,
            },
        }
    }

    fn would_refuse(&self, request: &Request, due: Instant, frame: &mut Frame) -> bool {
        self.next.would_refuse(request, due, frame)
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
        let (mut attempt, kept, progress) = (call.attempt, call.kept, call.progress);
        loop {
            if let Some(running) = attempt.as_mut().as_pin_mut() {
                let withdrawal = progress.withdrawal.take();
                let polled = self.next.poll(running, callee.as_mut(), cx, frame);
                if frame.reached_service() {
                    progress.reached = Flag::YES;
                }
                let Poll::Ready(result) = polled else {
                    progress.withdrawal = withdrawal;
                    return Poll::Pending;
                };
                // The attempt has ended. User code may panic from here on.
                attempt.set(None);
                let ending = Ending::of(&result, frame);
                self.settle(withdrawal, ending, &mut progress.deposited);
                let planned = match self.hint(ending, frame) {
                    Worth::Nothing => Err(None),
                    Worth::Denied(denied) => Err(Some(denied)),
                    Worth::After(hint) => self.plan::<S, Request>(ending, hint, kept.as_ref(), progress, frame),
                };
                if let Err(denied) = planned {
                    progress.note(denied, frame);
                    drop_kept(kept, frame);
                    let reached = progress.reached.is_set();
                    return Poll::Ready(result.map_err(|error| match error {
                        Error::Rejected(rejection) if reached => {
                            Error::Rejected(rejection.after_reaching_the_service())
                        }
                        error => error,
                    }));
                }
                // During the wait, the call keeps no value of the service, and no place in a queue.
                drop(result);
                callee.as_mut().refresh();
                frame.user_code_runs();
            }
            if let Some(due) = progress.due {
                let now = frame.now();
                if now < due {
                    frame.wake_at(due);
                    return Poll::Pending;
                }
                // The planned wait ends before the deadline, but the executor may poll the call only after the
                // deadline.
                if progress.inherited.deadline().has_passed(now) {
                    self.refund(progress.withdrawal.take());
                    if progress.inherited.is_enforced() {
                        // The outer timeout, which reads the clock next, enforces the deadline.
                        return Poll::Pending;
                    }
                    progress.note(Some(Denied::Deadline), frame);
                    drop_kept(kept, frame);
                    let details = TimedOut::new(None, progress.reached.is_set()).cut_short();
                    return Poll::Ready(Err(Error::Rejected(details.into())));
                }
            }
            let Some(request) = self.next_request::<Request>(kept, progress.attempts(), frame) else {
                crate::shell::polled_after_end()
            };
            frame.begin_attempt(progress.attempts(), progress.inherited);
            progress.attempts = progress.attempts.saturating_add(1);
            progress.due = None;
            attempt.set(Some(self.next.start(request, frame)));
        }
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
        let (mut attempt, kept, progress) = (call.attempt, call.kept, call.progress);
        frame.turn_to_attempt();
        let withdrawal = progress.withdrawal.take();
        if let Some(running) = attempt.as_mut().as_pin_mut() {
            self.next.abandon(running, callee, cause, frame);
            attempt.set(None);
        }
        self.settle(withdrawal, Ending::of_abandoned(cause, frame), &mut progress.deposited);
        if progress.reached.is_set() {
            frame.service_was_reached();
        }
        progress.note(None, frame);
        // Last, because the drop may be user code: if it panics, the attempt and its withdrawal are settled already.
        drop_kept(kept, frame);
    }
}

impl<P, Next, S, Request> Recall<S, Request> for RetryStage<P, Next>
where
    P: Replay<Request>,
    Next: Recall<S, Request>,
    S: Service<Request> + Clone,
{
    fn recall(&self, call: Pin<&mut Self::Call>, frame: &mut Frame) -> Option<Request> {
        let call = call.project();
        let request = self.next.recall(call.attempt.as_pin_mut()?, frame)?;
        drop_kept(call.kept, frame);
        Some(request)
    }
}

impl<P, Next> RetryStage<P, Next> {
    /// Returns the attempts that this call may have.
    #[inline]
    pub(super) fn attempts(&self, frame: &Frame) -> u32 {
        frame.settings().map_or(self.attempts, |settings| settings.attempts())
    }

    /// Settles an attempt that has ended, or that will not begin because the call is abandoned. Its withdrawal is
    /// spent, or refunded if the attempt did not reach the service. The first attempt that reached the service makes
    /// the call's deposit.
    fn settle(&self, withdrawal: Option<Withdrawal>, ending: Ending, deposited: &mut Flag) {
        if ending.spared_the_service() {
            self.refund(withdrawal);
        } else if !deposited.is_set() {
            *deposited = Flag::YES;
            if let Some(budget) = &self.budget {
                budget.deposit();
            }
        }
    }

    fn refund(&self, withdrawal: Option<Withdrawal>) {
        if let (Some(budget), Some(withdrawal)) = (&self.budget, withdrawal) {
            budget.refund(withdrawal);
        }
    }
}

/// Drops the kept value, because there is no further attempt, or because the call is recalled. The drop is user code if
/// the type has one.
#[inline]
fn drop_kept<Kept>(kept: &mut Option<Kept>, frame: &mut Frame) {
    if kept.take().is_some() && needs_drop::<Kept>() {
        frame.user_code_runs();
    }
}

impl<P, Next: Describe> Describe for RetryStage<P, Next> {
    fn describe(&self, explanation: &mut Explanation) {
        let built = (self.attempts, self.backoff, self.max_hint);
        let (attempts, backoff, max_hint) = explanation
            .settings()
            .map_or(built, |settings| (settings.attempts(), settings.backoff(), settings.max_hint()));
        let noun = if attempts == 1 { "attempt" } else { "attempts" };
        let refusals = if self.waits_for_refusals { ", waits for refusals" } else { "" };
        let budget = match &self.budget {
            Some(budget) => format!("budget: {}", budget.configuration()),
            None => "without a budget".to_owned(),
        };
        if let Some(budget) = &self.budget {
            explanation.instrument(budget.clone());
        }
        explanation.layer("retry", format!("up to {attempts} {noun}, {backoff}{refusals}, {budget}"));
        explanation.repeat(attempts, backoff, &self.next);
        let further = max_hint.saturating_mul(attempts.saturating_sub(1));
        explanation.wait_for_hints(attempts, further, self.waits_for_refusals);
    }
}

impl<P, Next: RefusesNow> RefusesNow for RetryStage<P, Next> {
    fn refuses_now(&self, frame: &mut Frame) -> bool {
        self.next.refuses_now(frame)
    }
}
