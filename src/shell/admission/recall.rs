use super::{Admission, AdmissionStage, State, StateProjection};
use crate::shell::{Ending, Frame, Recall};
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
                let request = self.next.recall(next, frame)?;
                if let Some(permit) = permit.take() {
                    self.admission.settle(permit, Ending::Refused { retry_after: None }, frame);
                }
                // Last: it drops what is left of the call, which may be user code.
                state.set(State::Ended);
                Some(request)
            }
            // Waiting => Ended
            StateProjection::Waiting { place, waiting } => {
                let (request, _) = waiting.take()?;
                self.admission.leave(place, frame);
                state.set(State::Ended);
                Some(request)
            }
            StateProjection::Refused { .. } | StateProjection::Ended => None,
        }
    }
}
