use super::{
    Breaker,
    permit::{Evidence, Ticket},
};
use crate::{
    classify::Outcome,
    error::Rejection,
    shell::{Ending, Frame, Gate, WouldRefuse},
    stack::{DescribeGate, Explanation},
};

impl<Request> Gate<Request> for Breaker {
    type Permit = Ticket;

    #[inline]
    fn admit(&self, _request: &Request, frame: &mut Frame) -> Result<Ticket, Rejection> {
        Ok(Breaker::admit(self, || frame.now())?)
    }

    #[inline]
    fn settle(&self, ticket: Ticket, ending: Ending, frame: &mut Frame) {
        let evidence = match ending {
            Ending::Answered(Outcome::Success | Outcome::Permanent) => Evidence::Success,
            Ending::Answered(Outcome::Failure) | Ending::TimedOut | Ending::Panicked => Evidence::Failure,
            Ending::Answered(Outcome::Overloaded { .. }) => Evidence::Overloaded,
            Ending::Answered(Outcome::Ignored) | Ending::Refused { .. } => Evidence::Nothing,
            Ending::Cancelled { reached_service: false } => Evidence::Nothing,
            Ending::Cancelled { reached_service: true } => ticket.evidence_of_cancelled(|| frame.now()),
        };
        Breaker::settle(self, &ticket, evidence, || frame.now());
    }
}

impl WouldRefuse for Breaker {
    /// Not once the time of an open circuit, or that of probes that hang, is up: then the next call changes the state.
    fn would_refuse(&self, frame: &mut Frame) -> bool {
        Breaker::would_refuse(self, || frame.now())
    }
}

impl DescribeGate for Breaker {
    fn describe(&self, explanation: &mut Explanation) {
        explanation.circuit_breaker(&self.configuration());
    }
}
