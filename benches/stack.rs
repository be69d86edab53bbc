//! What a call costs through each layer alone and through a whole stack, around a service that is ready at once.

mod support;

use criterion::{Criterion, criterion_group, criterion_main};
use std::{
    convert::Infallible,
    future::{Ready, ready},
    hint::black_box,
    pin::pin,
    task::{Context, Poll, Waker},
    time::Duration,
};
use steadfast::{
    Rejection,
    circuit_breaker::{Breaker, CircuitBreakerLayer},
    load_shed::{Limiter, LoadShedLayer},
    rate_limit::{RateLimitLayer, TokenBucket},
    retry::{Retry, RetryLayer},
    timeout::TimeoutLayer,
};
use support::bench;
use tower::{Layer, Service};

const SECOND: Duration = Duration::from_secs(1);

/// A service that does nothing and is ready at once.
#[derive(Clone)]
struct Bare;

impl Service<u64> for Bare {
    type Response = u64;
    type Error = Infallible;
    type Future = Ready<Result<u64, Infallible>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: u64) -> Self::Future {
        ready(Ok(request))
    }
}

/// Makes one call as a task would: a clone of the service, its readiness, the future, and its one poll.
fn call<S: Service<u64> + Clone>(service: &S) {
    let mut context = Context::from_waker(Waker::noop());
    let mut service = service.clone();
    let _ = black_box(service.poll_ready(&mut context));
    let future = pin!(service.call(black_box(7)));
    assert!(black_box(future.poll(&mut context)).is_ready());
}

fn bucket() -> TokenBucket {
    TokenBucket::builder(1_000_000_000, SECOND).build().unwrap()
}

fn limiter() -> Limiter {
    Limiter::fixed(1024).unwrap()
}

fn breaker() -> Breaker {
    Breaker::builder().failure_rate(0.5, 10 * SECOND).build().unwrap()
}

fn each(criterion: &mut Criterion) {
    bench(criterion, "bare", || call(&Bare));
    let timeout = TimeoutLayer::new(SECOND).unwrap().typed_error().layer(Bare);
    bench(criterion, "timeout", || call(&timeout));
    let retry = RetryLayer::new(Retry::new(3)).unwrap().typed_error().layer(Bare);
    bench(criterion, "retry", || call(&retry));
    let circuit_breaker = CircuitBreakerLayer::new(breaker()).typed_error().layer(Bare);
    bench(criterion, "circuit breaker", || call(&circuit_breaker));
    let load_shed = LoadShedLayer::new(limiter()).typed_error().layer(Bare);
    bench(criterion, "load shed", || call(&load_shed));
    let rate_limit = RateLimitLayer::new(bucket()).typed_error().layer(Bare);
    bench(criterion, "rate limit", || call(&rate_limit));
}

fn stacks(criterion: &mut Criterion) {
    let builder = || {
        steadfast::client()
            .timeout(10 * SECOND)
            .retry(Retry::new(3))
            .circuit_breaker(breaker())
            .rate_limit(bucket())
            .load_shed(limiter())
            .attempt_timeout(SECOND)
    };
    // The service sees the deadline, so the clock is read when a call starts.
    let timeout = steadfast::client().timeout(SECOND).service(Bare).unwrap();
    bench(criterion, "client stack of a timeout", || call(&timeout));
    let client = builder().service(Bare).unwrap();
    bench(criterion, "client stack of five", || call(&client));
    let (layer, _control) = builder().live().unwrap();
    let live = layer.layer(Bare);
    bench(criterion, "live client stack of five", || call(&live));
    let server = steadfast::server()
        .rate_limit(bucket())
        .load_shed(limiter())
        .timeout(SECOND)
        .respond_with(|_: Rejection| 0)
        .service(Bare)
        .unwrap();
    bench(criterion, "server stack of three", || call(&server));
}

criterion_group! {
    name = benches;
    config = Criterion::default().warm_up_time(Duration::from_millis(300)).measurement_time(SECOND).sample_size(20);
    targets = each, stacks
}
criterion_main!(benches);
