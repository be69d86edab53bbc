use super::{
    adapt::{Adapt, Adapter},
    live::{Control, LiveAttemptStage, LiveStage, Parts, Pieces, SwitchStage},
    slot::{Gated, Limit, LiveSlot, Off, Slot, Watch, Watched, fill_slots},
};
use crate::{
    classify::{AnyError, Outcome},
    error::{ConfigError, Rejection},
    load_level::LoadLevel,
    load_shed::Limiter,
    per_key::OneOrPerKey,
    rate_limit::RateLimit,
    shell::{BoxedError, Describe, KeepError, Leaf, Observer, Respond, ScopeStage, Stack, StackLayer, TypedError},
    timeout::{Of, Patience},
};
use tower::Layer;

/// Builds the stack of a server; made by [`steadfast::server`](crate::server). See the [module](super).
///
/// The type parameters are the observer, the slots (outermost first), the leaf, and the border. The service runs with
/// the call's [`CallContext`](crate::CallContext) as the current one, so that the calls that it makes inherit the
/// deadline.
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing before `service`, `layer` or `live`"]
pub struct ServerBuilder<O = Off, Q = Off, L = Off, V = Off, T = Off, F = Leaf, X = TypedError> {
    observer: O,
    rate_limit: Q,
    load_shed: L,
    load_level: V,
    timeout: T,
    leaf: F,
    border: X,
}

pub(crate) fn server() -> ServerBuilder {
    ServerBuilder {
        observer: Off,
        rate_limit: Off,
        load_shed: Off,
        load_level: Off,
        timeout: Off,
        leaf: Leaf::default(),
        border: TypedError,
    }
}

fill_slots! {
    ServerBuilder: []
    observer O fill_observer,
    rate_limit Q fill_rate_limit,
    load_shed L fill_load_shed,
    load_level V fill_load_level,
    timeout T fill_timeout,
    leaf F fill_leaf,
    border X fill_border,
}

impl<Q, L, V, T, F, X> ServerBuilder<Off, Q, L, V, T, F, X> {
    /// Reports each call to this [`Observer`]. `stack` is the name of this stack, for labels of metrics and fields of
    /// spans.
    pub fn observe<O: Observer + Clone>(
        self,
        stack: &'static str,
        observer: O,
    ) -> ServerBuilder<Watched<O>, Q, L, V, T, F, X> {
        self.fill_observer(|Off| Watched { stack, observer })
    }
}

impl<O, L, V, T, F, X> ServerBuilder<O, Off, L, V, T, F, X> {
    /// Refuses calls above a rate, or lets them [wait](RateLimit::wait). `limit` is a
    /// [`TokenBucket`](crate::rate_limit::TokenBucket), or a [`RateLimit`] of any kind. See
    /// [`rate_limit`](crate::rate_limit).
    pub fn rate_limit<K, D, J>(
        self,
        limit: impl Into<RateLimit<K, D, J>>,
    ) -> ServerBuilder<O, RateLimit<K, D, J>, L, V, T, F, X> {
        self.fill_rate_limit(|Off| limit.into())
    }
}

impl<O, Q, V, T, F, X> ServerBuilder<O, Q, Off, V, T, F, X> {
    /// Refuses calls for which there is no room: a [`Limiter`], or a [`PerKey`](crate::per_key::PerKey) of limiters,
    /// one for each tenant. Also takes a [`LoadShed`](crate::load_shed::LoadShed): a limiter with functions that read
    /// the tenant, the criticality and the exemption from the request. See [`load_shed`](crate::load_shed).
    pub fn load_shed<G: OneOrPerKey<Limiter>>(self, limiter: G) -> ServerBuilder<O, Q, Gated<G>, V, T, F, X> {
        self.fill_load_shed(|Off| Gated(limiter))
    }
}

impl<O, Q, L, T, F, X> ServerBuilder<O, Q, L, Off, T, F, X> {
    /// Lets calls wait for their turn in a [`Queue`](crate::load_level::Queue), or a [`LoadLevel`] of any kind. See
    /// [`load_level`](crate::load_level).
    ///
    /// The load shed counts waiting calls, too. Its limit must exceed the concurrency of the queue, unless the load
    /// shed is in shadow mode.
    pub fn load_level<W, C>(
        self,
        level: impl Into<LoadLevel<W, C>>,
    ) -> ServerBuilder<O, Q, L, LoadLevel<W, C>, T, F, X> {
        self.fill_load_level(|Off| level.into())
    }
}

