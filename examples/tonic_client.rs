//! A tonic client behind a stack: retries with a budget, a circuit breaker, and an end to every wait.
//!
//! ```sh
//! cargo run --example tonic_client                    # against a flaky server of its own
//! cargo run --example tonic_client -- 127.0.0.1:50051 # against another, such as the example `tonic_server`
//! ```
//!
//! Stop the other server while the calls go on, and see that they fail fast.
//!
//! The stack stands above the generated client, around one of its methods. There a message can be cloned and sent
//! again; the body that it becomes below cannot. And there the status is known even when it comes in trailers, after
//! what looks like a success from below. For streams put a stack without a retry below, `.layer()?` around the channel,
//! with a `.respond_with(..)` as in `tonic_server`, so that the generated client finds a status in each rejection.

use std::{env, io, net::Ipv4Addr, net::SocketAddr, sync::atomic::AtomicU32, sync::atomic::Ordering, time::Duration};
use steadfast::{Error, Outcome, circuit_breaker::Breaker, retry::Retry, retry::RetryBudget};
use tonic::{
    Code, Request, Response, Status,
    service::interceptor::InterceptedService,
    transport::{Endpoint, Server, server::TcpIncoming},
};
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse, health_client::HealthClient};
use tower::{BoxError, ServiceExt, service_fn};

/// Well above the slowest usual answer of 60 ms: who has not answered by now is better asked again.
const ATTEMPT_TIMEOUT: Duration = Duration::from_millis(300);

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let address = if let Some(address) = env::args().nth(1) { address } else { flaky_server().await?.to_string() };
    let endpoint = Endpoint::from_shared(format!("http://{address}"))?;
    // A host that is gone does not even refuse. Below the attempt timeout, so that the error says what is wrong.
    let client = HealthClient::new(endpoint.connect_timeout(Duration::from_millis(200)).connect_lazy());

    // Opens when half of the calls fail or, for clients with few calls, ten in a row.
    let breaker = Breaker::builder().failure_rate(0.5, Duration::from_secs(10)).consecutive_failures(10).build()?;
    // One retry for every five calls: however many fail, retries add at most a fifth to the load.
    let budget = RetryBudget::builder().ratio(0.2).build()?;
    let check = steadfast::client()
        // As long as a user waits. It covers 3 attempts, and leaves room for a pushback of a second.
        .timeout(Duration::from_secs(2))
        // What fails three times is no passing fault. A check may be repeated; what may not, see `Retry::replay_if`.
        .retry(Retry::new(3).budget(budget))
        .circuit_breaker(breaker.clone())
        .attempt_timeout(ATTEMPT_TIMEOUT)
        .classify(verdict)
        .service(service_fn(move |message: HealthCheckRequest| {
            let mut client = client.clone();
            let mut request = Request::new(message);
            // Sent along as `grpc-timeout`, so that the server stops too when nobody waits any more.
            request.set_timeout(ATTEMPT_TIMEOUT);
            async move { client.check(request).await }
        }))?;
    println!("{}", check.explain());

    // Twenty calls in some two seconds: time enough to stop the server in between.
    for number in 1..=20 {
        match check.clone().oneshot(HealthCheckRequest::default()).await {
            Ok(response) => println!("call {number}: {:?}", response.get_ref().status()),
            Err(Error::Service(status)) => println!("call {number}: failed: {:?}: {}", status.code(), status.message()),
            Err(Error::Rejected(rejection)) => println!("call {number}: {rejection}"),
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    println!("The circuit is {:?}.", breaker.state());
    Ok(())
}

/// What an answer means, to all layers.
fn verdict(result: Result<&Response<HealthCheckResponse>, &Status>) -> Outcome {
    let Err(status) = result else { return Outcome::Success };
    match status.code() {
        Code::ResourceExhausted => {
            // A negative number means "do not come back", which is what having no hint comes to.
            let pushback = status.metadata().get("grpc-retry-pushback-ms");
            let milliseconds = pushback.and_then(|value| value.to_str().ok()?.parse().ok());
            Outcome::Overloaded { retry_after: milliseconds.map(Duration::from_millis) }
        }
        // `Cancelled` is also what tonic calls a `grpc-timeout` that ran out.
        Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled => Outcome::Failure,
        Code::Internal | Code::Unknown | Code::DataLoss => Outcome::Failure,
        _ => Outcome::Permanent,
    }
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
