use super::{Admission, AdmissionStage, State, StateProjection};
use crate::shell::{Ending, Frame, Recall, Stage};
use std::pin::Pin;
use tower::Service;

impl<A, Next, S, Request> Recall<S, Request> for AdmissionStage<A, Next>
where
    A: Admission<Request, S::Response, S::Error>,
    Next: Recall<S, Request>,
    S: Service<Request>,
{
    fn recall(&self, call: Pin<&mut Self::Call>, frame: &mut Frame) -> Option<Request> {
        let mut state = call.project().state;
        match state.as_mut().project() {
            // Admitted => Ended
            StateProjection::Admitted { next, permit } => {
                let refused = Ending::Refused { retry_after: None };
                let guard = self.guard::<S, Request>(permit.take(), refused);
                let Some(request) = self.next.recall(next, frame) else {
                    *permit = guard.keep();
                    return None;
                };
                guard.settle(refused, frame);
                // The last step, because it drops the rest of the call, and that can run user code.
                state.set(State::Ended);
                Some(request)
            }
            // Waiting => Ended
            StateProjection::Waiting { waiting, .. } => {
                let (request, _) = waiting.take()?;
                self.leave::<S, Request>(state, frame);
                Some(request)
            }
            StateProjection::Refused { .. } | StateProjection::Ended => None,
        }
    }
}

impl<A, Next> AdmissionStage<A, Next> {
    /// Gives up the place of a waiting call among the waiters. The call is then `Ended`, even if [`Admission::leave`]
    /// panics, so that `leave` does not run twice.
    // Waiting => Ended
    pub(super) fn leave<S, Request>(
        &self,
        state: Pin<&mut State<Next::Call, A::Permit, A::Place, Request>>,
        frame: &mut Frame,
    ) where
        A: Admission<Request, S::Response, S::Error>,
        Next: Stage<S, Request>,
        S: Service<Request>,
    {
        let mut ends = StopsWaiting(state);
        if let StateProjection::Waiting { place, .. } = ends.0.as_mut().project() {
            self.admission.leave(place, frame);
        }
        // Dropping the request runs user code.
        drop(ends);
        frame.user_code_runs();
    }
}

/// Ends the wait of a call when dropped, also by a panic.
struct StopsWaiting<'call, Call, Permit, Place, Request>(Pin<&'call mut State<Call, Permit, Place, Request>>);

impl<Call, Permit, Place, Request> Drop for StopsWaiting<'_, Call, Permit, Place, Request> {
    fn drop(&mut self) {
        self.0.set(State::Ended);
    }
}
