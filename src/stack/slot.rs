use crate::{
    error::{ConfigError, check_duration},
    retry::{Retry, RetryStage},
    shell::GateStage,
    timeout::{Of, TimeoutStage},
};
use std::time::Duration;

/// A place in a stack, filled or not: it makes its stage when the stack is built.
pub trait Slot {
    /// The stage around the next one.
    type Stage<Next>;

    /// Checks the configuration and makes the stage.
    fn build<Next>(self, next: Next) -> Result<Self::Stage<Next>, ConfigError>;
}

/// A slot that is not filled: no stage at all.
#[derive(Clone, Copy, Debug)]
pub struct Off;

impl Slot for Off {
    type Stage<Next> = Next;

    fn build<Next>(self, next: Next) -> Result<Next, ConfigError> {
        Ok(next)
    }
}

/// A slot with a timeout.
#[derive(Clone, Copy, Debug)]
pub struct Limit {
    pub(super) of: Of,
    pub(super) limit: Duration,
}

impl Slot for Limit {
    type Stage<Next> = TimeoutStage<Next>;

    fn build<Next>(self, next: Next) -> Result<TimeoutStage<Next>, ConfigError> {
        check_duration(self.of.field(), self.limit)?;
        Ok(TimeoutStage::new(self.of, self.limit, next))
    }
}

impl<P> Slot for Retry<P> {
    type Stage<Next> = RetryStage<P, Next>;

    fn build<Next>(self, next: Next) -> Result<RetryStage<P, Next>, ConfigError> {
        self.stage(next)
    }
}

/// A slot with a gate: a circuit breaker, or a limit on calls in flight.
#[derive(Clone, Copy, Debug)]
pub struct Gated<G>(pub(super) G);

impl<G> Slot for Gated<G> {
    type Stage<Next> = GateStage<G, Next>;

    fn build<Next>(self, next: Next) -> Result<GateStage<G, Next>, ConfigError> {
        Ok(GateStage::new(self.0, next))
    }
}
