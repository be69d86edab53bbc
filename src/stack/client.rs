use super::{
    live::{Control, KillSwitch, LiveAttemptStage, LiveStage, Parts, Pieces},
    slot::{Gated, Limit, LiveSlot, Off, Slot, fill_slots},
};
use crate::{
    circuit_breaker::Breaker,
    classify::{AnyError, Outcome},
    error::{ConfigError, Rejection},
    load_shed::Limiter,
    rate_limit::RateLimit,
    retry::Retry,
    shell::{
        BoxedError, Describe, Explanation, GateStage, KeepError, Leaf, Respond, ScopeStage, Stack, StackLayer,
        TypedError,
    },
    timeout::Of,
};
use std::time::Duration;
use tower::Layer;

/// Builds the stack of a client; made by [`steadfast::client`](crate::client). See the [module](super).
///
/// The parameters are the slots from the outside in, the classifier, and the exit. The service runs with the attempt's
/// [`CallContext`](crate::CallContext) as the current one: its number, and the deadline by which it is given up.
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing before `service` or `layer`"]
pub struct ClientBuilder<T = Off, R = Off, B = Off, Q = Off, L = Off, A = Off, C = AnyError, X = TypedError> {
    timeout: T,
    retry: R,
    circuit_breaker: B,
    rate_limit: Q,
    load_shed: L,
    attempt_timeout: A,
    classifier: C,
    exit: X,
}

pub(crate) fn client() -> ClientBuilder {
    ClientBuilder {
        timeout: Off,
        retry: Off,
        circuit_breaker: Off,
        rate_limit: Off,
        load_shed: Off,
        attempt_timeout: Off,
        classifier: AnyError,
        exit: TypedError,
    }
}

fill_slots! {
    ClientBuilder: []
    timeout T fill_timeout,
    retry R fill_retry,
    circuit_breaker B fill_circuit_breaker,
    rate_limit Q fill_rate_limit,
    load_shed L fill_load_shed,
    attempt_timeout A fill_attempt_timeout,
    classifier C fill_classifier,
    exit X fill_exit,
}

impl<R, B, Q, L, A, C, X> ClientBuilder<Off, R, B, Q, L, A, C, X> {
    /// Bounds the whole call, readiness, retries and the waits between them included. See [`timeout`](crate::timeout).
    pub fn timeout(self, limit: Duration) -> ClientBuilder<Limit, R, B, Q, L, A, C, X> {
        self.fill_timeout(Limit { of: Of::Call, limit })
    }
}

impl<T, B, Q, L, A, C, X> ClientBuilder<T, Off, B, Q, L, A, C, X> {
    /// Sends failed calls again. See [`retry`](crate::retry).
    pub fn retry<P>(self, retry: Retry<P>) -> ClientBuilder<T, Retry<P>, B, Q, L, A, C, X> {
        self.fill_retry(retry)
    }
}

impl<T, R, Q, L, A, C, X> ClientBuilder<T, R, Off, Q, L, A, C, X> {
    /// Stops calling a service that fails. See [`circuit_breaker`](crate::circuit_breaker).
    pub fn circuit_breaker(self, breaker: Breaker) -> ClientBuilder<T, R, Gated<Breaker>, Q, L, A, C, X> {
        self.fill_circuit_breaker(Gated(breaker))
    }
}

impl<T, R, B, L, A, C, X> ClientBuilder<T, R, B, Off, L, A, C, X> {
    /// Refuses attempts beyond a rate: a [`TokenBucket`](crate::rate_limit::TokenBucket), or a [`RateLimit`] of any
    /// kind. See [`rate_limit`](crate::rate_limit).
    pub fn rate_limit<K, D, J>(
        self,
        limit: impl Into<RateLimit<K, D, J>>,
    ) -> ClientBuilder<T, R, B, RateLimit<K, D, J>, L, A, C, X> {
        self.fill_rate_limit(limit.into())
    }
}

