//! A tonic client over a stack: retries with a budget, a circuit breaker, and an end to every wait.
//!
//! ```sh
//! cargo run --features http --example tonic_client                    # against a flaky server of its own
//! cargo run --features http --example tonic_client -- 127.0.0.1:50051 # against another, such as `tonic_server`
//! ```
//!
//! Stop the other server while the calls go on, and see that they fail fast.
//!
//! The stack stands between the generated client and the channel, so it serves all methods, and the clients of all
//! services on the same channel. The generated client finds a `Status` in each rejection. Each attempt sends its
//! deadline as `grpc-timeout`. Within a server, that is no later than the deadline of the call that it works on.

use std::{env, error::Error, future, io, iter, net::Ipv4Addr, net::SocketAddr};
use std::{sync::atomic::AtomicU32, sync::atomic::Ordering, time::Duration};
use steadfast::{circuit_breaker::Breaker, http, http::Peer, http::Verdict, retry::RetryBudget};
use tonic::{
    ConnectError, Status, TimeoutExpired,
    body::Body,
    codegen::http::Request,
    service::interceptor::InterceptedService,
    transport::{self, Endpoint, Server, server::TcpIncoming},
};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
use tower::{BoxError, Layer, ServiceExt};

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let address = if let Some(address) = env::args().nth(1) { address } else { flaky_server().await?.to_string() };
    let endpoint = Endpoint::from_shared(format!("http://{address}"))?;
    // A host that is gone does not even refuse. Below the attempt timeout, so that the error says what is wrong.
    let channel = endpoint.connect_timeout(Duration::from_millis(200)).connect_lazy();
    // Shows the retry a status in the trailers if no message comes before it. It holds the head of an answer back until
    // its first message, so leave it out for streams that begin with silence.
    let channel = http::peek().layer(channel);
    // The channel has a timer of its own for each `grpc-timeout`, which fires together with that of the stack and would
    // make `CANCELLED` of some timeouts. Its error is left aside, and the stack ends the attempt.
    let channel = channel.then(async |answer| match answer {
        Err(error) if caused_by::<TimeoutExpired>(&error) => future::pending().await,
        answer => answer,
    });

    // Opens when half of the calls fail or, for clients with few calls, ten in a row.
    let breaker = Breaker::builder().failure_rate(0.5, Duration::from_secs(10)).consecutive_failures(10).build()?;
    // One retry for every five calls: however many fail, retries add at most a fifth to the load.
    let budget = RetryBudget::builder().ratio(0.2).build()?;
    // A call that fails three times is no passing fault. The message is replayed, up to 64 KiB of it.
    let retry = http::retry(3).budget(budget).bodies(http::DEFAULT_REPLAY_CAP, Body::new);
    let stack = steadfast::client()
        // As long as a user waits. It covers 3 attempts, and leaves room for a pushback of a second.
        .timeout(Duration::from_secs(2))
        // A check may be processed twice. All else is repeated only where the server has provably not processed it.
        .retry(retry.idempotent(|request: &Request<_>| request.uri().path() == "/grpc.health.v1.Health/Check"))
        .circuit_breaker(breaker.clone())
        // Well above the slowest usual answer of 60 ms: who has not answered by now is better asked again.
        .attempt_timeout(Duration::from_millis(300))
        // Without a connection the server has not seen the call.
        .http_by(Peer::Internal, Verdict::new(Peer::Internal).unsent(caused_by::<ConnectError>))
        .respond_http(Peer::Internal)
        // The timeouts cover the message of the answer, too, and the breaker hears of a status in the trailers. For
        // streams that last: `.whole_body_without_deadline()`.
        .whole_body()
        .service(channel)?;
    println!("{}", stack.explain());

    // Twenty calls in some two seconds: time enough to stop the server in between.
    let client = HealthClient::new(stack);
    for number in 1..=20 {
        match client.clone().check(HealthCheckRequest::default()).await {
            Ok(response) => println!("call {number}: {:?}", response.get_ref().status()),
            Err(status) => println!("call {number}: {:?}: {}", status.code(), status.message()),
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    println!("The circuit is {:?}.", breaker.state());
    Ok(())
}

/// Whether this kind of error is among the causes.
fn caused_by<E: Error + 'static>(error: &transport::Error) -> bool {
    iter::successors(error.source(), |&cause| cause.source()).any(|cause| cause.is::<E>())
}

/// Only for this example to run alone: every fifth answer is `UNAVAILABLE`.
async fn flaky_server() -> io::Result<SocketAddr> {
    let incoming = TcpIncoming::bind((Ipv4Addr::LOCALHOST, 0).into())?;
    let address = incoming.local_addr()?;
    let (_, health) = tonic_health::server::health_reporter();
    static REQUESTS: AtomicU32 = AtomicU32::new(1);
    let flaky = InterceptedService::new(health, |request| {
        let fails = REQUESTS.fetch_add(1, Ordering::Relaxed) % 5 == 0;
        println!("  the server {}", if fails { "fails" } else { "answers" });
        if fails { Err(Status::unavailable("try again")) } else { Ok(request) }
    });
    tokio::spawn(Server::builder().add_service(flaky).serve_with_incoming(incoming));
    Ok(address)
}
