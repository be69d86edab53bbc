//! hyper-util's client behind a stack: retries with a budget, a circuit breaker, and an end to every wait.
//!
//! ```sh
//! cargo run --example hyper_client                   # against a flaky server of its own
//! cargo run --example hyper_client -- 127.0.0.1:8080 # against another, such as the example `hyper_server`
//! ```
//!
//! Stop the other server while the calls go on, and see that they fail fast.

use http_body_util::{BodyExt, Full, Limited};
use hyper::{Request, Response, StatusCode, body::Bytes, body::Incoming, header::RETRY_AFTER};
use hyper_util::{client::legacy::Client, client::legacy::connect::HttpConnector, rt::TokioExecutor, rt::TokioTimer};
use std::{env, io, net::SocketAddr, sync::atomic::AtomicU32, sync::atomic::Ordering, time::Duration};
use steadfast::{Error, Outcome, circuit_breaker::Breaker, retry::Retry, retry::RetryBudget};
use tokio::net::TcpListener;
use tower::{BoxError, ServiceExt};

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let address = if let Some(address) = env::args().nth(1) { address } else { flaky_server().await?.to_string() };
    let mut connector = HttpConnector::new();
    // A host that is gone does not even refuse. Below the attempt timeout, so that the error says what is wrong.
    connector.set_connect_timeout(Some(Duration::from_millis(200)));
    let http = Client::builder(TokioExecutor::new())
        // Less than servers keep idle connections open, commonly a minute: a call on a closed one fails.
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(Duration::from_secs(20))
        // Retries are the stack's, which knows their budget. Two layers of retries multiply.
        .retry_canceled_requests(false)
        .build::<_, Full<Bytes>>(connector);

    // Opens when half of the calls fail or, for clients with few calls, ten in a row.
    let breaker = Breaker::builder().failure_rate(0.5, Duration::from_secs(10)).consecutive_failures(10).build()?;
    // One retry for every five calls: however many fail, retries add at most a fifth to the load.
    let budget = RetryBudget::builder().ratio(0.2).build()?;
    // GET, PUT, DELETE and the like. A POST may only be sent twice if the server knows the second from the first.
    let may_repeat = |request: &Request<_>| request.method().is_idempotent();
    let api = steadfast::client()
        // As long as a user waits. It covers 3 attempts, and leaves room for a `Retry-After` of a second.
        .timeout(Duration::from_secs(2))
        // What fails three times in a row is no passing fault.
        .retry(Retry::new(3).budget(budget).replay_if(may_repeat))
        .circuit_breaker(breaker.clone())
        // Well above the slowest usual answer of 60 ms: who has not answered by now is better asked again.
        .attempt_timeout(Duration::from_millis(300))
        .classify(verdict)
        .service(http.and_then(read_whole))?;
    println!("{}", api.explain());

    // Twenty calls in some two seconds: time enough to stop the server in between.
    for number in 1..=20 {
        let request = Request::get(format!("http://{address}/")).body(Full::default())?;
        match api.clone().oneshot(request).await {
            Ok(response) => println!("call {number}: {}", response.status()),
            Err(Error::Service(error)) => println!("call {number}: failed: {error}"),
            Err(Error::Rejected(rejection)) => println!("call {number}: {rejection}"),
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    println!("The circuit is {:?}.", breaker.state());
    Ok(())
}

/// What an answer means, to all layers.
fn verdict(result: Result<&Response<Bytes>, &BoxError>) -> Outcome {
    let Ok(response) = result else { return Outcome::Failure };
    match response.status() {
        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
            // Seconds; a date is taken for no hint, and then there is no retry.
            let seconds = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
            Outcome::Overloaded { retry_after: seconds.map(Duration::from_secs) }
        }
        status if status.is_server_error() => Outcome::Failure,
        status if status.is_client_error() => Outcome::Permanent,
        _ => Outcome::Success,
    }
}

/// Reads the body as part of the call, so that the timeouts cover it too: they end with what the service returns.
async fn read_whole(response: Response<Incoming>) -> Result<Response<Bytes>, BoxError> {
    let (head, body) = response.into_parts();
    // At most a megabyte: a server out of control must not fill the memory.
    let body = Limited::new(body, 1 << 20).collect().await?.to_bytes();
    Ok(Response::from_parts(head, body))
}

/// Only for this example to run alone: every fifth answer is a `500`.
async fn flaky_server() -> io::Result<SocketAddr> {
    static REQUESTS: AtomicU32 = AtomicU32::new(1);
    async fn answer() -> StatusCode {
        let fails = REQUESTS.fetch_add(1, Ordering::Relaxed) % 5 == 0;
        println!("  the server {}", if fails { "fails" } else { "answers" });
        if fails { StatusCode::INTERNAL_SERVER_ERROR } else { StatusCode::OK }
    }
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(axum::serve(listener, axum::Router::new().fallback(answer)).into_future());
    Ok(address)
}
