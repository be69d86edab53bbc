use super::{Admission, DescribeLimit, Limit, RateLimit, cost::Cost};
use crate::shell::Frame;
use std::convert::Infallible;

/// Two limits on one call, all or nothing: [`RateLimit::and`].
#[derive(Clone, Debug)]
pub struct Both<A, B> {
    pub(super) first: A,
    pub(super) second: B,
}

impl<Request, L, C, J, M, D> Limit<Request> for Both<RateLimit<L, C, J>, RateLimit<M, D>>
where
    L: Limit<Request, Place = Infallible>,
    C: Cost<Request>,
    M: Limit<Request, Place = Infallible>,
    D: Cost<Request>,
{
    type Permit = (Option<L::Permit>, Option<M::Permit>);
    type Place = Infallible;

    /// The cost of each limit counts, not that of the whole.
    #[inline]
    fn admit(&self, request: &Request, _tokens: u64, frame: &mut Frame) -> Admission<Self::Permit, Infallible> {
        let first = match self.first.admit(request, frame).at_once() {
            Ok(first) => first,
            Err(refused) => return Admission::Refused(refused),
        };
        match self.second.admit(request, frame).at_once() {
            Ok(second) => Admission::Admitted((first, second)),
            Err(refused) => {
                self.first.give_back(first, frame);
                Admission::Refused(refused)
            }
        }
    }

    fn refund(&self, (first, second): Self::Permit, frame: &mut Frame) {
        self.first.give_back(first, frame);
        self.second.give_back(second, frame);
    }
}

impl<L: DescribeLimit, C, J, M: DescribeLimit, D, K> DescribeLimit for Both<RateLimit<L, C, J>, RateLimit<M, D, K>> {
    fn describe(&self) -> String {
        format!("{}; {}", self.first.describe(), self.second.describe())
    }
}
