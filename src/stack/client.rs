use super::{
    adapt::{Adapt, Adapter},
    live::{Control, LiveAttemptStage, LiveStage, Parts, Pieces, SwitchStage},
    slot::{Gated, Limit, LiveSlot, Off, Slot, Watch, Watched, fill_slots},
};
use crate::{
    circuit_breaker::Breaker,
    classify::{AnyError, Outcome},
    error::{ConfigError, Rejection},
    load_shed::Limiter,
    per_key::OneOrPerKey,
    rate_limit::RateLimit,
    retry::Retry,
    shell::{BoxedError, Describe, KeepError, Leaf, Observer, Respond, ScopeStage, Stack, StackLayer, TypedError},
    timeout::{Of, Patience},
};
use tower::Layer;

/// Builds the stack of a client; made by [`steadfast::client`](crate::client). See the [module](super).
///
/// The type parameters are the observer, the slots (outermost first), the leaf, and the border. While the service runs,
/// [`CallContext::current`](crate::CallContext::current) has the number and the deadline of the attempt.
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing before `service`, `layer` or `live`"]
pub struct ClientBuilder<O = Off, T = Off, R = Off, B = Off, Q = Off, L = Off, A = Off, F = Leaf, X = TypedError> {
    observer: O,
    timeout: T,
    retry: R,
    circuit_breaker: B,
    rate_limit: Q,
    load_shed: L,
    attempt_timeout: A,
    leaf: F,
    border: X,
}

pub(crate) fn client() -> ClientBuilder {
    ClientBuilder {
        observer: Off,
        timeout: Off,
        retry: Off,
        circuit_breaker: Off,
        rate_limit: Off,
        load_shed: Off,
        attempt_timeout: Off,
        leaf: Leaf::default(),
        border: TypedError,
    }
}

fill_slots! {
    ClientBuilder: []
    observer O fill_observer,
    timeout T fill_timeout,
    retry R fill_retry,
    circuit_breaker B fill_circuit_breaker,
    rate_limit Q fill_rate_limit,
    load_shed L fill_load_shed,
    attempt_timeout A fill_attempt_timeout,
    leaf F fill_leaf,
    border X fill_border,
}

impl<T, R, B, Q, L, A, F, X> ClientBuilder<Off, T, R, B, Q, L, A, F, X> {
    /// Reports each call and each attempt to this [`Observer`]. `stack` is the name of this stack, for labels of
    /// metrics and fields of spans.
    ///
    /// Building the stack clones the observer; calls do not.
    pub fn observe<O: Observer + Clone>(
        self,
        stack: &'static str,
        observer: O,
    ) -> ClientBuilder<Watched<O>, T, R, B, Q, L, A, F, X> {
        self.fill_observer(|Off| Watched { stack, observer })
    }
}

impl<O, R, B, Q, L, A, F, X> ClientBuilder<O, Off, R, B, Q, L, A, F, X> {
    /// Bounds the whole call, including readiness, retries and the waits between them. See [`timeout`](crate::timeout).
    ///
    /// The limit is a [`Duration`](std::time::Duration), a learned [`Quantile`](crate::timeout::Quantile), or chosen
    /// [`PerRequest`](crate::timeout::PerRequest).
    pub fn timeout<P: Patience>(self, limit: P) -> ClientBuilder<O, Limit<P>, R, B, Q, L, A, F, X> {
        self.fill_timeout(|Off| Limit { of: Of::Call, limit })
    }
}

impl<O, T, B, Q, L, A, F, X> ClientBuilder<O, T, Off, B, Q, L, A, F, X> {
    /// Retries failed calls. See [`retry`](crate::retry).
    pub fn retry<P>(self, retry: Retry<P>) -> ClientBuilder<O, T, Retry<P>, B, Q, L, A, F, X> {
        self.fill_retry(|Off| retry)
    }
}

impl<O, T, R, Q, L, A, F, X> ClientBuilder<O, T, R, Off, Q, L, A, F, X> {
    /// Stops calling a service that fails: a [`Breaker`], or a [`PerKey`](crate::per_key::PerKey) of breakers, one for
    /// each host. See [`circuit_breaker`](crate::circuit_breaker).
    pub fn circuit_breaker<G: OneOrPerKey<Breaker>>(
        self,
        breaker: G,
    ) -> ClientBuilder<O, T, R, Gated<G>, Q, L, A, F, X> {
        self.fill_circuit_breaker(|Off| Gated(breaker))
    }
}

