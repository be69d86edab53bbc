//! Six nested layers, where the compiler learns the type of the request late, in part, or never.

use std::{convert::Infallible, future::Future, time::Duration};
use steadfast::{
    Error, Rejection,
    circuit_breaker::{Breaker, CircuitBreakerLayer},
    load_shed::{Limiter, LoadShedLayer},
    rate_limit::{RateLimitLayer, TokenBucket},
    retry::{Retry, RetryLayer},
    timeout::TimeoutLayer,
};
use tower::{
    Layer, Service, ServiceBuilder, ServiceExt, service_fn,
    util::{BoxCloneServiceLayer, BoxCloneSyncService},
};

const SECOND: Duration = Duration::from_secs(1);

/// The layers around a service, each with its border.
macro_rules! by_hand {
    ($service:expr $(, $exit:ident)?) => {
        layers!($($exit)?).service($service)
    };
}

macro_rules! layers {
    ($($exit:ident)?) => {
        ServiceBuilder::new()
            .layer(TimeoutLayer::new(SECOND).unwrap()$(.$exit())?)
            .layer(RetryLayer::new(Retry::new(3)).unwrap()$(.$exit())?)
            .layer(CircuitBreakerLayer::new(Breaker::builder().build().unwrap())$(.$exit())?)
            .layer(RateLimitLayer::new(TokenBucket::builder(10, SECOND).build().unwrap())$(.$exit())?)
            .layer(LoadShedLayer::new(Limiter::fixed(1).unwrap())$(.$exit())?)
            .layer(TimeoutLayer::new(SECOND).unwrap()$(.$exit())?)
    };
}

fn sent<F: Future + Send>(_: F) {}

/// The request is known when the box has a type.
fn known_later() -> BoxCloneSyncService<u32, u32, Error<Infallible>> {
    BoxCloneSyncService::new(by_hand!(service_fn(|n| async move { Ok::<_, Error<Infallible>>(n) })))
}

/// With an error type of its own for each layer.
fn known_later_and_typed() {
    let service = BoxCloneSyncService::new(by_hand!(service_fn(|n| async move { Ok::<u32, Infallible>(n) }), typed_error));
    sent(service.oneshot(7_u32));
}

/// The call determines the request.
async fn known_by_the_call() {
    let stack = by_hand!(service_fn(|n| async move { Ok::<_, Error<Infallible>>(n) }));
    let _: Result<u32, _> = stack.oneshot(7_u32).await;
}

/// The type of the request is known, except for a parameter.
async fn known_in_part() {
    let stack = by_hand!(service_fn(|list: Vec<_>| async move { Ok::<_, Error<Infallible>>(list.len()) }));
    sent(stack.oneshot(Vec::<u8>::new()));
}

/// The layers exist before the service.
fn before_the_service() {
    let layers = BoxCloneServiceLayer::new(layers!().into_inner());
    sent(layers.layer(service_fn(|n: u32| async move { Ok::<_, Error<Infallible>>(n) })).oneshot(7));
}

/// Request and service are parameters.
fn generic<Request, S>(request: Request, service: S) -> BoxCloneSyncService<Request, S::Response, S::Error>
where
    Request: Clone + Send + 'static,
    S: Service<Request, Error: From<Rejection>, Future: Send + 'static> + Clone + Send + Sync + 'static,
{
    let layers = BoxCloneServiceLayer::new(layers!().into_inner());
    sent(layers.layer(service.clone()).oneshot(request.clone()));
    sent(by_hand!(service.clone(), typed_error).oneshot(request));
    BoxCloneSyncService::new(by_hand!(service))
}

fn main() {}