impl<T, R, B, Q, A, C, X> ClientBuilder<T, R, B, Q, Off, A, C, X> {
    /// Refuses attempts for which there is no room. See [`load_shed`](crate::load_shed).
    pub fn load_shed(self, limiter: Limiter) -> ClientBuilder<T, R, B, Q, Gated<Limiter>, A, C, X> {
        self.fill_load_shed(Gated(limiter))
    }
}

impl<T, R, B, Q, L, C, X> ClientBuilder<T, R, B, Q, L, Off, C, X> {
    /// Bounds each attempt, readiness included.
    pub fn attempt_timeout(self, limit: Duration) -> ClientBuilder<T, R, B, Q, L, Limit, C, X> {
        self.fill_attempt_timeout(Limit { of: Of::Attempt, limit })
    }
}

impl<T, R, B, Q, L, A, X> ClientBuilder<T, R, B, Q, L, A, AnyError, X> {
    /// Decides by this closure what the service's answers mean, for all layers. Default: every `Err` is a failure.
    ///
    /// A closure that is first bound by `let` names the type of its parameter: `|answer: Result<&Response, &Error>|`.
    pub fn classify<F, Response, E>(self, classifier: F) -> ClientBuilder<T, R, B, Q, L, A, F, X>
    where
        F: Fn(Result<&Response, &E>) -> Outcome,
    {
        self.classify_with(classifier)
    }

    /// Decides by this [`Classify`](crate::classify::Classify) what the service's answers mean, for all layers.
    pub fn classify_with<D>(self, classifier: D) -> ClientBuilder<T, R, B, Q, L, A, D, X> {
        self.fill_classifier(classifier)
    }
}

impl<T, R, B, Q, L, A, C> ClientBuilder<T, R, B, Q, L, A, C, TypedError> {
    /// Keeps the service's error type, which must be `From<Rejection>`.
    pub fn keep_error(self) -> ClientBuilder<T, R, B, Q, L, A, C, KeepError> {
        self.fill_exit(KeepError)
    }

    /// Boxes rejections and the service's errors, each as itself: for functions that return a `BoxError`. Into other
    /// error types `?` does not convert a `BoxError`; see [`Error`](crate::Error#passing-errors-on).
    ///
    /// A call that fails allocates its box, unless the service's error is a `BoxError` already.
    pub fn boxed_error(self) -> ClientBuilder<T, R, B, Q, L, A, C, BoxedError> {
        self.fill_exit(BoxedError)
    }

    /// Turns rejections into responses, and keeps the service's error type.
    pub fn respond_with<F, Response>(self, respond: F) -> ClientBuilder<T, R, B, Q, L, A, C, Respond<F>>
    where
        F: Fn(Rejection) -> Response,
    {
        self.fill_exit(Respond(respond))
    }
}

/// The stages of an attempt, from the outside in.
type Attempt<B, Q, L, A, C> = <B as Slot>::Stage<<Q as Slot>::Stage<<L as Slot>::Stage<<A as Slot>::Stage<Scoped<C>>>>>;

/// The service, which sees the context of its attempt.
type Scoped<C> = ScopeStage<Leaf<C>>;

/// The stages of a client.
type Stages<T, R, B, Q, L, A, C> = <T as Slot>::Stage<<R as Slot>::Stage<Attempt<B, Q, L, A, C>>>;

/// The same of one that can be told another configuration.
type LiveStages<T, R, B, Q, L, A, C> =
    LiveStage<<T as Slot>::Stage<<R as Slot>::Stage<LiveAttemptStage<GateStage<KillSwitch, Attempt<B, Q, L, A, C>>>>>>;