impl<O, T, R, B, L, A, F, X> ClientBuilder<O, T, R, B, Off, L, A, F, X> {
    /// Refuses attempts above a rate, or lets them [wait](RateLimit::wait). `limit` is a
    /// [`TokenBucket`](crate::rate_limit::TokenBucket), or a [`RateLimit`] of any kind. See
    /// [`rate_limit`](crate::rate_limit).
    pub fn rate_limit<K, D, J>(
        self,
        limit: impl Into<RateLimit<K, D, J>>,
    ) -> ClientBuilder<O, T, R, B, RateLimit<K, D, J>, L, A, F, X> {
        self.fill_rate_limit(|Off| limit.into())
    }
}

impl<O, T, R, B, Q, A, F, X> ClientBuilder<O, T, R, B, Q, Off, A, F, X> {
    /// Refuses attempts for which there is no room: a [`Limiter`], or a [`PerKey`](crate::per_key::PerKey) of limiters.
    /// Also takes a [`LoadShed`](crate::load_shed::LoadShed): a limiter with functions that read the tenant, the
    /// criticality and the exemption from the request. See [`load_shed`](crate::load_shed).
    pub fn load_shed<G: OneOrPerKey<Limiter>>(self, limiter: G) -> ClientBuilder<O, T, R, B, Q, Gated<G>, A, F, X> {
        self.fill_load_shed(|Off| Gated(limiter))
    }
}

impl<O, T, R, B, Q, L, F, X> ClientBuilder<O, T, R, B, Q, L, Off, F, X> {
    /// Bounds each attempt, including the readiness of the service.
    ///
    /// The limit is a [`Duration`](std::time::Duration), a learned [`Quantile`](crate::timeout::Quantile), or chosen
    /// [`PerRequest`](crate::timeout::PerRequest).
    pub fn attempt_timeout<P: Patience>(self, limit: P) -> ClientBuilder<O, T, R, B, Q, L, Limit<P>, F, X> {
        self.fill_attempt_timeout(|Off| Limit { of: Of::Attempt, limit })
    }
}

impl<O, T, R, B, Q, L, A, W, X> ClientBuilder<O, T, R, B, Q, L, A, Leaf<AnyError, W>, X> {
    /// Sets the closure that decides what the service's answers mean to all layers. Default: every `Err` is a failure.
    ///
    /// A closure that is bound by `let` first must name the type of its parameter: `|answer: Result<&Response,
    /// &Error>|`.
    pub fn classify<C, Response, E>(self, classifier: C) -> ClientBuilder<O, T, R, B, Q, L, A, Leaf<C, W>, X>
    where
        C: Fn(Result<&Response, &E>) -> Outcome,
    {
        self.classify_with(classifier)
    }

    /// Sets the [`Classify`](crate::classify::Classify) that decides what the service's answers mean to all layers.
    pub fn classify_with<C>(self, classifier: C) -> ClientBuilder<O, T, R, B, Q, L, A, Leaf<C, W>, X> {
        self.fill_leaf(|leaf| leaf.classify_with(classifier))
    }
}

impl<O, T, R, B, Q, L, A, C, X> ClientBuilder<O, T, R, B, Q, L, A, Leaf<C>, X> {
    /// Sets the [`Stamp`](crate::shell::Stamp) that writes to the request of each attempt, just before the service is
    /// called.
    pub fn stamp<W>(self, stamp: W) -> ClientBuilder<O, T, R, B, Q, L, A, Leaf<C, W>, X> {
        self.fill_leaf(|leaf| leaf.stamp(stamp))
    }
}

impl<O, T, R, B, Q, L, A, F> ClientBuilder<O, T, R, B, Q, L, A, F, TypedError> {
    /// Keeps the service's error type, which must be `From<Rejection>`.
    pub fn keep_error(self) -> ClientBuilder<O, T, R, B, Q, L, A, F, KeepError> {
        self.fill_border(|TypedError| KeepError)
    }

