//! Decides whether a call gets a further attempt, when, and with which request.

use super::{
    Repeat, Replay,
    stage::{Progress, RetryStage},
};
use crate::{
    classify::Outcome,
    clock::Nanos,
    shell::{Denied, Ending, Frame, Stage},
};
use std::time::Duration;
use tower::Service;

/// Whether an ending justifies a further attempt.
pub(super) enum Worth {
    /// No: the call has ended well, or its ending is of a kind that is not retried.
    Nothing,
    /// No: the ending has no hint, or its hint is too long.
    Denied(Denied),
    /// Yes, after this wait and the backoff.
    After(Duration),
}

/// Returns whether the service did not process the attempt. A request that must not be processed twice may then be sent
/// again.
fn is_harmless(ending: Ending) -> bool {
    matches!(ending, Ending::Answered(Outcome::Unprocessed { .. }) | Ending::Refused { .. })
}

impl<P, Next> RetryStage<P, Next> {
    /// Returns whether the ending justifies a further attempt, and the wait that the service or the refusal asks for.
    pub(super) fn hint(&self, ending: Ending, frame: &Frame) -> Worth {
        let hint = match ending {
            Ending::Answered(Outcome::Failure | Outcome::Unprocessed { retry_after: None }) | Ending::TimedOut => {
                return Worth::After(Duration::ZERO);
            }
            Ending::Answered(Outcome::Overloaded { retry_after } | Outcome::Unprocessed { retry_after }) => retry_after,
            Ending::Refused { retry_after } if self.waits_for_refusals => retry_after,
            _ => return Worth::Nothing,
        };
        let longest = frame.settings().map_or(self.max_hint, |settings| settings.max_hint());
        match hint {
            None => Worth::Denied(Denied::NoHint),
            Some(hint) if hint > longest => Worth::Denied(Denied::HintTooLong),
            Some(hint) => Worth::After(hint),
        }
    }

    /// Plans a further attempt after the hint, or returns why there is none.
    pub(super) fn plan<S, Request>(
        &self,
        ending: Ending,
        hint: Duration,
        kept: Option<&<P as Replay<Request>>::Kept>,
        progress: &mut Progress,
        frame: &mut Frame,
    ) -> Result<(), Option<Denied>>
    where
        P: Replay<Request>,
        Next: Stage<S, Request>,
        S: Service<Request>,
    {
        if frame.is_retry_forbidden() {
            return Err(Some(Denied::Marked));
        }
        if progress.attempts() >= self.attempts(frame) {
            return Err(Some(Denied::Exhausted));
        }
        let may_repeat = progress.repeat == Repeat::Always || is_harmless(ending);
        let kept = kept.filter(|_| may_repeat).ok_or(Denied::NotRepeatable)?;
        // The jitter is added to the hint: otherwise all callers with the same hint would return together.
        let backoff = frame.settings().map_or(self.backoff, |settings| settings.backoff());
        let wait = backoff.draw_after(progress.wait.duration(), progress.attempts(), &self.random);
        let whole_wait = hint.saturating_add(wait);
        let due = frame.now().checked_add(whole_wait).ok_or(Denied::Deadline)?;
        if progress.inherited.deadline().has_passed(due) {
            return Err(Some(Denied::Deadline));
        }
        let request = self.replay.look(kept).ok_or(Denied::NotRepeatable)?;
        frame.user_code_runs();
        if !self.waits_for_refusals {
            // A rate limit with a wait queue reads the deadline, and so does a learned timeout.
            frame.set_inherited(progress.inherited);
            if self.next.would_refuse(request, due, frame) {
                return Err(Some(Denied::RefusedFurtherIn));
            }
        }
        if let Some(budget) = &self.budget {
            progress.withdrawal = Some(budget.withdraw_at(frame.now()).ok_or(Denied::Budget)?);
        }
        (progress.due, progress.wait) = (Some(due), Nanos::of(wait));
        progress.waited = progress.waited.saturating_add(Nanos::of(whole_wait));
        Ok(())
    }

    /// Returns the request of the next attempt: a copy, or the kept request if this is the last attempt or no copy can
    /// be made.
    pub(super) fn next_request<Request>(
        &self,
        kept: &mut Option<<P as Replay<Request>>::Kept>,
        attempts: u32,
        frame: &mut Frame,
    ) -> Option<Request>
    where
        P: Replay<Request>,
    {
        if attempts.saturating_add(1) < self.attempts(frame) {
            let copy = kept.as_ref().and_then(|kept| self.replay.copy(kept, frame));
            frame.user_code_runs();
            if copy.is_some() {
                return copy;
            }
        }
        let last = self.replay.last(kept.take()?, frame);
        frame.user_code_runs();
        Some(last)
    }
}
