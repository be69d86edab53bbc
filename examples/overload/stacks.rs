//! The protection: one stack before the server, one before the clients, and all five layers between them.

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

/// The work's answer, or that of a refusal.
type Refusable = Response<HttpBody<Empty<Bytes>>>;

/// The server's stack: whatever comes, the work behind it never has more to do than it can do in time. The one number
/// that it receives is the deadline of its callers. It knows neither the slots nor the service time.
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
        // The protection proper. A call that would not be answered within 70% of the time that its caller has left is
        // refused at once: the limit on the calls in flight follows from the rate at which they end.
        .load_shed(Limiter::adaptive().deadline(DEADLINE).build()?)
        // No caller waits longer.
        .timeout(DEADLINE)
        // The answer says in its status whether it is about this caller or about everybody, and in a header which
        // mechanism it was, for the table at the end.
        .http(Peer::Internal)
        .service(backend)
}

/// The clients' stack: it never waits in vain, and never asks an overloaded server again.
pub fn client(connections: Connections) -> Result<Client, ConfigError> {
    // Retries are for the odd failure. The budget keeps them at a tenth of the calls even if everything fails.
    let budget = RetryBudget::builder().ratio(0.1).build()?;
    let backoff = Backoff::exponential(Duration::from_millis(10), Duration::from_millis(20));
    // Opens when half of what the server took on failed. It looks again soon, since a stall is soon over.
    let breaker = Breaker::builder().failure_rate(0.5, Duration::from_secs(1)).open_for(Duration::from_millis(250));
    let stack = steadfast::client()
        .timeout(DEADLINE)
        .retry(http::retry(ATTEMPTS).backoff(backoff).budget(budget))
        .circuit_breaker(breaker.build()?)
        // A server that refuses part of the load is doing well: no reason for the breaker to cut off the rest, and
        // without a word about when to come back, none to retry. (Call these a `Failure` and see: past the capacity the
        // breaker then costs about half of the goodput.)
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
