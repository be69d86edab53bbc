//! The limit on calls in flight as a gate of a stack.

use super::{
    Limiter, LoadShed, Ticket,
    adaptive::End,
    layer::{ExemptOf, TenantOf},
    terms::Ask,
};
use crate::{
    classify::Outcome,
    context::CallContext,
    error::Rejection,
    shell::{Classes, DescribeGate, Ending, Explanation, Frame, Gate, RefusesNow},
};

impl From<Ending> for End {
    #[inline]
    fn from(ending: Ending) -> Self {
        match ending {
            Ending::Answered(Outcome::Overloaded { .. } | Outcome::Unprocessed { .. }) | Ending::Refused { .. } => {
                Self::Spared
            }
            Ending::Answered(_) | Ending::Panicked => Self::Completed,
            Ending::Cancelled { reached_service: false } => Self::Spared,
            Ending::TimedOut | Ending::CutShort | Ending::Cancelled { .. } => Self::GivenUp,
        }
    }
}

impl<Request> Gate<Request> for Limiter {
    const READS_DEADLINE: bool = true;

    /// One place among the calls in flight.
    type Permit = Ticket;

    #[inline]
    fn admit(&self, _request: &Request, frame: &mut Frame) -> Result<Ticket, Rejection> {
        if self.is_plain() {
            return Ok(self.enter_plain(false)?);
        }
        let ask = Ask::of(&frame.inherited().context());
        let entered = self.enter(&ask, || frame.now());
        if self.has_signals() {
            frame.user_code_runs();
        }
        Ok(entered?)
    }

    #[inline]
    fn settle(&self, ticket: Ticket, ending: Ending, frame: &mut Frame) {
        self.leave(ticket, ending.into(), || frame.now());
    }
}

impl RefusesNow for Limiter {
    fn refuses_now(&self, frame: &mut Frame) -> bool {
        self.is_full(&Ask::of(&CallContext::current()), || frame.now())
    }
}

impl DescribeGate for Limiter {
    fn describe(&self, explanation: &mut Explanation) {
        let (limit, shadow) = self.configuration();
        explanation.layer("load shed", self.rule_text());
        explanation.instrument(self.clone());
        if !shadow {
            explanation.limit_in_flight("load_shed.limit", limit);
        }
    }
}

impl<K, C, E, Request> Gate<Request> for LoadShed<K, C, E>
where
    K: TenantOf<Request>,
    C: Classes<Request>,
    E: ExemptOf<Request>,
{
    const READS_DEADLINE: bool = true;

    /// One place among the calls in flight.
    type Permit = Ticket;

    #[inline]
    fn admit(&self, request: &Request, frame: &mut Frame) -> Result<Ticket, Rejection> {
        if E::NONE && self.limiter.is_plain() {
            return Ok(self.limiter.enter_plain(false)?);
        }
        let ask = self.ask(request, frame);
        let entered = self.limiter.enter(&ask, || frame.now());
        if self.limiter.has_signals() {
            frame.user_code_runs();
        }
        Ok(entered?)
    }

    #[inline]
    fn settle(&self, ticket: Ticket, ending: Ending, frame: &mut Frame) {
        self.limiter.leave(ticket, ending.into(), || frame.now());
    }
}

impl<K, C, E> RefusesNow for LoadShed<K, C, E> {
    fn refuses_now(&self, frame: &mut Frame) -> bool {
        self.limiter.refuses_now(frame)
    }
}

impl<K, C, E> DescribeGate for LoadShed<K, C, E> {
    fn describe(&self, explanation: &mut Explanation) {
        self.limiter.describe(explanation);
    }
}
