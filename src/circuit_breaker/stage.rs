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
    const HOLDS_ROOM: bool = false;

    type Permit = Ticket;

    #[inline]
    fn admit(&self, _request: &Request, frame: &mut Frame) -> Result<Ticket, Rejection> {
        let era = self.era();
        let admitted = Breaker::admit(self, || frame.now());
        self.listeners_may_have_run(era, frame);
        Ok(admitted?)
    }

    fn would_refuse(&self, _request: &Request, due: Instant, _frame: &mut Frame) -> bool {
        self.would_refuse_at(due)
    }

    #[inline]
    fn under_way(&self, ticket: &mut Ticket, frame: &mut Frame) {
        let reached = frame.reached_service();
        if let Some(instant) = Breaker::under_way(self, ticket, reached, || frame.now()) {
            frame.wake_at(instant);
        }
        if ticket.is_timed() {
            self.listeners_may_have_run(ticket.era(), frame);
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
        let era = ticket.era();
        Breaker::settle(self, ticket, evidence, || frame.now());
        self.listeners_may_have_run(era, frame);
    }
}

impl Breaker {
    /// Listeners are user code, and run when the era ends. If `era` has ended, reports to the frame that user code may
    /// have run.
    #[inline]
    fn listeners_may_have_run(&self, era: u32, frame: &mut Frame) {
        if self.era() != era {
            frame.user_code_runs();
        }
    }
}

impl RefusesNow for Breaker {
    /// Returns whether the next call is refused without a change of state. Returns `false` once the open time or the
    /// probe timeout has passed: the next call may then pass, or change the state.
    fn refuses_now(&self, frame: &mut Frame) -> bool {
        self.is_shut(|| frame.now())
    }
}

impl DescribeGate for Breaker {
    fn describe(&self, explanation: &mut Explanation) {
        explanation.layer("circuit breaker", self.configuration().to_string());
        explanation.instrument(self.clone());
    }
}
