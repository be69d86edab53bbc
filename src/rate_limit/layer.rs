use super::{OneToken, RateLimit};
use crate::shell::{GateStage, KeepError, Leaf, StackLayer};

/// Limits the rate of calls, as a tower layer. See the [module](super).
///
/// The service's error type is kept and must be `From<Rejection>`; [`typed_error`](StackLayer::typed_error) and
/// [`respond_with`](StackLayer::respond_with) choose otherwise.
pub type RateLimitLayer<C = OneToken, X = KeepError> = StackLayer<GateStage<RateLimit<C>, Leaf>, X>;

impl<C> RateLimitLayer<C> {
    /// A layer with this limit: a [`TokenBucket`](super::TokenBucket), or a [`RateLimit`] with a cost.
    pub fn new(limit: impl Into<RateLimit<C>>) -> Self {
        StackLayer::from_stages(GateStage::new(limit.into(), Leaf::default()), KeepError)
    }
}
