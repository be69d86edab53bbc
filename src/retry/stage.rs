use super::{Backoff, Replay, RetryBudget, budget::Withdrawal};
use crate::{
    classify::Outcome,
    context::CallContext,
    error::{Error, TimedOut},
    random::Random,
    shell::{Abandonment, Ending, Frame, Stage},
    stack::{Describe, Explanation},
    timeout::Deadline,
};
use pin_project_lite::pin_project;
use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};
use tokio::time::Instant;
use tower::Service;

/// Sends a call again while that is worth it: the service failed, attempts are left, the wait ends before the deadline,
/// and the budget has a retry.
#[derive(Clone, Debug)]
pub struct RetryStage<P, Next> {
    pub(super) attempts: u32,
    pub(super) backoff: Backoff,
    pub(super) budget: Option<RetryBudget>,
    pub(super) replay: P,
    pub(super) random: Random,
    pub(super) next: Next,
}

pin_project! {
    /// A call at a [`RetryStage`].
    #[derive(Debug)]
    pub struct RetryCall<Call, Request> {
        // The attempt under way; `None` while waiting for the next one.
        #[pin]
        attempt: Option<Call>,
        // The request to send again; `None` where no further attempt is possible.
        kept: Option<Request>,
        // Attempts started, the one under way included.
        attempts: u32,
        // What comes next: how long to wait, and when the wait ends.
        due: Option<Instant>,
        wait: Duration,
        // What the coming or present attempt took from the budget, until the attempt reaches the service. During a poll
        // it is on the stack, so that a panic spends it.
        withdrawal: Option<Withdrawal>,
        // Whether any attempt so far was handed to the service.
        reached: bool,
        // What every attempt inherits.
        context: CallContext,
    }
}

impl<P, Next, S, Request> Stage<S, Request> for RetryStage<P, Next>
where
    P: Replay<Request>,
    Next: Stage<S, Request>,
    S: Service<Request> + Clone,
{
    const READS_DEADLINE: bool = true;

    type Call = RetryCall<Next::Call, Request>;

    #[inline]
    fn start(&self, request: Request, frame: &mut Frame) -> Self::Call {
        let context = frame.context().with_attempt(0);
        frame.set_context(context);
        let kept = if self.attempts > 1 { self.replay.keep(&request, frame) } else { None };
        RetryCall {
            attempt: Some(self.next.start(request, frame)),
            kept,
            attempts: 1,
            due: None,
            wait: Duration::ZERO,
            withdrawal: None,
            reached: false,
            context,
        }
    }

    #[inline]
    fn poll(
        &self,
        call: Pin<&mut Self::Call>,
        service: &mut S,
        cx: &mut Context<'_>,
        frame: &mut Frame,
    ) -> Poll<Result<S::Response, Error<S::Error>>> {
        let mut call = call.project();
        loop {
            if let Some(attempt) = call.attempt.as_mut().as_pin_mut() {
                let withdrawal = call.withdrawal.take();
                let polled = self.next.poll(attempt, service, cx, frame);
                let unspent = withdrawal.filter(|_| !frame.reached_service());
                if frame.reached_service() && !*call.reached {
                    *call.reached = true;
                    self.deposit();
                }
                let Poll::Ready(result) = polled else {
                    *call.withdrawal = unspent;
                    if *call.reached {
                        frame.service_was_reached();
                    }
                    return Poll::Pending;
                };
                self.refund(unspent);

                let again = call.kept.is_some();
                let planned = if again {
                    let hint = hint_for_retry(Ending::of(&result, frame));
                    hint.and_then(|hint| self.plan(hint, *call.attempts, *call.wait, *call.context, frame))
                } else {
                    None
                };
                let Some(plan) = planned else {
                    let reached = *call.reached;
                    return Poll::Ready(result.map_err(|error| match error {
                        Error::Rejected(rejection) if reached => {
                            Error::Rejected(rejection.after_reaching_the_service())
                        }
                        error => error,
                    }));
                };
                (*call.due, *call.wait, *call.withdrawal) = (Some(plan.due), plan.wait, plan.withdrawal);
                // While it waits the call holds nothing of the service, nor a place in its queue.
                drop(result);
                call.attempt.set(None);
                let fresh = service.clone();
                *service = fresh;
                frame.user_code_runs();
            }
            if *call.reached {
                frame.service_was_reached();
            }
            if let Some(due) = *call.due {
                let now = frame.now();
                if now < due {
                    frame.wake_at(due);
                    return Poll::Pending;
                }
                // The wait was to end before the deadline, but a late executor may have let that pass too.
                if call.context.deadline_or_never().has_passed(now) {
                    self.refund(call.withdrawal.take());
                    if call.context.unenforced_deadline() == Deadline::NEVER {
                        // For the timeout further out, which looks at the clock next.
                        return Poll::Pending;
                    }
                    return Poll::Ready(Err(Error::Rejected(TimedOut::new(None, *call.reached).into())));
                }
            }
            let Some(request) = self.next_request(call.kept, *call.attempts, frame) else {
                crate::shell::polled_after_end()
            };
            frame.turn_to_attempt();
            frame.set_context(call.context.with_attempt(*call.attempts));
            *call.attempts = call.attempts.saturating_add(1);
            *call.due = None;
            let attempt = self.next.start(request, frame);
            call.attempt.set(Some(attempt));
        }
    }

    #[inline]
    fn abandon(&self, call: Pin<&mut Self::Call>, cause: Abandonment, frame: &mut Frame) {
        let mut call = call.project();
        frame.turn_to_attempt();
        if let Some(attempt) = call.attempt.as_mut().as_pin_mut() {
            self.next.abandon(attempt, cause, frame);
            call.attempt.set(None);
        }
        if !frame.reached_service() {
            self.refund(call.withdrawal.take());
        }
        if *call.reached {
            frame.service_was_reached();
        }
    }
}