    /// Boxes rejections and the service's errors, for functions that return a `BoxError`. `?` does not convert a
    /// `BoxError` into other error types; see [`Error`](crate::Error#passing-errors-on).
    ///
    /// A rejection allocates its box. So does an error of the service, unless it is a `BoxError` already.
    pub fn boxed_error(self) -> ClientBuilder<O, T, R, B, Q, L, A, F, BoxedError> {
        self.fill_border(|TypedError| BoxedError)
    }

    /// Turns rejections into responses, and keeps the service's error type.
    pub fn respond_with<Y, Response>(self, respond: Y) -> ClientBuilder<O, T, R, B, Q, L, A, F, Respond<Y>>
    where
        Y: Fn(Rejection) -> Response,
    {
        self.fill_border(|TypedError| Respond(respond))
    }

    /// Sets the [`Border`](crate::shell::Border) that converts requests, answers and rejections.
    pub fn border<Y>(self, border: Y) -> ClientBuilder<O, T, R, B, Q, L, A, F, Y> {
        self.fill_border(|TypedError| border)
    }
}

/// A client after an `Adapter` has replaced the content of its slots.
pub type AdaptedClient<O, T, R, B, Q, L, A, F, X, W> = ClientBuilder<
    O,
    <T as Adapt<W>>::Adapted,
    <R as Adapt<W>>::Adapted,
    <B as Adapt<W>>::Adapted,
    <Q as Adapt<W>>::Adapted,
    <L as Adapt<W>>::Adapted,
    <A as Adapt<W>>::Adapted,
    F,
    X,
>;

impl<O, T, R, B, Q, L, A, F, X> ClientBuilder<O, T, R, B, Q, L, A, F, X> {
    /// Replaces the content of each slot, for `exempt` and `whole_body`.
    pub(crate) fn adapt<W>(self, by: &W) -> AdaptedClient<O, T, R, B, Q, L, A, F, X, W>
    where
        W: Adapter,
        T: Adapt<W>,
        R: Adapt<W>,
        B: Adapt<W>,
        Q: Adapt<W>,
        L: Adapt<W>,
        A: Adapt<W>,
    {
        let Self { observer, timeout, retry, circuit_breaker, rate_limit, load_shed, attempt_timeout, leaf, border } =
            self;
        ClientBuilder {
            observer,
            timeout: timeout.adapt(by),
            retry: retry.adapt(by),
            circuit_breaker: circuit_breaker.adapt(by),
            rate_limit: rate_limit.adapt(by),
            load_shed: load_shed.adapt(by),
            attempt_timeout: attempt_timeout.adapt(by),
            leaf,
            border,
        }
    }
}

/// The stages of an attempt, outermost first.
type Attempt<O, B, Q, L, A, F> = Gates<B, Q, L, A, <O as Watch>::Stage<ScopeStage<F>>>;

/// The stages that refuse or end an attempt, around the next stage.
type Gates<B, Q, L, A, Next> = <B as Slot>::Stage<<Q as Slot>::Stage<<L as Slot>::Stage<<A as Slot>::Stage<Next>>>>;

/// The stages of a client.
type Stages<O, T, R, B, Q, L, A, F> =
    <O as Watch>::Stage<<T as Slot>::Stage<<R as Slot>::Stage<Attempt<O, B, Q, L, A, F>>>>;

/// The stages of a live stack.
type LiveStages<O, T, R, B, Q, L, A, F> = <O as Watch>::Stage<
    LiveStage<<T as Slot>::Stage<<R as Slot>::Stage<LiveAttemptStage<SwitchStage<Attempt<O, B, Q, L, A, F>>>>>>,
>;

