use super::Breaker;
use crate::{
    classify::{AnyError, Outcome},
    shell::{GateStage, KeepError, Leaf, StackLayer},
};

/// Stops calling a service that fails, as a tower layer. See the [module](super).
///
/// The service's error type is kept and must be `From<Rejection>`; [`typed_error`](StackLayer::typed_error) and
/// [`respond_with`](StackLayer::respond_with) choose otherwise.
pub type CircuitBreakerLayer<C = AnyError, X = KeepError> = StackLayer<GateStage<Breaker, Leaf<C>>, X>;

impl CircuitBreakerLayer {
    /// A layer that takes every `Err` of the service for a failure.
    pub fn new(breaker: Breaker) -> Self {
        StackLayer::from_stages(GateStage::new(breaker, Leaf::default()), KeepError)
    }
}

impl<C: Clone, X: Clone> CircuitBreakerLayer<C, X> {
    /// Decides by this closure what the service's answers mean.
    pub fn classify<F, Response, E>(self, classifier: F) -> CircuitBreakerLayer<F, X>
    where
        F: Fn(Result<&Response, &E>) -> Outcome,
    {
        self.classify_with(classifier)
    }

    /// Decides by this [`Classify`](crate::classify::Classify) what the service's answers mean.
    pub fn classify_with<D>(self, classifier: D) -> CircuitBreakerLayer<D, X> {
        self.map_stages(|stage| GateStage::new(stage.admission.0, Leaf::new(classifier)))
    }
}
