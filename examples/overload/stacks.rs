//! The protection: a stack for the server (load shed, timeout), and one for the clients (timeout, retry, circuit
//! breaker).

use crate::{
    client::{Ask, Client, Connections},
    counts::Ending,
    scenario::{ATTEMPTS, DEADLINE},
    server::Backend,
};
use http_body_util::Empty;
use hyper::{
    Request, Response,
    body::{Bytes, Incoming},
};
use std::{convert::Infallible, time::Duration};
use steadfast::{
    ConfigError, Error,
    circuit_breaker::Breaker,
    http::{self, HttpBody, Peer},
    load_shed::Limiter,
    retry::{Backoff, RetryBudget},
};
use tower::{Service, ServiceExt, service_fn};

/// The answer of the work, or of a refusal.
type Refusable = Response<HttpBody<Empty<Bytes>>>;

/// The server's stack. It admits only as many calls as the work behind it can answer in time. Its one setting is the
/// deadline of its callers; it knows neither the number of slots nor the service time.
pub fn server(
    backend: Backend,
) -> Result<
    impl Service<Request<Incoming>, Response = Refusable, Error = Infallible, Future: Send + 'static>
    + Clone
    + Send
    + 'static,
    ConfigError,
> {
    steadfast::server()
        // The actual protection. It refuses a call at once if the answer would need more than 70% of the time that the
        // caller has left. The limit on the calls in flight follows from the rate at which calls end.
        .load_shed(Limiter::adaptive().deadline(DEADLINE).build()?)
        // No caller waits longer.
        .timeout(DEADLINE)
        // The status says whether the refusal concerns this caller or all callers. A header names the mechanism, for
        // the table at the end.
        .http(Peer::Internal)
        .service(backend)
}

/// The clients' stack. It bounds every wait, and never retries at an overloaded server.
pub fn client(connections: Connections) -> Result<Client, ConfigError> {
    // Retries are for rare failures. The budget limits them to a tenth of the calls even if all calls fail.
    let budget = RetryBudget::builder().ratio(0.1).build()?;
    let backoff = Backoff::exponential(Duration::from_millis(10), Duration::from_millis(20));
    // Opens when half of the calls that the server admitted failed. It probes soon, because a stall is short.
    let breaker = Breaker::builder().failure_rate(0.5, Duration::from_secs(1)).open_for(Duration::from_millis(250));
    let stack = steadfast::client()
        .timeout(DEADLINE)
        .retry(http::retry(ATTEMPTS).backoff(backoff).budget(budget))
        .circuit_breaker(breaker.build()?)
        // A server that refuses part of the load works well. The breaker must not cut off the rest, and a refusal
        // without a `Retry-After` is not retried. (Classify refusals as `Failure` to see the difference: above the
        // capacity, the breaker then costs about half of the goodput.)
        .http(Peer::Internal)
        .service(connections)?;
    Ok(Client::new(service_fn(move |ask: Ask| {
        let call = stack.clone().oneshot(ask);
        async { Ok(ending(call.await)) }
    })))
}

fn ending(result: Result<Response<Incoming>, Error<hyper::Error>>) -> Ending {
    match result {
        Ok(answer) if answer.status().is_success() => Ending::Answered,
        Ok(answer) => {
            let mechanism = answer.headers().get("steadfast-rejected").and_then(|name| name.to_str().ok());
            mechanism.map_or(Ending::Failed, Ending::stopped_by)
        }
        Err(Error::Rejected(rejection)) => Ending::stopped_by(rejection.mechanism()),
        Err(Error::Service(_)) => Ending::Failed,
    }
}