impl<O, Q, L, V, F, X> ServerBuilder<O, Q, L, V, Off, F, X> {
    /// Bounds the work on one call, including the readiness of the service. The time that a call waits at the rate
    /// limit or in the queue does not count. See [`timeout`](crate::timeout).
    ///
    /// The limit is a [`Duration`](std::time::Duration), a learned [`Quantile`](crate::timeout::Quantile), or chosen
    /// [`PerRequest`](crate::timeout::PerRequest).
    pub fn timeout<P: Patience>(self, limit: P) -> ServerBuilder<O, Q, L, V, Limit<P>, F, X> {
        self.fill_timeout(|Off| Limit { of: Of::Call, limit })
    }
}

impl<O, Q, L, V, T, W, X> ServerBuilder<O, Q, L, V, T, Leaf<AnyError, W>, X> {
    /// Sets the closure that decides what the handler's answers mean to all layers, such as the observer, an adaptive
    /// limit and a learned timeout. Default: every `Err` is a failure.
    ///
    /// A closure that is bound by `let` first must name the type of its parameter: `|answer: Result<&Response,
    /// &Error>|`.
    pub fn classify<C, Response, E>(self, classifier: C) -> ServerBuilder<O, Q, L, V, T, Leaf<C, W>, X>
    where
        C: Fn(Result<&Response, &E>) -> Outcome,
    {
        self.classify_with(classifier)
    }

    /// Sets the [`Classify`](crate::classify::Classify) that decides what the handler's answers mean to all layers.
    pub fn classify_with<C>(self, classifier: C) -> ServerBuilder<O, Q, L, V, T, Leaf<C, W>, X> {
        self.fill_leaf(|leaf| leaf.classify_with(classifier))
    }
}

impl<O, Q, L, V, T, F> ServerBuilder<O, Q, L, V, T, F, TypedError> {
    /// Keeps the service's error type, which must be `From<Rejection>`.
    pub fn keep_error(self) -> ServerBuilder<O, Q, L, V, T, F, KeepError> {
        self.fill_border(|TypedError| KeepError)
    }

    /// Boxes rejections and the service's errors, for functions that return a `BoxError`. `?` does not convert a
    /// `BoxError` into other error types; see [`Error`](crate::Error#passing-errors-on).
    ///
    /// A rejection allocates its box. So does an error of the service, unless it is a `BoxError` already.
    pub fn boxed_error(self) -> ServerBuilder<O, Q, L, V, T, F, BoxedError> {
        self.fill_border(|TypedError| BoxedError)
    }

    /// Turns rejections into responses, and keeps the service's error type.
    pub fn respond_with<Y, Response>(self, respond: Y) -> ServerBuilder<O, Q, L, V, T, F, Respond<Y>>
    where
        Y: Fn(Rejection) -> Response,
    {
        self.fill_border(|TypedError| Respond(respond))
    }

    /// Sets the [`Border`](crate::shell::Border) that converts requests, answers and rejections.
    pub fn border<Y>(self, border: Y) -> ServerBuilder<O, Q, L, V, T, F, Y> {
        self.fill_border(|TypedError| border)
    }
}

/// A server after an `Adapter` has replaced the content of its slots.
pub type AdaptedServer<O, Q, L, V, T, F, X, W> = ServerBuilder<
    O,
    <Q as Adapt<W>>::Adapted,
    <L as Adapt<W>>::Adapted,
    <V as Adapt<W>>::Adapted,
    <T as Adapt<W>>::Adapted,
    F,
    X,
>;

