use crate::shell::Frame;

/// The cost of a call, in tokens.
pub trait Cost<Request> {
    /// Returns the cost of this request, in tokens.
    fn tokens(&self, request: &Request, frame: &mut Frame) -> u64;
}

/// Each call costs one token. The default.
#[derive(Clone, Copy, Debug, Default)]
pub struct OneToken;

/// Each of several [combined](crate::rate_limit::RateLimit::and) limits has its own cost of a call.
#[derive(Clone, Copy, Debug, Default)]
pub struct CostsOfParts;

/// A function returns the cost of a call: [`RateLimit::cost`](crate::rate_limit::RateLimit::cost).
#[derive(Clone, Copy, Debug)]
pub struct CostBy<F>(pub(in crate::rate_limit) F);

impl<Request> Cost<Request> for OneToken {
    #[inline]
    fn tokens(&self, _request: &Request, _frame: &mut Frame) -> u64 {
        1
    }
}

impl<Request> Cost<Request> for CostsOfParts {
    /// Returns zero: the combined limits compute their costs later.
    #[inline]
    fn tokens(&self, _request: &Request, _frame: &mut Frame) -> u64 {
        0
    }
}

impl<Request, F: Fn(&Request) -> u64> Cost<Request> for CostBy<F> {
    #[inline]
    fn tokens(&self, request: &Request, frame: &mut Frame) -> u64 {
        frame.user_code_runs();
        (self.0)(request)
    }
}
