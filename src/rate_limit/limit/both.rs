use super::{
    contract::{DescribeLimit, Limit},
    cost::Cost,
};
use crate::{
    error::RateLimited,
    rate_limit::layer::RateLimit,
    shell::{Decision, Ending, Explanation, Frame, RefusesNow, SettleOnDrop},
};
use std::convert::Infallible;
use tokio::time::Instant;

/// Two combined limits. A call takes its tokens from both, or from neither: [`RateLimit::and`]. A limit in shadow that
/// has too few tokens gives none, and lets the call pass to the other limit.
#[derive(Clone, Debug)]
pub struct Both<A, B> {
    pub(in crate::rate_limit) first: A,
    pub(in crate::rate_limit) second: B,
}

impl<Request, L, C, M, D> Limit<Request> for Both<RateLimit<L, C>, RateLimit<M, D>>
where
    L: Limit<Request, Place = Infallible>,
    C: Cost<Request>,
    M: Limit<Request, Place = Infallible>,
    D: Cost<Request>,
{
    type Permit = (Option<L::Permit>, Option<M::Permit>);
    type Place = Infallible;

    /// Takes from each limit the tokens that this limit's own cost says. Ignores `_tokens`, the cost of the whole.
    #[inline]
    fn admit(
        &self,
        request: &Request,
        _tokens: u64,
        frame: &mut Frame,
    ) -> Decision<Self::Permit, Infallible, RateLimited> {
        let first = match self.first.decide(request, frame).at_once() {
            Ok(first) => first,
            Err(refused) => return Decision::Refused(refused),
        };
        // The second limit runs the user's cost function, which may panic. If it does, the drop of `first` gives back
        // the tokens of the first limit.
        let refused = Ending::Refused { retry_after: None };
        let give_back = |first, _, frame: &mut Frame| self.first.give_back(first, frame);
        let first = SettleOnDrop::new(give_back, Some(first), refused);
        match self.second.decide(request, frame).at_once() {
            Ok(second) => Decision::Admitted((first.keep().flatten(), second)),
            Err(too_few) => {
                first.settle(refused, frame);
                Decision::Refused(too_few)
            }
        }
    }

    fn would_refuse(&self, request: &Request, _tokens: u64, due: Instant, frame: &mut Frame) -> bool {
        self.first.would_refuse(request, due, frame) || self.second.would_refuse(request, due, frame)
    }

    fn refund(&self, (first, second): Self::Permit, frame: &mut Frame) {
        self.first.give_back(first, frame);
        self.second.give_back(second, frame);
    }
}

impl<L: RefusesNow, C, M: RefusesNow, D> RefusesNow for Both<RateLimit<L, C>, RateLimit<M, D>> {
    fn refuses_now(&self, frame: &mut Frame) -> bool {
        self.first.refuses_now(frame) || self.second.refuses_now(frame)
    }
}

impl<L: DescribeLimit, C, M: DescribeLimit, D> DescribeLimit for Both<RateLimit<L, C>, RateLimit<M, D>> {
    fn describe(&self) -> String {
        format!("{}; {}", self.first.describe(), self.second.describe())
    }

    fn instruments(&self, name: &'static str, explanation: &mut Explanation) {
        self.first.instruments(name, explanation);
        self.second.instruments(name, explanation);
    }
}
