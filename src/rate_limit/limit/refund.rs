use crate::shell::Frame;

/// Decides which answered calls are refunded.
pub trait RefundIf<Response, Error> {
    /// Returns whether a call with this result gets its tokens back.
    fn need_not_count(&self, result: Result<&Response, &Error>, frame: &mut Frame) -> bool;
}

/// Every call that reached the service counts. The default.
#[derive(Clone, Copy, Debug, Default)]
pub struct AllCount;

/// A function decides which calls are refunded: [`RateLimit::refund_if`](crate::rate_limit::RateLimit::refund_if).
#[derive(Clone, Copy, Debug)]
pub struct RefundBy<F>(pub(in crate::rate_limit) F);

impl<Response, Error> RefundIf<Response, Error> for AllCount {
    #[inline]
    fn need_not_count(&self, _result: Result<&Response, &Error>, _frame: &mut Frame) -> bool {
        false
    }
}

impl<Response, Error, F> RefundIf<Response, Error> for RefundBy<F>
where
    F: Fn(Result<&Response, &Error>) -> bool,
{
    #[inline]
    fn need_not_count(&self, result: Result<&Response, &Error>, frame: &mut Frame) -> bool {
        frame.user_code_runs();
        (self.0)(result)
    }
}