impl<O, T, R, B, Q, L, A, F, X> ClientBuilder<O, T, R, B, Q, L, A, F, X>
where
    O: Watch,
    T: Slot,
    R: Slot,
    B: Slot,
    Q: Slot,
    L: Slot,
    A: Slot,
    Stages<O, T, R, B, Q, L, A, F>: Describe,
{
    /// Builds the stack around a service.
    ///
    /// # Errors
    ///
    /// Those of [`layer`](Self::layer).
    pub fn service<S>(self, service: S) -> Result<Stack<Stages<O, T, R, B, Q, L, A, F>, X, S>, ConfigError> {
        Ok(self.layer()?.layer(service))
    }

    /// Builds the stack as a tower layer.
    ///
    /// # Errors
    ///
    /// A field that breaks its rule, or a [`timeout`](ClientBuilder::timeout) that contradicts the inner layers:
    ///
    /// - It is shorter than the [`attempt_timeout`](ClientBuilder::attempt_timeout): no attempt has its full time.
    /// - It is not longer than the shortest possible first backoff: no retry can run. With full jitter or without a
    ///   backoff, that shortest backoff is zero. With equal jitter, it is half of the base. With
    ///   `Jitter::PlusMinus(factor)`, it is `base * (1 - factor)`. With decorrelated jitter or without jitter, it is
    ///   the base.
    ///
    /// A learned `timeout` counts with its ceiling. A learned attempt timeout and a
    /// [`PerRequest`](crate::timeout::PerRequest) are not checked.
    ///
    /// A timeout shorter than all attempts and backoffs together is accepted, because most attempts fail long before
    /// their own timeout. [`explain`](StackLayer::explain) then says how many full attempts fit.
    pub fn layer(self) -> Result<StackLayer<Stages<O, T, R, B, Q, L, A, F>, X>, ConfigError> {
        let Self { mut observer, circuit_breaker, rate_limit, load_shed, attempt_timeout, leaf, border, .. } = self;
        observer.watches();
        let service = observer.attempt(ScopeStage::new(leaf));
        let attempt = attempt(circuit_breaker, rate_limit, load_shed, attempt_timeout, service)?;
        let stages = observer.call(self.timeout.build(self.retry.build(attempt)?)?);
        observer.give_instruments(&stages).check()?;
        Ok(StackLayer::from_stages(stages, border))
    }
}

impl<O, T, R, B, Q, L, A, F, X> ClientBuilder<O, T, R, B, Q, L, A, F, X>
where
    O: Watch,
    T: LiveSlot,
    R: LiveSlot,
    B: LiveSlot,
    Q: LiveSlot,
    L: LiveSlot,
    A: LiveSlot,
{
    /// Builds the stack as a tower layer, and the handle that changes its configuration while calls pass. See
    /// [`live`](super::live).
    ///
    /// # Errors
    ///
    /// Those of [`layer`](Self::layer).
    pub fn live(self) -> Result<(StackLayer<LiveStages<O, T, R, B, Q, L, A, F>, X>, Control), ConfigError>
    where
        LiveStages<O, T, R, B, Q, L, A, F>: Describe + Send + Sync + 'static,
        X: Send + Sync + 'static,
    {
        let (mut pieces, mut observer) = (Pieces::default(), self.observer);
        let timeout = self.timeout.add_to(&mut pieces)?;
        let retry = self.retry.add_to(&mut pieces)?;
        let circuit_breaker = self.circuit_breaker.add_to(&mut pieces)?;
        let rate_limit = self.rate_limit.add_to(&mut pieces)?;
        let load_shed = self.load_shed.add_to(&mut pieces)?;
        let attempt_timeout = self.attempt_timeout.add_to(&mut pieces)?;
        let parts = Parts::default();
        observer.watches();
        let service = observer.attempt(ScopeStage::new(self.leaf));
        let attempt = attempt(circuit_breaker, rate_limit, load_shed, attempt_timeout, service)?;
        let attempt = parts.attempt(parts.switch(attempt));
        let stages = observer.call(parts.call(timeout.build(retry.build(attempt)?)?));
        observer.give_instruments(&stages).check()?;
        parts.finish(stages, self.border, pieces)
    }
}

/// Builds the stages that refuse or end an attempt, around `next`.
fn attempt<B: Slot, Q: Slot, L: Slot, A: Slot, Next>(
    circuit_breaker: B,
    rate_limit: Q,
    load_shed: L,
    attempt_timeout: A,
    next: Next,
) -> Result<Gates<B, Q, L, A, Next>, ConfigError> {
    circuit_breaker.build(rate_limit.build(load_shed.build(attempt_timeout.build(next)?)?)?)
}