/// A retry that is going to happen.
struct Plan {
    due: Instant,
    wait: Duration,
    withdrawal: Option<Withdrawal>,
}

impl<P, Next> RetryStage<P, Next> {
    /// Decides on a retry after the `attempts`-th attempt failed. `hint` is the least time to wait.
    fn plan(
        &self,
        hint: Duration,
        attempts: u32,
        previous_wait: Duration,
        context: CallContext,
        frame: &mut Frame,
    ) -> Option<Plan> {
        // The jitter comes on top of the hint: callers who were all told the same would come back together.
        let wait = self.random.with(|random| self.backoff.draw(attempts, previous_wait, random));
        let now = frame.now();
        let due = now.checked_add(hint.saturating_add(wait))?;
        if context.deadline_or_never().has_passed(due) {
            return None;
        }
        let withdrawal = match &self.budget {
            None => None,
            Some(budget) => Some(budget.withdraw(now)?),
        };
        Some(Plan { due, wait, withdrawal })
    }

    /// The request of the next attempt: a copy, or what was kept if it is the last.
    fn next_request<Request>(&self, kept: &mut Option<Request>, attempts: u32, frame: &mut Frame) -> Option<Request>
    where
        P: Replay<Request>,
    {
        if attempts.saturating_add(1) < self.attempts {
            if let Some(copy) = kept.as_ref().and_then(|kept| self.replay.copy(kept, frame)) {
                return Some(copy);
            }
        }
        kept.take()
    }

    #[inline]
    fn deposit(&self) {
        if let Some(budget) = &self.budget {
            budget.deposit();
        }
    }

    fn refund(&self, withdrawal: Option<Withdrawal>) {
        if let (Some(budget), Some(withdrawal)) = (&self.budget, withdrawal) {
            budget.refund(withdrawal);
        }
    }
}

/// Whether such an ending is worth another attempt, and if so after how long at the least.
fn hint_for_retry(ending: Ending) -> Option<Duration> {
    match ending {
        Ending::Answered(Outcome::Failure) | Ending::TimedOut => Some(Duration::ZERO),
        Ending::Answered(Outcome::Overloaded { retry_after }) | Ending::Refused { retry_after } => retry_after,
        Ending::Answered(Outcome::Success | Outcome::Permanent | Outcome::Ignored) => None,
        Ending::Cancelled { .. } | Ending::Panicked => None,
    }
}

impl<P, Next: Describe> Describe for RetryStage<P, Next> {
    fn describe(&self, explanation: &mut Explanation) {
        explanation.retry(self.attempts, self.backoff, self.budget.is_some(), &self.next);
    }
}
