//! The protection: one stack before the server, one before the clients, and all five layers between them.

use crate::{
    client::{Ask, Client, Connections},
    counts::Ending,
    scenario::{ATTEMPTS, DEADLINE, SLOTS, capacity_rps},
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
    rate_limit::TokenBucket,
    retry::{Backoff, RetryBudget},
};
use tower::{Service, ServiceExt, service_fn};

/// How many requests may wait for a slot. Enough that no slot runs dry between two requests, and few enough that an
/// accepted request never takes twice the time it takes on an idle server.
const WAITING: u32 = SLOTS * 4 / 5;

/// The patience with one attempt: what the longest accepted request takes, 180 ms, and room for what a busy machine
/// adds.
///
/// It is also a way back, should the server ever be so late that all attempts time out: it then takes in 54 requests
/// in 320 ms, which is less than it can work off, and so its queue becomes short again.
const ATTEMPT_TIMEOUT: Duration = Duration::from_millis(320);

/// The work's answer, or that of a refusal.
type Refusable = Response<HttpBody<Empty<Bytes>>>;

/// The server's stack: whatever comes, the work behind it never has more to do than it can do in time.
pub fn server(
    backend: Backend,
) -> Result<
    impl Service<Request<Incoming>, Response = Refusable, Error = Infallible, Future: Send + 'static>
    + Clone
    + Send
    + 'static,
    ConfigError,
> {
    let room = SLOTS + WAITING;
    // What the callers may have by contract, on average and at once. It is a little above the capacity: a limit below
    // would refuse work that the server has time for, and what fits in right now is for the load shed to say. Calls
    // refused there give their tokens back, so as long as every request costs the same, this one has nothing to add. It
    // is for the day on which requests are cheap, and callers take many times their share without filling the queue.
    let contract = TokenBucket::builder(whole(1.2 * capacity_rps()), Duration::from_secs(1)).burst(room.into());
    steadfast::server()
        .rate_limit(contract.build()?)
        // The protection proper: a queue with an end.
        .load_shed(Limiter::fixed(room as usize)?)
        // No caller waits longer for one attempt, so neither does its request.
        .timeout(ATTEMPT_TIMEOUT)
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
        .attempt_timeout(ATTEMPT_TIMEOUT)
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

fn whole(rps: f64) -> u64 {
    rps.round() as u64
}
