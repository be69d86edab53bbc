//! A user's own gates, admissions and stages in the slots of a stack.

use super::{
    ClientBuilder, ServerBuilder,
    live::Pieces,
    slot::{Gated, LiveSlot, Off, Slot},
};
use crate::{error::ConfigError, shell::AdmissionStage};

/// Makes a [`Slot`] of a [`Gate`](crate::shell::Gate), for a builder method such as `own_load_shed`.
pub fn gate<G>(gate: G) -> Gated<G> {
    Gated(gate)
}

/// Makes a [`Slot`] of an [`Admission`](crate::shell::Admission), for a builder method such as `own_load_shed`.
pub fn admission<A>(admission: A) -> Admitting<A> {
    Admitting(admission)
}

/// A slot with an admission.
#[derive(Clone, Copy, Debug)]
pub struct Admitting<A>(pub(super) A);

impl<A> Slot for Admitting<A> {
    type Stage<Next> = AdmissionStage<A, Next>;

    fn build<Next>(self, next: Next) -> Result<AdmissionStage<A, Next>, ConfigError> {
        Ok(AdmissionStage::with(self.0, next))
    }
}

/// A slot with a user's own stage. The configuration of a live stack has no part for it.
#[derive(Clone, Copy, Debug)]
pub struct Own<S>(pub(super) S);

impl<S: Slot> Slot for Own<S> {
    type Stage<Next> = S::Stage<Next>;

    fn build<Next>(self, next: Next) -> Result<S::Stage<Next>, ConfigError> {
        self.0.build(next)
    }
}

impl<S: Slot> LiveSlot for Own<S> {
    fn add_to(self, _pieces: &mut Pieces) -> Result<Self, ConfigError> {
        Ok(self)
    }
}

impl<O, R, B, Q, L, A, F, X> ClientBuilder<O, Off, R, B, Q, L, A, F, X> {
    /// Puts your own stage in the slot of the timeout. See [stages of your own](super#stages-of-your-own).
    pub fn own_timeout<S: Slot>(self, slot: S) -> ClientBuilder<O, Own<S>, R, B, Q, L, A, F, X> {
        self.fill_timeout(|Off| Own(slot))
    }
}

impl<O, T, B, Q, L, A, F, X> ClientBuilder<O, T, Off, B, Q, L, A, F, X> {
    /// Puts your own stage in the slot of the retry. See [stages of your own](super#stages-of-your-own).
    pub fn own_retry<S: Slot>(self, slot: S) -> ClientBuilder<O, T, Own<S>, B, Q, L, A, F, X> {
        self.fill_retry(|Off| Own(slot))
    }
}

impl<O, T, R, Q, L, A, F, X> ClientBuilder<O, T, R, Off, Q, L, A, F, X> {
    /// Puts your own stage in the slot of the circuit breaker. See
    /// [stages of your own](super#stages-of-your-own).
    pub fn own_circuit_breaker<S: Slot>(self, slot: S) -> ClientBuilder<O, T, R, Own<S>, Q, L, A, F, X> {
        self.fill_circuit_breaker(|Off| Own(slot))
    }
}

impl<O, T, R, B, L, A, F, X> ClientBuilder<O, T, R, B, Off, L, A, F, X> {
    /// Puts your own stage in the slot of the rate limit. See [stages of your own](super#stages-of-your-own).
    pub fn own_rate_limit<S: Slot>(self, slot: S) -> ClientBuilder<O, T, R, B, Own<S>, L, A, F, X> {
        self.fill_rate_limit(|Off| Own(slot))
    }
}

impl<O, T, R, B, Q, A, F, X> ClientBuilder<O, T, R, B, Q, Off, A, F, X> {
    /// Puts your own stage in the slot of the load shed. See [stages of your own](super#stages-of-your-own).
    pub fn own_load_shed<S: Slot>(self, slot: S) -> ClientBuilder<O, T, R, B, Q, Own<S>, A, F, X> {
        self.fill_load_shed(|Off| Own(slot))
    }
}

impl<O, T, R, B, Q, L, F, X> ClientBuilder<O, T, R, B, Q, L, Off, F, X> {
    /// Puts your own stage in the slot of the attempt timeout. See
    /// [stages of your own](super#stages-of-your-own).
    pub fn own_attempt_timeout<S: Slot>(self, slot: S) -> ClientBuilder<O, T, R, B, Q, L, Own<S>, F, X> {
        self.fill_attempt_timeout(|Off| Own(slot))
    }
}

impl<O, L, V, T, F, X> ServerBuilder<O, Off, L, V, T, F, X> {
    /// Puts your own stage in the slot of the rate limit. See [stages of your own](super#stages-of-your-own).
    pub fn own_rate_limit<S: Slot>(self, slot: S) -> ServerBuilder<O, Own<S>, L, V, T, F, X> {
        self.fill_rate_limit(|Off| Own(slot))
    }
}

impl<O, Q, V, T, F, X> ServerBuilder<O, Q, Off, V, T, F, X> {
    /// Puts your own stage in the slot of the load shed. See [stages of your own](super#stages-of-your-own).
    pub fn own_load_shed<S: Slot>(self, slot: S) -> ServerBuilder<O, Q, Own<S>, V, T, F, X> {
        self.fill_load_shed(|Off| Own(slot))
    }
}

impl<O, Q, L, T, F, X> ServerBuilder<O, Q, L, Off, T, F, X> {
    /// Puts your own stage in the slot of the load leveling. See
    /// [stages of your own](super#stages-of-your-own).
    pub fn own_load_level<S: Slot>(self, slot: S) -> ServerBuilder<O, Q, L, Own<S>, T, F, X> {
        self.fill_load_level(|Off| Own(slot))
    }
}

impl<O, Q, L, V, F, X> ServerBuilder<O, Q, L, V, Off, F, X> {
    /// Puts your own stage in the slot of the timeout. See [stages of your own](super#stages-of-your-own).
    pub fn own_timeout<S: Slot>(self, slot: S) -> ServerBuilder<O, Q, L, V, Own<S>, F, X> {
        self.fill_timeout(|Off| Own(slot))
    }
}