impl<O, Q, L, V, T, F, X> ServerBuilder<O, Q, L, V, T, F, X> {
    /// Replaces the content of each slot, for `exempt` and `whole_body`.
    pub(crate) fn adapt<W>(self, by: &W) -> AdaptedServer<O, Q, L, V, T, F, X, W>
    where
        W: Adapter,
        Q: Adapt<W>,
        L: Adapt<W>,
        V: Adapt<W>,
        T: Adapt<W>,
    {
        let Self { observer, rate_limit, load_shed, load_level, timeout, leaf, border } = self;
        ServerBuilder {
            observer,
            rate_limit: rate_limit.adapt(by),
            load_shed: load_shed.adapt(by),
            load_level: load_level.adapt(by),
            timeout: timeout.adapt(by),
            leaf,
            border,
        }
    }
}

/// The stages of a server, outermost first.
type Stages<O, Q, L, V, T, F> = <O as Watch>::Stage<<Q as Slot>::Stage<Inner<L, V, T, F>>>;

/// The stages inside the rate limit.
type Inner<L, V, T, F> = <L as Slot>::Stage<<V as Slot>::Stage<<T as Slot>::Stage<ScopeStage<F>>>>;

/// The stages of a live stack. A call that waited at the rate limit starts another pass, through the load shed and the
/// load level. It is admitted there under the configuration that is in force after the wait.
type LiveStages<O, Q, L, V, T, F> =
    <O as Watch>::Stage<LiveStage<SwitchStage<<Q as Slot>::Stage<LiveAttemptStage<Inner<L, V, T, F>>>>>>;

impl<O, Q, L, V, T, F, X> ServerBuilder<O, Q, L, V, T, F, X>
where
    O: Watch,
    Q: Slot,
    L: Slot,
    V: Slot,
    T: Slot,
    Stages<O, Q, L, V, T, F>: Describe,
{
    /// Builds the stack around a service.
    ///
    /// # Errors
    ///
    /// Those of [`layer`](Self::layer).
    pub fn service<S>(self, service: S) -> Result<Stack<Stages<O, Q, L, V, T, F>, X, S>, ConfigError> {
        Ok(self.layer()?.layer(service))
    }

    /// Builds the stack as a tower layer.
    ///
    /// # Errors
    ///
    /// A field that breaks its rule, or a limit of [`load_shed`](ServerBuilder::load_shed) that does not exceed the
    /// concurrency of the queue. With such a limit, no call could wait. A limit in shadow mode refuses nothing and may
    /// have any value.
    pub fn layer(self) -> Result<StackLayer<Stages<O, Q, L, V, T, F>, X>, ConfigError> {
        let inner = Self::inner(self.load_shed, self.load_level, self.timeout, self.leaf)?;
        let mut observer = self.observer;
        observer.watches();
        let stages = observer.call(self.rate_limit.build(inner)?);
        observer.give_instruments(&stages).check()?;
        Ok(StackLayer::from_stages(stages, self.border))
    }

    /// Builds the stack as a tower layer, and the handle that changes its configuration while calls pass. See
    /// [`live`](super::live).
    ///
    /// # Errors
    ///
    /// Those of [`layer`](Self::layer).
    pub fn live(self) -> Result<(StackLayer<LiveStages<O, Q, L, V, T, F>, X>, Control), ConfigError>
    where
        Q: LiveSlot,
        L: LiveSlot,
        V: LiveSlot,
        T: LiveSlot,
        LiveStages<O, Q, L, V, T, F>: Describe + Send + Sync + 'static,
        X: Send + Sync + 'static,
    {
        let mut pieces = Pieces::default();
        let rate_limit = self.rate_limit.add_to(&mut pieces)?;
        let load_shed = self.load_shed.add_to(&mut pieces)?;
        let load_level = self.load_level.add_to(&mut pieces)?;
        let timeout = self.timeout.add_to(&mut pieces)?;
        let parts = Parts::default();
        let stages = rate_limit.build(parts.attempt(Self::inner(load_shed, load_level, timeout, self.leaf)?))?;
        let mut observer = self.observer;
        observer.watches();
        let stages = observer.call(parts.call(parts.switch(stages)));
        observer.give_instruments(&stages).check()?;
        parts.finish(stages, self.border, pieces)
    }

    /// Builds the stages inside the rate limit.
    fn inner(load_shed: L, load_level: V, timeout: T, leaf: F) -> Result<Inner<L, V, T, F>, ConfigError> {
        let handler = timeout.build(ScopeStage::new(leaf))?;
        load_shed.build(load_level.build(handler)?)
    }
}
