use super::{
    Breaker,
    permit::{Evidence, Ticket},
};
use crate::{
    classify::Outcome,
    error::Rejection,
    shell::{Ending, Frame, Gate},
    stack::{DescribeGate, Explanation},
};
use tokio::time::Instant;

impl<Request> Gate<Request> for Breaker {
    type Permit = Ticket;

    #[inline]
    fn admit(&self, _request: &Request, frame: &mut Frame) -> Result<Ticket, Rejection> {
        Ok(Breaker::admit(self, || frame.now())?)
    }

    fn would_refuse(&self, _request: &Request, due: Instant, _frame: &mut Frame) -> bool {
        self.would_refuse_at(due)
    }

    #[inline]
    fn settle(&self, ticket: Ticket, ending: Ending, frame: &mut Frame) {
        let evidence = match ending {
            Ending::Answered(Outcome::Success | Outcome::Permanent) => Evidence::Success,
            Ending::Answered(Outcome::Failure) | Ending::TimedOut | Ending::Panicked => Evidence::Failure,
            Ending::Answered(Outcome::Overloaded { .. }) => Evidence::Overloaded,
            Ending::Answered(Outcome::Ignored) | Ending::Refused { .. } => Evidence::Nothing,
            Ending::CutShort => Evidence::Unanswered,
            Ending::Cancelled { reached_service: false } => Evidence::Nothing,
            Ending::Cancelled { reached_service: true } => ticket.evidence_of_cancelled(|| frame.now()),
        };
        Breaker::settle(self, &ticket, evidence, || frame.now());
    }
}

impl DescribeGate for Breaker {
    fn describe(&self, explanation: &mut Explanation) {
        explanation.circuit_breaker(&self.configuration());
    }
}