impl<T, R, B, Q, L, A, C, X> ClientBuilder<T, R, B, Q, L, A, C, X>
where
    T: Slot,
    R: Slot,
    B: Slot,
    Q: Slot,
    L: Slot,
    A: Slot,
    Stages<T, R, B, Q, L, A, C>: Describe,
{
    /// The stack around a service.
    ///
    /// # Errors
    ///
    /// As [`layer`](Self::layer).
    pub fn service<S>(self, service: S) -> Result<Stack<Stages<T, R, B, Q, L, A, C>, X, S>, ConfigError> {
        Ok(self.layer()?.layer(service))
    }

    /// The stack as a tower layer.
    ///
    /// # Errors
    ///
    /// A field that breaks a rule of its own, or a [`timeout`](ClientBuilder::timeout) that contradicts what it
    /// encloses:
    ///
    /// - It is shorter than the [`attempt_timeout`](ClientBuilder::attempt_timeout): no attempt has all of its time.
    /// - It is not longer than the shortest possible first wait of the retry: no retry can run. That wait is zero with
    ///   full jitter or without a backoff, and half of the base with equal jitter. With `Jitter::PlusMinus(factor)` it
    ///   is the base less that share of it, `base * (1 - factor)`. With decorrelated jitter, and without jitter, it is
    ///   the base.
    ///
    /// A timeout shorter than all attempts and waits together is accepted, since most attempts fail long before their
    /// own timeout. [`explain`](StackLayer::explain) then says how many full attempts fit.
    pub fn layer(self) -> Result<StackLayer<Stages<T, R, B, Q, L, A, C>, X>, ConfigError> {
        let Self { timeout, retry, circuit_breaker, rate_limit, load_shed, attempt_timeout, classifier, exit } = self;
        let attempt = attempt(circuit_breaker, rate_limit, load_shed, attempt_timeout, classifier)?;
        let stages = timeout.build(retry.build(attempt)?)?;
        Explanation::of(&stages).check()?;
        Ok(StackLayer::from_stages(stages, exit))
    }
}

impl<T, R, B, Q, L, A, C, X> ClientBuilder<T, R, B, Q, L, A, C, X>
where
    T: Slot,
    R: Slot,
    B: Slot,
    Q: Slot,
    L: Slot,
    A: Slot,
{
    /// The stack as a tower layer, and the handle that changes its configuration while calls pass. See
    /// [`live`](super::live).
    ///
    /// # Errors
    ///
    /// As [`layer`](Self::layer).
    pub fn live(self) -> Result<(StackLayer<LiveStages<T, R, B, Q, L, A, C>, X>, Control), ConfigError>
    where
        T: LiveSlot,
        R: LiveSlot,
        B: LiveSlot,
        Q: LiveSlot,
        L: LiveSlot,
        A: LiveSlot,
        LiveStages<T, R, B, Q, L, A, C>: Describe + Send + Sync + 'static,
        X: Send + Sync + 'static,
    {
        let mut pieces = Pieces::default();
        let timeout = self.timeout.add_to(&mut pieces)?;
        let retry = self.retry.add_to(&mut pieces)?;
        let circuit_breaker = self.circuit_breaker.add_to(&mut pieces)?;
        let rate_limit = self.rate_limit.add_to(&mut pieces)?;
        let load_shed = self.load_shed.add_to(&mut pieces)?;
        let attempt_timeout = self.attempt_timeout.add_to(&mut pieces)?;
        let parts = Parts::default();
        let attempt = attempt(circuit_breaker, rate_limit, load_shed, attempt_timeout, self.classifier)?;
        let attempt = parts.attempt(GateStage::new(parts.kill_switch(), attempt));
        let stages = parts.call(timeout.build(retry.build(attempt)?)?);
        parts.finish(stages, self.exit, pieces)
    }
}

fn attempt<B: Slot, Q: Slot, L: Slot, A: Slot, C>(
    circuit_breaker: B,
    rate_limit: Q,
    load_shed: L,
    attempt_timeout: A,
    classifier: C,
) -> Result<Attempt<B, Q, L, A, C>, ConfigError> {
    let attempt = load_shed.build(attempt_timeout.build(ScopeStage::new(Leaf::new(classifier)))?)?;
    circuit_breaker.build(rate_limit.build(attempt)?)
}
