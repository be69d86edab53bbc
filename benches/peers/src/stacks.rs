//! Whole stacks: all mechanisms around one service.
//!
//! Ours is the client's stack: timeout, retry, circuit breaker, rate limit, load shed and attempt timeout.
//! Tower has no circuit breaker, and its rate limit is not `Clone` and so needs a `Buffer` below a retry: its nearest
//! without those is measured beside a stack of ours without them too.

use crate::{
    breaker, budget,
    by_hand::ByHand,
    harness::{Contestant, Role, Row},
    in_flight::waiting_bulkhead,
    rate,
    services::{AtOnce, CloneEach, Fault, PendingOnce, answered, refused},
    timeout::time_limiter,
};
use std::{sync::Arc, time::Duration};
use steadfast::{circuit_breaker::Breaker, load_shed::Limiter, rate_limit::TokenBucket, retry::Retry};
use tokio::time::Sleep;
use tower::{
    BoxError, Service, ServiceBuilder,
    retry::{
        Policy,
        backoff::{Backoff, ExponentialBackoffMaker, MakeBackoff},
        budget::{Budget, TpsBudget},
    },
    util::rng::HasherRng,
};
use tower_resilience_circuitbreaker::CircuitBreakerError;
use tower_resilience_retry::RetryLayer;
use tower_resilience_timelimiter::TimeLimiterLayer;

const SECOND: Duration = Duration::from_secs(1);
const LIMIT: Duration = Duration::from_secs(10);
const ATTEMPTS: u32 = 3;
const ROOM: usize = 1024;
const PLENTY: u64 = 1_000_000_000;

pub fn rows() -> Vec<Row> {
    vec![
        Row::new("stack of five: call ready at once", five(AtOnce, Handle::Kept)),
        Row::new("stack of five: call ready at once, handle cloned for each", five(AtOnce, Handle::Cloned)),
        Row::new("stack of five: call pending once", five(PendingOnce, Handle::Kept)),
        Row::new("stack without breaker and rate limit: call ready at once", three(AtOnce)),
        Row::new("stack without breaker and rate limit: call pending once", three(PendingOnce)),
        refusing(),
    ]
}

/// What a task calls through: a handle of its own, or a clone of it for each call.
#[derive(Clone, Copy)]
enum Handle {
    Kept,
    Cloned,
}

/// A service to be measured behind its layers.
trait Layered: Service<u64, Response = u64, Error: Send, Future: Send> + Clone + Send + 'static {}

impl<S> Layered for S where S: Service<u64, Response = u64, Error: Send, Future: Send> + Clone + Send + 'static {}

/// A service to put layers around.
trait Inner: Service<u64, Response = u64, Error = Fault, Future: Send + 'static> + Copy + Send + Sync + 'static {}

impl<S> Inner for S where
    S: Service<u64, Response = u64, Error = Fault, Future: Send + 'static> + Copy + Send + Sync + 'static
{
}

fn five<S: Inner>(service: S, handle: Handle) -> Vec<Contestant> {
    vec![
        contestant(Role::Ours, "steadfast", handle, move || steadfast(service)),
        contestant(Role::Floor, "by hand", handle, move || ByHand::new(LIMIT, SECOND, service)),
        contestant(Role::Bare, "bare", handle, move || service),
        contestant(Role::Peer, "tower (no breaker, no rate limit)", handle, move || tower(service)),
        contestant(Role::Peer, "tower (no breaker, Buffer)", handle, move || buffered_tower(service)),
        contestant(Role::Peer, "tower-resilience", handle, move || tower_resilience(service)),
    ]
}

fn three<S: Inner>(service: S) -> Vec<Contestant> {
    vec![
        contestant(Role::Ours, "steadfast", Handle::Kept, move || steadfast_three(service)),
        contestant(Role::Bare, "bare", Handle::Kept, move || service),
        contestant(Role::Peer, "tower", Handle::Kept, move || tower(service)),
        contestant(Role::Peer, "tower-resilience", Handle::Kept, move || tower_resilience_three(service)),
    ]
}

fn contestant<S: Layered>(
    role: Role,
    name: &'static str,
    handle: Handle,
    make: impl Fn() -> S + 'static,
) -> Contestant {
    match handle {
        Handle::Kept => Contestant::in_runtime(role, name, make, answered),
        Handle::Cloned => Contestant::in_runtime(role, name, move || CloneEach(make()), answered),
    }
}

