use super::{
    live::{Control, KillSwitch, LiveAttemptStage, LiveStage, Parts, Pieces},
    slot::{Gated, Limit, LiveSlot, Off, Slot, fill_slots},
};
use crate::{
    error::{ConfigError, Rejection},
    load_level::LoadLevel,
    load_shed::Limiter,
    rate_limit::RateLimit,
    shell::{
        BoxedError, Describe, Explanation, GateStage, KeepError, Leaf, Respond, ScopeStage, Stack, StackLayer,
        TypedError,
    },
    timeout::Of,
};
use std::time::Duration;
use tower::Layer;

/// Builds the stack of a server; made by [`steadfast::server`](crate::server). See the [module](super).
///
/// The parameters are the slots from the outside in, and the exit. The service runs with the call's
/// [`CallContext`](crate::CallContext) as the current one, so that calls which it makes inherit the deadline.
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing before `service` or `layer`"]
pub struct ServerBuilder<Q = Off, L = Off, V = Off, T = Off, X = TypedError> {
    rate_limit: Q,
    load_shed: L,
    load_level: V,
    timeout: T,
    exit: X,
}

pub(crate) fn server() -> ServerBuilder {
    ServerBuilder { rate_limit: Off, load_shed: Off, load_level: Off, timeout: Off, exit: TypedError }
}

fill_slots! {
    ServerBuilder: []
    rate_limit Q fill_rate_limit,
    load_shed L fill_load_shed,
    load_level V fill_load_level,
    timeout T fill_timeout,
    exit X fill_exit,
}

impl<L, V, T, X> ServerBuilder<Off, L, V, T, X> {
    /// Refuses calls beyond a rate: a [`TokenBucket`](crate::rate_limit::TokenBucket), or a [`RateLimit`] of any kind.
    /// See [`rate_limit`](crate::rate_limit).
    pub fn rate_limit<K, D, J>(
        self,
        limit: impl Into<RateLimit<K, D, J>>,
    ) -> ServerBuilder<RateLimit<K, D, J>, L, V, T, X> {
        self.fill_rate_limit(limit.into())
    }
}

impl<Q, V, T, X> ServerBuilder<Q, Off, V, T, X> {
    /// Refuses calls for which there is no room. See [`load_shed`](crate::load_shed).
    pub fn load_shed(self, limiter: Limiter) -> ServerBuilder<Q, Gated<Limiter>, V, T, X> {
        self.fill_load_shed(Gated(limiter))
    }
}

impl<Q, L, T, X> ServerBuilder<Q, L, Off, T, X> {
    /// Lets calls wait their turn in a [`Queue`](crate::load_level::Queue), or a [`LoadLevel`] of any kind. See
    /// [`load_level`](crate::load_level).
    ///
    /// A load shed in front of it counts the calls that wait, too. Its limit must be above the concurrency of the
    /// queue.
    pub fn load_level<W, C>(self, level: impl Into<LoadLevel<W, C>>) -> ServerBuilder<Q, L, LoadLevel<W, C>, T, X> {
        self.fill_load_level(level.into())
    }
}

impl<Q, L, V, X> ServerBuilder<Q, L, V, Off, X> {
    /// Bounds the work on one call, readiness of the service included. See [`timeout`](crate::timeout).
    pub fn timeout(self, limit: Duration) -> ServerBuilder<Q, L, V, Limit, X> {
        self.fill_timeout(Limit { of: Of::Call, limit })
    }
}

impl<Q, L, V, T> ServerBuilder<Q, L, V, T, TypedError> {
    /// Keeps the service's error type, which must be `From<Rejection>`.
    pub fn keep_error(self) -> ServerBuilder<Q, L, V, T, KeepError> {
        self.fill_exit(KeepError)
    }

    /// Boxes rejections and the service's errors, each as itself: for functions that return a `BoxError`. Into other
    /// error types `?` does not convert a `BoxError`; see [`Error`](crate::Error#passing-errors-on).
    ///
    /// A call that fails allocates its box, unless the service's error is a `BoxError` already.
    pub fn boxed_error(self) -> ServerBuilder<Q, L, V, T, BoxedError> {
        self.fill_exit(BoxedError)
    }

    /// Turns rejections into responses, and keeps the service's error type.
    pub fn respond_with<F, Response>(self, respond: F) -> ServerBuilder<Q, L, V, T, Respond<F>>
    where
        F: Fn(Rejection) -> Response,
    {
        self.fill_exit(Respond(respond))
    }
}

/// The stages of a server, from the outside in.
type Stages<Q, L, V, T> = <Q as Slot>::Stage<Inner<L, V, T>>;

/// Those behind the rate limit.
type Inner<L, V, T> = <L as Slot>::Stage<<V as Slot>::Stage<<T as Slot>::Stage<ScopeStage<Leaf>>>>;

/// The same of one that can be told another configuration. A call that has waited at its rate limit passes the gates
/// behind it between two changes.
type LiveStages<Q, L, V, T> = LiveStage<GateStage<KillSwitch, <Q as Slot>::Stage<LiveAttemptStage<Inner<L, V, T>>>>>;

impl<Q, L, V, T, X> ServerBuilder<Q, L, V, T, X>
where
    Q: Slot,
    L: Slot,
    V: Slot,
    T: Slot,
    Stages<Q, L, V, T>: Describe,
{
    /// The stack around a service.
    ///
    /// # Errors
    ///
    /// As [`layer`](Self::layer).
    pub fn service<S>(self, service: S) -> Result<Stack<Stages<Q, L, V, T>, X, S>, ConfigError> {
        Ok(self.layer()?.layer(service))
    }

    /// The stack as a tower layer.
    ///
    /// # Errors
    ///
    /// A field that breaks a rule of its own, or a limit of [`load_shed`](ServerBuilder::load_shed) at or below the
    /// concurrency of the queue behind it: no call could wait. A limit in shadow refuses nothing and may be any.
    pub fn layer(self) -> Result<StackLayer<Stages<Q, L, V, T>, X>, ConfigError> {
        let inner = Self::inner(self.load_shed, self.load_level, self.timeout)?;
        let stages = self.rate_limit.build(inner)?;
        Explanation::of(&stages).check()?;
        Ok(StackLayer::from_stages(stages, self.exit))
    }

    /// The stack as a tower layer, and the handle that changes its configuration while calls pass. See
    /// [`live`](super::live).
    ///
    /// # Errors
    ///
    /// As [`layer`](Self::layer).
    pub fn live(self) -> Result<(StackLayer<LiveStages<Q, L, V, T>, X>, Control), ConfigError>
    where
        Q: LiveSlot,
        L: LiveSlot,
        V: LiveSlot,
        T: LiveSlot,
        LiveStages<Q, L, V, T>: Describe + Send + Sync + 'static,
        X: Send + Sync + 'static,
    {
        let mut pieces = Pieces::default();
        let rate_limit = self.rate_limit.add_to(&mut pieces)?;
        let load_shed = self.load_shed.add_to(&mut pieces)?;
        let load_level = self.load_level.add_to(&mut pieces)?;
        let timeout = self.timeout.add_to(&mut pieces)?;
        let parts = Parts::default();
        let stages = rate_limit.build(parts.attempt(Self::inner(load_shed, load_level, timeout)?))?;
        let stages = parts.call(GateStage::new(parts.kill_switch(), stages));
        parts.finish(stages, self.exit, pieces)
    }

    fn inner(load_shed: L, load_level: V, timeout: T) -> Result<Inner<L, V, T>, ConfigError> {
        let handler = timeout.build(ScopeStage::new(Leaf::default()))?;
        load_shed.build(load_level.build(handler)?)
    }
}
