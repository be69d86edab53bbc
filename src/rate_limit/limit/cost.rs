use crate::shell::Frame;

/// What a call costs, in tokens.
pub trait Cost<Request> {
    /// The tokens that this request costs.
    fn tokens(&self, request: &Request, frame: &mut Frame) -> u64;
}

/// Each call costs one token. The default.
#[derive(Clone, Copy, Debug, Default)]
pub struct OneToken;

/// Each call costs what each of [several](crate::rate_limit::RateLimit::and) limits says.
#[derive(Clone, Copy, Debug, Default)]
pub struct CostsOfParts;

/// Each call costs what a function says: [`RateLimit::cost`](crate::rate_limit::RateLimit::cost).
#[derive(Clone, Copy, Debug)]
pub struct CostBy<F>(pub(in crate::rate_limit) F);

impl<Request> Cost<Request> for OneToken {
    #[inline]
    fn tokens(&self, _request: &Request, _frame: &mut Frame) -> u64 {
        1
    }
}

impl<Request> Cost<Request> for CostsOfParts {
    /// The parts are asked later, each by itself.
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
