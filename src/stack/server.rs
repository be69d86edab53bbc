use super::{Describe, Explanation, Gated, Limit, Off, Slot};
use crate::{
    Rejection,
    error::ConfigError,
    load_shed::Limiter,
    rate_limit::RateLimit,
    shell::{KeepError, Leaf, Respond, ScopeStage, Stack, StackLayer, TypedError},
};
use std::time::Duration;
use tower::Layer;

/// Builds the stack of a server; made by [`steadfast::server`](crate::server). See the [module](super).
///
/// The parameters are the slots from the outside in, and the exit. The service runs with the call's
/// [`CallContext`](crate::CallContext) as the current one, so that calls which it makes inherit the deadline.
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing before `service` or `layer`"]
pub struct ServerBuilder<Q = Off, L = Off, T = Off, X = TypedError> {
    rate_limit: Q,
    load_shed: L,
    timeout: T,
    exit: X,
}

pub(crate) fn server() -> ServerBuilder {
    ServerBuilder { rate_limit: Off, load_shed: Off, timeout: Off, exit: TypedError }
}

impl<L, T, X> ServerBuilder<Off, L, T, X> {
    /// Refuses calls beyond a rate: a [`TokenBucket`](crate::rate_limit::TokenBucket), or a [`RateLimit`] of any kind.
    /// See [`rate_limit`](crate::rate_limit).
    pub fn rate_limit<K, D, J>(
        self,
        limit: impl Into<RateLimit<K, D, J>>,
    ) -> ServerBuilder<RateLimit<K, D, J>, L, T, X> {
        let Self { load_shed, timeout, exit, .. } = self;
        ServerBuilder { rate_limit: limit.into(), load_shed, timeout, exit }
    }
}

impl<Q, T, X> ServerBuilder<Q, Off, T, X> {
    /// Refuses calls for which there is no room. See [`load_shed`](crate::load_shed).
    pub fn load_shed(self, limiter: Limiter) -> ServerBuilder<Q, Gated<Limiter>, T, X> {
        let Self { rate_limit, timeout, exit, .. } = self;
        ServerBuilder { rate_limit, load_shed: Gated(limiter), timeout, exit }
    }
}

impl<Q, L, X> ServerBuilder<Q, L, Off, X> {
    /// Bounds the work on one call, readiness of the service included. See [`timeout`](crate::timeout).
    pub fn timeout(self, limit: Duration) -> ServerBuilder<Q, L, Limit, X> {
        let Self { rate_limit, load_shed, exit, .. } = self;
        ServerBuilder { rate_limit, load_shed, timeout: Limit { field: "timeout", name: "timeout", limit }, exit }
    }
}

impl<Q, L, T> ServerBuilder<Q, L, T, TypedError> {
    /// Keeps the service's error type, which must be `From<Rejection>`.
    pub fn keep_error(self) -> ServerBuilder<Q, L, T, KeepError> {
        self.with_exit(KeepError)
    }

    /// Turns rejections into responses, and keeps the service's error type.
    pub fn respond_with<F, Response>(self, respond: F) -> ServerBuilder<Q, L, T, Respond<F>>
    where
        F: Fn(Rejection) -> Response,
    {
        self.with_exit(Respond(respond))
    }

    fn with_exit<X>(self, exit: X) -> ServerBuilder<Q, L, T, X> {
        let Self { rate_limit, load_shed, timeout, .. } = self;
        ServerBuilder { rate_limit, load_shed, timeout, exit }
    }
}

/// The stages of a server, from the outside in.
type Stages<Q, L, T> = <Q as Slot>::Stage<<L as Slot>::Stage<<T as Slot>::Stage<ScopeStage<Leaf>>>>;

impl<Q, L, T, X> ServerBuilder<Q, L, T, X>
where
    Q: Slot,
    L: Slot,
    T: Slot,
    Stages<Q, L, T>: Describe,
{
    /// The stack around a service.
    ///
    /// # Errors
    ///
    /// As [`layer`](Self::layer).
    pub fn service<S>(self, service: S) -> Result<Stack<Stages<Q, L, T>, X, S>, ConfigError> {
        Ok(self.layer()?.layer(service))
    }

    /// The stack as a tower layer.
    ///
    /// # Errors
    ///
    /// A field that breaks a rule of its own.
    pub fn layer(self) -> Result<StackLayer<Stages<Q, L, T>, X>, ConfigError> {
        let handler = self.timeout.build(ScopeStage::new(Leaf::default()))?;
        let stages = self.rate_limit.build(self.load_shed.build(handler)?)?;
        Explanation::of(&stages).check()?;
        Ok(StackLayer::from_stages(stages, self.exit))
    }
}