fn limiter() -> Limiter {
    Limiter::fixed(ROOM).expect("a valid limit")
}

fn steadfast<S: Inner>(service: S) -> impl Layered {
    let breaker = Breaker::builder().failure_rate(0.5, 10 * SECOND).build().expect("a valid breaker");
    steadfast_with(breaker, service)
}

fn steadfast_with<S: Inner>(breaker: Breaker, service: S) -> impl Layered {
    steadfast::client()
        .timeout(LIMIT)
        .retry(Retry::new(ATTEMPTS))
        .circuit_breaker(breaker)
        .rate_limit(TokenBucket::builder(PLENTY, SECOND).burst(4 * PLENTY).build().expect("a valid bucket"))
        .load_shed(limiter())
        .attempt_timeout(SECOND)
        .service(service)
        .expect("a valid stack")
}

fn steadfast_three<S: Inner>(service: S) -> impl Layered {
    steadfast::client()
        .timeout(LIMIT)
        .retry(Retry::new(ATTEMPTS))
        .load_shed(limiter())
        .attempt_timeout(SECOND)
        .service(service)
        .expect("a valid stack")
}

/// The retry is inside of the limit, where it has the least to clone. Outside of it the permit would not be kept
/// through the pauses.
fn tower<S: Inner>(service: S) -> impl Layered {
    ServiceBuilder::new()
        .timeout(LIMIT)
        .load_shed()
        .concurrency_limit(ROOM)
        .retry(TowerRetry::new())
        .timeout(SECOND)
        .service(service)
}

fn buffered_tower<S: Inner>(service: S) -> impl Layered {
    ServiceBuilder::new()
        .timeout(LIMIT)
        .retry(TowerRetry::new())
        .load_shed()
        .buffer(ROOM)
        .concurrency_limit(ROOM)
        .rate_limit(PLENTY, SECOND)
        .timeout(SECOND)
        .service(service)
}

/// Retries every error while the budget has a retry, with tower's own budget and backoff.
#[derive(Clone)]
struct TowerRetry {
    left: u32,
    budget: Arc<TpsBudget>,
}

impl TowerRetry {
    fn new() -> Self {
        Self { left: ATTEMPTS - 1, budget: Arc::default() }
    }
}

impl Policy<u64, u64, BoxError> for TowerRetry {
    type Future = Sleep;

    fn retry(&mut self, _request: &mut u64, result: &mut Result<u64, BoxError>) -> Option<Sleep> {
        if result.is_ok() {
            self.budget.deposit();
            return None;
        }
        if self.left == 0 || !self.budget.withdraw() {
            return None;
        }
        self.left -= 1;
        let maker = ExponentialBackoffMaker::new(Duration::from_millis(50), SECOND, 0.99, HasherRng::default());
        Some(maker.ok()?.make_backoff().next_backoff())
    }

    fn clone_request(&mut self, request: &u64) -> Option<u64> {
        Some(*request)
    }
}

/// The layers in the order of ours, in their cheapest form: with empty names, which are copied to the heap otherwise, a
/// window of calls, a budget without a clock, and a bulkhead that leaves it to tower to refuse.
fn tower_resilience<S: Inner>(service: S) -> impl Layered {
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

fn tower_resilience_three<S: Inner>(service: S) -> impl Layered {
    ServiceBuilder::new()
        .layer(TimeLimiterLayer::builder().name("").timeout_duration(LIMIT).build())
        .layer(retry())
        .load_shed()
        .layer(waiting_bulkhead(ROOM))
        .layer(time_limiter())
        .service(service)
}

/// A call that the open breaker of a stack refuses.
fn refusing() -> Row {
    Row::new(
        "stack of five: call refused by its breaker",
        vec![
            Contestant::in_runtime(Role::Ours, "steadfast", || steadfast_with(breaker::open(), AtOnce), refused),
            Contestant::in_runtime(Role::Peer, "tower-resilience", refusing_tower_resilience, refused).alone(),
        ],
    )
}

/// Its retry sees no difference between a failure and the refusal of an open circuit, unless told.
fn refusing_tower_resilience() -> impl Layered {
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
