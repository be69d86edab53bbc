//! A tonic client with a stack: retries with a budget, a circuit breaker, and a timeout for every wait.
//!
//! ```sh
//! cargo run --features http --example tonic_client                    # against its own flaky server
//! cargo run --features http --example tonic_client -- 127.0.0.1:50051 # against another server, such as `tonic_server`
//! ```
//!
//! Stop the other server during the calls to see them fail fast.
//!
//! The stack is between the generated client and the channel, so it serves all methods, and the clients of all services
//! on that channel. The generated client gets a `Status` for each rejection. Each attempt sends its deadline as
//! `grpc-timeout`. Within a server, that deadline is at most the deadline of the call that the server works on.

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
    // A dead host does not even refuse connections, so connecting needs a limit. The limit is shorter than the attempt
    // timeout, so that the error names the cause.
    let channel = endpoint.connect_timeout(Duration::from_millis(200)).connect_lazy();
    // Lets the retry see a status in the trailers if no message comes before it. It delays the head of a response until
    // its first message, so omit it for streams that are silent at first.
    let channel = http::peek().layer(channel);
    // The channel has its own timer for each `grpc-timeout`. It fires together with the stack's timer and would turn
    // some timeouts into `CANCELLED`. Its error is ignored, and the stack ends the attempt.
    let channel = channel.then(async |answer| match answer {
        Err(error) if caused_by::<TimeoutExpired>(&error) => future::pending().await,
        answer => answer,
    });

    // Opens when half of the calls fail, or after ten failures in a row, which a client with few calls reaches first.
    let breaker = Breaker::builder().failure_rate(0.5, Duration::from_secs(10)).consecutive_failures(10).build()?;
    // One retry for every five calls: retries add at most a fifth to the load, even if all calls fail.
    let budget = RetryBudget::builder().ratio(0.2).build()?;
    // Three failures are no passing fault. Messages of up to 64 KiB are replayed.
    let retry = http::retry(3).budget(budget).bodies(http::DEFAULT_REPLAY_CAP, Body::new);
    let stack = steadfast::client()
        // The longest time that a user waits: 3 attempts, and a pushback of one second.
        .timeout(Duration::from_secs(2))
        // A check may be processed twice. Other calls are retried only if the server provably did not process them.
        .retry(retry.idempotent(|request: &Request<_>| request.uri().path() == "/grpc.health.v1.Health/Check"))
        .circuit_breaker(breaker.clone())
        // Well above the slowest usual response of 60 ms: after this time, a new attempt is more likely to succeed.
        .attempt_timeout(Duration::from_millis(300))
        // Without a connection the server has not received the call.
        .http_by(Peer::Internal, Verdict::new(Peer::Internal).unsent(caused_by::<ConnectError>))
        .respond_http(Peer::Internal)
        // The timeouts also cover the message of the response, and the breaker sees a status in the trailers. For long
        // streams use `.whole_body_without_deadline()`.
        .whole_body()
        .service(channel)?;
    println!("{}", stack.explain());

    // Twenty calls in about two seconds: enough time to stop the server during the calls.
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

/// Whether an error of this type is among the causes.
fn caused_by<E: Error + 'static>(error: &transport::Error) -> bool {
    iter::successors(error.source(), |&cause| cause.source()).any(|cause| cause.is::<E>())
}

/// Lets this example run alone: every fifth response is `UNAVAILABLE`.
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
