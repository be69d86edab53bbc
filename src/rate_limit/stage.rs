//! How a call passes a rate limit.

use super::{
    layer::RateLimit,
    limit::{Cost, DescribeLimit, Limit, RefundIf},
};
use crate::{
    error::Rejection,
    shell::{Admission, AdmissionStage, Decision, Describe, DescribeAdmission, Ending, Explanation, Frame},
};
use std::task::{Context, Poll, ready};
use tokio::time::Instant;

/// The stage of a [`RateLimit`].
pub type RateLimitStage<R, Next> = AdmissionStage<R, Next>;

impl<L, C, J, Request, Response, ServiceError> Admission<Request, Response, ServiceError> for RateLimit<L, C, J>
where
    L: Limit<Request>,
    C: Cost<Request>,
    J: RefundIf<Response, ServiceError>,
{
    const READS_DEADLINE: bool = L::WAITS;

    /// `None` for a call that passes in shadow without tokens.
    type Permit = Option<L::Permit>;
    type Place = L::Place;

    #[inline]
    fn admit(&self, request: &Request, frame: &mut Frame) -> Decision<Option<L::Permit>, L::Place> {
        match self.decide(request, frame) {
            Decision::Admitted(permit) => Decision::Admitted(permit),
            Decision::Refused(refused) => Decision::Refused(refused.into()),
            Decision::Waits(place) => Decision::Waits(place),
        }
    }

    fn would_refuse(&self, request: &Request, due: Instant, frame: &mut Frame) -> bool {
        RateLimit::would_refuse(self, request, due, frame)
    }

    #[inline]
    fn poll(
        &self,
        place: &mut L::Place,
        cx: &mut Context<'_>,
        frame: &mut Frame,
    ) -> Poll<Result<Option<L::Permit>, Rejection>> {
        let verdict = ready!(self.limit.poll(place, cx, frame));
        Poll::Ready(self.admit_waited(verdict).map_err(Rejection::from))
    }

    #[inline]
    fn leave(&self, place: &mut L::Place, frame: &mut Frame) {
        self.limit.leave(place, frame);
    }

    #[inline]
    fn counts(&self, answer: Result<&Response, &ServiceError>, frame: &mut Frame) -> bool {
        !self.refund_if.need_not_count(answer, frame)
    }

    #[inline]
    fn refund(&self, permit: Option<L::Permit>, frame: &mut Frame) {
        self.give_back(permit, frame);
    }

    #[inline]
    fn settle(&self, permit: Option<L::Permit>, ending: Ending, frame: &mut Frame) {
        if ending.spared_the_service() {
            self.give_back(permit, frame);
        }
    }
}

impl<L: DescribeLimit, C, J> DescribeAdmission for RateLimit<L, C, J> {
    fn describe(&self, explanation: &mut Explanation, next: &impl Describe) {
        explanation.layer("rate limit", self.describe());
        self.instruments("rate_limit", explanation);
        explanation.wait(self.longest_wait(), next);
    }
}
