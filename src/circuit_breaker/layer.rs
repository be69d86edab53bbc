use super::Breaker;
use crate::{
    classify::{AnyError, Outcome},
    shell::{GateStage, KeepError, Leaf, StackLayer},
};

/// A tower layer that stops calls to a service that fails. See the [module](super).
///
/// The layer keeps the service's error type, which must be `From<Rejection>`. To return a refusal in another form, use
/// [`typed_error`](StackLayer::typed_error) or [`respond_with`](StackLayer::respond_with).
pub type CircuitBreakerLayer<C = AnyError, X = KeepError> = StackLayer<GateStage<Breaker, Leaf<C>>, X>;

impl CircuitBreakerLayer {
    /// Returns a layer that counts every `Err` of the service as a failure.
    pub fn new(breaker: Breaker) -> Self {
        StackLayer::from_stages(GateStage::new(breaker, Leaf::default()), KeepError)
    }
}

impl<C: Clone, X: Clone> CircuitBreakerLayer<C, X> {
    /// Classifies the service's answers with this closure.
    pub fn classify<F, Response, E>(self, classifier: F) -> CircuitBreakerLayer<F, X>
    where
        F: Fn(Result<&Response, &E>) -> Outcome,
    {
        self.classify_with(classifier)
    }

    /// Classifies the service's answers with this [`Classify`](crate::classify::Classify).
    pub fn classify_with<D>(self, classifier: D) -> CircuitBreakerLayer<D, X> {
        self.map_stages(|stage| GateStage::new(stage.admission.0, Leaf::new(classifier)))
    }
}
