//! Sliding windows as limits of a stack.

use super::sliding_window::SlidingWindow;
use crate::{
    error::RateLimited,
    rate_limit::{
        instrument::Named,
        limit::{DescribeLimit, Limit},
    },
    shell::{Decision, Explanation, Frame, RefusesNow},
};
use std::convert::Infallible;
use tokio::time::Instant;

/// Answers for a call that costs one token.
impl RefusesNow for SlidingWindow {
    fn refuses_now(&self, frame: &mut Frame) -> bool {
        self.available_at(frame.now()) == 0
    }
}

impl<Request> Limit<Request> for SlidingWindow {
    /// The tokens taken, and when, so that a refund goes to the cell or the counter that counts them.
    type Permit = (u64, Instant);
    type Place = Infallible;

    fn admit(
        &self,
        _request: &Request,
        tokens: u64,
        frame: &mut Frame,
    ) -> Decision<(u64, Instant), Infallible, RateLimited> {
        let now = frame.now();
        self.try_acquire_at(tokens, now).map(|()| (tokens, now)).into()
    }

    fn would_refuse(&self, _request: &Request, tokens: u64, due: Instant, _frame: &mut Frame) -> bool {
        self.available_at(due) < tokens
    }

    fn refund(&self, (tokens, taken): (u64, Instant), _frame: &mut Frame) {
        self.refund_taken_at(tokens, taken);
    }
}

impl DescribeLimit for SlidingWindow {
    fn describe(&self) -> String {
        format!("{} in any {:?}", self.limit(), self.window())
    }

    fn instruments(&self, name: &'static str, explanation: &mut Explanation) {
        explanation.instrument(Named { name, limit: self.clone() });
    }
}
