use super::{
    Describe, Explanation, Gated, Limit, Off, Slot,
    live::{self, Control, KillSwitch, LiveAttemptStage, LiveStage, Mechanisms},
};
use crate::{
    Outcome, Rejection,
    circuit_breaker::Breaker,
    classify::AnyError,
    error::ConfigError,
    load_shed::Limiter,
    rate_limit::RateLimit,
    retry::Retry,
    shell::{BoxedError, GateStage, KeepError, Leaf, Respond, ScopeStage, Stack, StackLayer, TypedError},
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

impl<R, B, Q, L, A, C, X> ClientBuilder<Off, R, B, Q, L, A, C, X> {
    /// Bounds the whole call, readiness, retries and the waits between them included. See [`timeout`](crate::timeout).
    pub fn timeout(self, limit: Duration) -> ClientBuilder<Limit, R, B, Q, L, A, C, X> {
        let Self { retry, circuit_breaker, rate_limit, load_shed, attempt_timeout, classifier, exit, timeout: _ } =
            self;
        ClientBuilder {
            timeout: Limit { of: Of::Call, limit },
            retry,
            circuit_breaker,
            rate_limit,
            load_shed,
            attempt_timeout,
            classifier,
            exit,
        }
    }
}

impl<T, B, Q, L, A, C, X> ClientBuilder<T, Off, B, Q, L, A, C, X> {
    /// Sends failed calls again. See [`retry`](crate::retry).
    pub fn retry<P>(self, retry: Retry<P>) -> ClientBuilder<T, Retry<P>, B, Q, L, A, C, X> {
        let Self { timeout, circuit_breaker, rate_limit, load_shed, attempt_timeout, classifier, exit, retry: _ } =
            self;
        ClientBuilder { timeout, retry, circuit_breaker, rate_limit, load_shed, attempt_timeout, classifier, exit }
    }
}

impl<T, R, Q, L, A, C, X> ClientBuilder<T, R, Off, Q, L, A, C, X> {
    /// Stops calling a service that fails. See [`circuit_breaker`](crate::circuit_breaker).
    pub fn circuit_breaker(self, breaker: Breaker) -> ClientBuilder<T, R, Gated<Breaker>, Q, L, A, C, X> {
        let Self { timeout, retry, rate_limit, load_shed, attempt_timeout, classifier, exit, circuit_breaker: _ } =
            self;
        ClientBuilder {
            timeout,
            retry,
            circuit_breaker: Gated(breaker),
            rate_limit,
            load_shed,
            attempt_timeout,
            classifier,
            exit,
        }
    }
}

impl<T, R, B, L, A, C, X> ClientBuilder<T, R, B, Off, L, A, C, X> {
    /// Refuses attempts beyond a rate: a [`TokenBucket`](crate::rate_limit::TokenBucket), or a [`RateLimit`] of any
    /// kind. See [`rate_limit`](crate::rate_limit).
    pub fn rate_limit<K, D, J>(
        self,
        limit: impl Into<RateLimit<K, D, J>>,
    ) -> ClientBuilder<T, R, B, RateLimit<K, D, J>, L, A, C, X> {
        let Self { timeout, retry, circuit_breaker, load_shed, attempt_timeout, classifier, exit, rate_limit: _ } =
            self;
        ClientBuilder {
            timeout,
            retry,
            circuit_breaker,
            rate_limit: limit.into(),
            load_shed,
            attempt_timeout,
            classifier,
            exit,
        }
    }
}

impl<T, R, B, Q, A, C, X> ClientBuilder<T, R, B, Q, Off, A, C, X> {
    /// Refuses attempts for which there is no room. See [`load_shed`](crate::load_shed).
    pub fn load_shed(self, limiter: Limiter) -> ClientBuilder<T, R, B, Q, Gated<Limiter>, A, C, X> {
        let Self { timeout, retry, circuit_breaker, rate_limit, attempt_timeout, classifier, exit, load_shed: _ } =
            self;
        ClientBuilder {
            timeout,
            retry,
            circuit_breaker,
            rate_limit,
            load_shed: Gated(limiter),
            attempt_timeout,
            classifier,
            exit,
        }
    }
}

impl<T, R, B, Q, L, C, X> ClientBuilder<T, R, B, Q, L, Off, C, X> {
    /// Bounds each attempt, readiness included.
    pub fn attempt_timeout(self, limit: Duration) -> ClientBuilder<T, R, B, Q, L, Limit, C, X> {
        let Self { timeout, retry, circuit_breaker, rate_limit, load_shed, classifier, exit, attempt_timeout: _ } =
            self;
        ClientBuilder {
            timeout,
            retry,
            circuit_breaker,
            rate_limit,
            load_shed,
            attempt_timeout: Limit { of: Of::Attempt, limit },
            classifier,
            exit,
        }
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
        let Self { timeout, retry, circuit_breaker, rate_limit, load_shed, attempt_timeout, exit, classifier: _ } =
            self;
        ClientBuilder { timeout, retry, circuit_breaker, rate_limit, load_shed, attempt_timeout, classifier, exit }
    }
}

impl<T, R, B, Q, L, A, C> ClientBuilder<T, R, B, Q, L, A, C, TypedError> {
    /// Keeps the service's error type, which must be `From<Rejection>`.
    pub fn keep_error(self) -> ClientBuilder<T, R, B, Q, L, A, C, KeepError> {
        self.with_exit(KeepError)
    }

    /// Boxes rejections and the service's errors, each as itself: for functions that return a `BoxError`. Into other error
    /// types `?` does not convert a `BoxError`; see [`Error`](crate::Error#passing-errors-on).
    ///
    /// A call that fails allocates its box, unless the service's error is a `BoxError` already.
    pub fn boxed_error(self) -> ClientBuilder<T, R, B, Q, L, A, C, BoxedError> {
        self.with_exit(BoxedError)
    }

    /// Turns rejections into responses, and keeps the service's error type.
    pub fn respond_with<F, Response>(self, respond: F) -> ClientBuilder<T, R, B, Q, L, A, C, Respond<F>>
    where
        F: Fn(Rejection) -> Response,
    {
        self.with_exit(Respond(respond))
    }

    fn with_exit<X>(self, exit: X) -> ClientBuilder<T, R, B, Q, L, A, C, X> {
        let Self { timeout, retry, circuit_breaker, rate_limit, load_shed, attempt_timeout, classifier, exit: _ } =
            self;
        ClientBuilder { timeout, retry, circuit_breaker, rate_limit, load_shed, attempt_timeout, classifier, exit }
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
    /// A field that breaks a rule of its own, or a [`timeout`](ClientBuilder::timeout) that contradicts what it encloses:
    ///
    /// - It is shorter than the [`attempt_timeout`](ClientBuilder::attempt_timeout): no attempt has all of its time.
    /// - It is not longer than the shortest possible first wait of the retry: no retry can run. That wait is zero with full
    ///   jitter or without a backoff, and half of the base with equal jitter. With `Jitter::PlusMinus(factor)` it is the base
    ///   less that share of it, `base * (1 - factor)`. With decorrelated jitter, and without jitter, it is the base.
    ///
    /// A timeout shorter than all attempts and waits together is accepted, since most attempts fail long before their own
    /// timeout. [`explain`](StackLayer::explain) then says how many full attempts fit.
    pub fn layer(self) -> Result<StackLayer<Stages<T, R, B, Q, L, A, C>, X>, ConfigError> {
        let (timeout, retry, attempt, exit) = self.into_parts()?;
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
    /// What is outside of the attempts, the stages of an attempt, and the exit.
    fn into_parts(self) -> Result<(T, R, Attempt<B, Q, L, A, C>, X), ConfigError> {
        let attempt = self.attempt_timeout.build(ScopeStage::new(Leaf::new(self.classifier)))?;
        let attempt = self.circuit_breaker.build(self.rate_limit.build(self.load_shed.build(attempt)?)?)?;
        Ok((self.timeout, self.retry, attempt, self.exit))
    }

    /// The stack as a tower layer, and the handle by which it is told another configuration while calls pass. See
    /// [`live`](super::live).
    ///
    /// # Errors
    ///
    /// As [`layer`](Self::layer).
    pub fn live(self) -> Result<(StackLayer<LiveStages<T, R, B, Q, L, A, C>, X>, Control), ConfigError>
    where
        LiveStages<T, R, B, Q, L, A, C>: Describe + Mechanisms + Send + Sync + 'static,
        X: Send + Sync + 'static,
    {
        let (timeout, retry, attempt, exit) = self.into_parts()?;
        let parts = live::Parts::default();
        let attempt = parts.attempt(GateStage::new(parts.kill_switch(), attempt));
        let stages = parts.call(timeout.build(retry.build(attempt)?)?);
        let (layer, control) = parts.finish(stages, exit);
        control.check(control.built())?;
        Ok((layer, control))
    }
}
