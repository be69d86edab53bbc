//! Circuit breakers per key, where all requests have the same key.

use super::{Room, Subject, a_breaker};
use crate::resources::Resources;
use steadfast::{
    Rejection,
    circuit_breaker::Breaker,
    classify::AnyError,
    per_key::PerKey,
    shell::{Ending, Frame, Gate, GateStage, Leaf, StackLayer, TypedError},
};
use tokio::time::Instant;

type Breakers = PerKey<Breaker, (), fn(&())>;

/// A gate for requests of all types. Their key is always `()`.
#[derive(Clone)]
struct OneKey(Breakers);

impl<Request> Gate<Request> for OneKey {
    type Permit = <Breakers as Gate<()>>::Permit;

    fn admit(&self, _: &Request, frame: &mut Frame) -> Result<Self::Permit, Rejection> {
        self.0.admit(&(), frame)
    }

    fn would_refuse(&self, _: &Request, due: Instant, frame: &mut Frame) -> bool {
        self.0.would_refuse(&(), due, frame)
    }

    fn under_way(&self, permit: &mut Self::Permit, frame: &mut Frame) {
        Gate::<()>::under_way(&self.0, permit, frame);
    }

    fn settle(&self, permit: Self::Permit, ending: Ending, frame: &mut Frame) {
        Gate::<()>::settle(&self.0, permit, ending, frame);
    }
}

/// Behaves like [`circuit_breaker`](super::circuit_breaker), because there is only one key.
pub fn circuit_breaker_of_one_key(room: Room) -> Subject {
    // `handle` makes the breaker of the only key now, at the instant at which `circuit_breaker` would make its own.
    let breakers = PerKey::with((|(): &()| ()) as fn(&()), move |(): &()| a_breaker(room));
    let breaker = breakers.handle(());
    let layer = StackLayer::from_stages(GateStage::new(OneKey(breakers), Leaf::new(AnyError)), TypedError);
    Subject::new(layer, Resources { breaker: Some(breaker), ..Resources::default() }, None)
}
