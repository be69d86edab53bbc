//! Our stacks.

use super::{ATTEMPTS, Faulty, Inner, LIMIT, Layered, PLENTY, ROOM, SECOND};
use steadfast::{circuit_breaker::Breaker, load_shed::Limiter, rate_limit::TokenBucket, retry::Retry};
use tower::{BoxError, Layer, Service};

/// The builder of all five layers. Its type has no short name.
macro_rules! five_around {
    ($breaker:expr) => {
        steadfast::client()
            .timeout(LIMIT)
            .retry(Retry::new(ATTEMPTS))
            .circuit_breaker($breaker)
            .rate_limit(TokenBucket::builder(PLENTY, SECOND).burst(4 * PLENTY).build().expect("a valid bucket"))
            .load_shed(limiter())
            .attempt_timeout(SECOND)
    };
}

pub fn five<S: Faulty>(service: S) -> impl Layered {
    five_with(breaker(), service)
}

pub fn five_with<S: Faulty>(breaker: Breaker, service: S) -> impl Layered {
    five_around!(breaker).service(service).expect("a valid stack")
}

pub fn five_with_kept_error<S>(service: S) -> impl Layered
where
    S: Inner + Service<u64, Response = u64, Error = BoxError>,
{
    five_around!(breaker()).keep_error().service(service).expect("a valid stack")
}

/// The configuration can change, but does not.
pub fn live<S: Faulty>(service: S) -> impl Layered {
    let (layer, _control) = five_around!(breaker()).live().expect("a valid stack");
    layer.layer(service)
}

pub fn three<S: Faulty>(service: S) -> impl Layered {
    steadfast::client()
        .timeout(LIMIT)
        .retry(Retry::new(ATTEMPTS))
        .load_shed(limiter())
        .attempt_timeout(SECOND)
        .service(service)
        .expect("a valid stack")
}

fn breaker() -> Breaker {
    Breaker::builder().failure_rate(0.5, 10 * SECOND).build().expect("a valid breaker")
}

fn limiter() -> Limiter {
    Limiter::fixed(ROOM).expect("a valid limit")
}
