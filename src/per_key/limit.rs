//! Rate limits by key, in a stack.

use super::{gate::Admitted, handle::PerKey, mechanism::Mechanism};
use crate::{
    error::RateLimited,
    rate_limit::{DescribeLimit, Limit, RateLimit},
    shell::{Decision, Explanation, Frame},
};
use std::{convert::Infallible, hash::Hash};
use tokio::time::Instant;

impl<Request, T, K, F> Limit<Request> for PerKey<T, K, F>
where
    T: Mechanism + Limit<Request, Place = Infallible>,
    K: Hash,
    F: Fn(&Request) -> K,
{
    type Permit = Admitted<T, K, T::Permit>;
    type Place = Infallible;

    #[inline]
    fn admit(
        &self,
        request: &Request,
        tokens: u64,
        frame: &mut Frame,
    ) -> Decision<Self::Permit, Infallible, RateLimited> {
        let entry = self.entry(request, frame);
        let decision = entry.handle.admit(request, tokens, frame);
        entry.touch(self.time(frame.now()));
        match decision {
            Decision::Admitted(permit) => Decision::Admitted(Admitted { entry, permit }),
            Decision::Waits(never) => match never {},
            Decision::Refused(refused) => Decision::Refused(refused),
        }
    }

    fn would_refuse(&self, request: &Request, tokens: u64, due: Instant, frame: &mut Frame) -> bool {
        self.would_refuse_by(request, due, frame, |handle, frame| handle.would_refuse(request, tokens, due, frame))
    }

    fn refund(&self, Admitted { entry, permit }: Self::Permit, frame: &mut Frame) {
        entry.handle.refund(permit, frame);
    }
}

impl<T: Mechanism, K, F> DescribeLimit for PerKey<T, K, F> {
    fn describe(&self) -> String {
        self.rule()
    }

    fn instruments(&self, _name: &'static str, explanation: &mut Explanation) {
        self.keys.instruments(explanation);
    }
}

impl<T: Mechanism, K, F> From<PerKey<T, K, F>> for RateLimit<PerKey<T, K, F>> {
    /// Makes a limit in which each call costs one token of its key's mechanism.
    fn from(limit: PerKey<T, K, F>) -> Self {
        Self::new(limit)
    }
}
