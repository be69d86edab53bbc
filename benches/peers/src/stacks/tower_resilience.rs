//! tower-resilience's closest to our stack.

use super::{ATTEMPTS, Faulty, LIMIT, Layered, PLENTY, ROOM, SECOND};
use crate::{breaker, budget, in_flight::waiting_bulkhead, rate, services::AtOnce, timeout::time_limiter};
use tower::ServiceBuilder;
use tower_resilience_circuitbreaker::CircuitBreakerError;
use tower_resilience_retry::RetryLayer;
use tower_resilience_timelimiter::TimeLimiterLayer;

/// The layers in the order of ours, in their cheapest form: empty names, because names are copied to the heap; a window
/// of calls; a budget without a clock; and a bulkhead that leaves the refusal to tower.
pub fn five<S: Faulty>(service: S) -> impl Layered {
    ServiceBuilder::new()
        .layer(TimeLimiterLayer::builder().name("").timeout_duration(LIMIT).build())
        .layer(retry())
        .layer(breaker::tower_resilience())
        .layer(rate::tower_resilience(PLENTY, SECOND))
        .load_shed()
        .layer(waiting_bulkhead(ROOM))
        .layer(time_limiter())
        .service(service)
}

fn retry<E>() -> RetryLayer<u64, u64, E> {
    RetryLayer::builder().name("").max_attempts(ATTEMPTS as usize).budget(budget::aimd()).build()
}

pub fn three<S: Faulty>(service: S) -> impl Layered {
    ServiceBuilder::new()
        .layer(TimeLimiterLayer::builder().name("").timeout_duration(LIMIT).build())
        .layer(retry())
        .load_shed()
        .layer(waiting_bulkhead(ROOM))
        .layer(time_limiter())
        .service(service)
}

/// By default its retry does not distinguish a failure from the refusal of an open circuit.
pub fn refusing() -> impl Layered {
    let told = RetryLayer::builder().name("").max_attempts(ATTEMPTS as usize).budget(budget::aimd());
    ServiceBuilder::new()
        .layer(TimeLimiterLayer::builder().name("").timeout_duration(LIMIT).build())
        .layer(told.retry_on(|error| !matches!(error, CircuitBreakerError::OpenCircuit)).build())
        .layer(breaker::open_tower_resilience())
        .layer(rate::tower_resilience(PLENTY, SECOND))
        .load_shed()
        .layer(waiting_bulkhead(ROOM))
        .layer(time_limiter())
        .service(AtOnce)
}
