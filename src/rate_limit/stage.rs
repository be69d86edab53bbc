use super::TokenBucket;
use crate::{
    error::Rejection,
    shell::{Ending, Frame, Gate},
    stack::{DescribeGate, Explanation},
};

/// A limit on the rate of calls: a bucket, and what each call costs. The [`Gate`] of this module.
#[derive(Clone, Debug)]
pub struct RateLimit<C = OneToken> {
    bucket: TokenBucket,
    cost: C,
}

impl RateLimit {
    /// Each call costs one token.
    pub fn new(bucket: TokenBucket) -> Self {
        Self { bucket, cost: OneToken }
    }
}

impl<C> RateLimit<C> {
    /// Each call costs what `cost` says of its request, in tokens. A call that costs nothing passes; one that costs more
    /// than the burst is refused for ever.
    ///
    /// It runs once per attempt, before the call is admitted.
    pub fn cost<F, Request>(self, cost: F) -> RateLimit<CostBy<F>>
    where
        F: Fn(&Request) -> u64,
    {
        RateLimit { bucket: self.bucket, cost: CostBy(cost) }
    }
}

impl From<TokenBucket> for RateLimit {
    fn from(bucket: TokenBucket) -> Self {
        Self::new(bucket)
    }
}

/// What a call costs, in tokens.
pub trait Cost<Request> {
    /// The tokens that this request costs.
    fn tokens(&self, request: &Request, frame: &mut Frame) -> u64;
}

/// Each call costs one token. The default.
#[derive(Clone, Copy, Debug, Default)]
pub struct OneToken;

/// Each call costs what a function says: [`RateLimit::cost`].
#[derive(Clone, Copy, Debug)]
pub struct CostBy<F>(F);

impl<Request> Cost<Request> for OneToken {
    #[inline]
    fn tokens(&self, _request: &Request, _frame: &mut Frame) -> u64 {
        1
    }
}

impl<Request, F: Fn(&Request) -> u64> Cost<Request> for CostBy<F> {
    #[inline]
    fn tokens(&self, request: &Request, frame: &mut Frame) -> u64 {
        frame.user_code_runs();
        (self.0)(request)
    }
}

impl<C, Request> Gate<Request> for RateLimit<C>
where
    C: Cost<Request>,
{
    /// The tokens taken.
    type Permit = u64;

    #[inline]
    fn admit(&self, request: &Request, frame: &mut Frame) -> Result<u64, Rejection> {
        let tokens = self.cost.tokens(request, frame);
        self.bucket.try_acquire_at(tokens, frame.now())?;
        Ok(tokens)
    }

    #[inline]
    fn settle(&self, tokens: u64, ending: Ending, _frame: &mut Frame) {
        if ending.spared_the_service() {
            self.bucket.refund(tokens);
        }
    }
}

impl<C> DescribeGate for RateLimit<C> {
    fn describe(&self, explanation: &mut Explanation) {
        explanation.rate_limit(&self.bucket);
    }
}
