use super::Limiter;
use crate::shell::{GateStage, KeepError, Leaf, StackLayer};

/// Refuses calls for which there is no room, as a tower layer. See the [module](super).
///
/// The service's error type is kept and must be `From<Rejection>`; [`typed_error`](StackLayer::typed_error) and
/// [`respond_with`](StackLayer::respond_with) choose otherwise.
pub type LoadShedLayer<X = KeepError> = StackLayer<GateStage<Limiter, Leaf>, X>;

impl LoadShedLayer {
    /// A layer that admits as many calls at once as the limiter allows.
    pub fn new(limiter: Limiter) -> Self {
        StackLayer::from_stages(GateStage::new(limiter, Leaf::default()), KeepError)
    }
}
