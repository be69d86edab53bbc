use super::{
    Breaker,
    ticket::{Evidence, Ticket},
};
use crate::{
    error::Rejection,
    shell::{DescribeGate, Ending, Explanation, Frame, Gate, RefusesNow},
};
use tokio::time::Instant;

impl<Request> Gate<Request> for Breaker {
    type Permit = Ticket;

    #[inline]
    fn admit(&self, _request: &Request, frame: &mut Frame) -> Result<Ticket, Rejection> {
        Ok(self.with_listeners(frame, |frame| Breaker::admit(self, || frame.now()))?)
    }

    fn would_refuse(&self, _request: &Request, due: Instant, _frame: &mut Frame) -> bool {
        self.would_refuse_at(due)
    }

    #[inline]
    fn under_way(&self, ticket: &mut Ticket, frame: &mut Frame) {
        let reached = frame.reached_service();
        let slow_at = self.with_listeners(frame, |frame| Breaker::under_way(self, ticket, reached, || frame.now()));
        if let Some(instant) = slow_at {
            frame.wake_at(instant);
        }
    }

    #[inline]
    fn settle(&self, mut ticket: Ticket, ending: Ending, frame: &mut Frame) {
        let evidence = match ending {
            Ending::Answered(outcome) => Evidence::of(outcome),
            Ending::TimedOut | Ending::Panicked => Evidence::Failure,
            Ending::CutShort => Evidence::Unanswered,
            Ending::Cancelled { reached_service: true } => Evidence::Cancelled,
            Ending::Cancelled { reached_service: false } | Ending::Refused { .. } => {
                ticket.forget_times();
                Evidence::Nothing
            }
        };
        self.with_listeners(frame, |frame| Breaker::settle(self, ticket, evidence, || frame.now()));
    }
}

impl Breaker {
    /// Does what may change the state. The listeners that then run are user code.
    #[inline]
    fn with_listeners<T>(&self, frame: &mut Frame, work: impl FnOnce(&mut Frame) -> T) -> T {
        let era = self.era();
        let result = work(frame);
        if self.era() != era {
            frame.user_code_runs();
        }
        result
    }
}

impl RefusesNow for Breaker {
    /// Not once the time of an open circuit, or that of probes that hang, is up: then the next call changes the state.
    fn refuses_now(&self, frame: &mut Frame) -> bool {
        self.is_shut(|| frame.now())
    }
}

impl DescribeGate for Breaker {
    fn describe(&self, explanation: &mut Explanation) {
        explanation.layer("circuit breaker", self.configuration().to_string());
    }
}
