//! A stack around hyper-util's client: retries with a budget, a circuit breaker, and a timeout for every wait.
//!
//! ```sh
//! cargo run --features http --example hyper_client                   # against its own flaky server
//! cargo run --features http --example hyper_client -- 127.0.0.1:8080 # against another server, such as `hyper_server`
//! ```
//!
//! Stop the other server during the calls to see them fail fast.

use http_body_util::{BodyExt, Full, Limited};
use hyper::{Request, StatusCode, body::Bytes};
use hyper_util::{
    client::legacy::connect::HttpConnector,
    client::legacy::{self, Client},
    rt::TokioExecutor,
    rt::TokioTimer,
};
use std::{env, io, net::SocketAddr, sync::atomic::AtomicU32, sync::atomic::Ordering, time::Duration};
use steadfast::{Error, circuit_breaker::Breaker, http, http::Peer, http::Verdict, retry::RetryBudget};
use tokio::net::TcpListener;
use tower::{BoxError, ServiceExt};

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let address = if let Some(address) = env::args().nth(1) { address } else { flaky_server().await?.to_string() };
    let mut connector = HttpConnector::new();
    // A dead host does not even refuse connections, so connecting needs a limit. The limit is shorter than the attempt
    // timeout, so that the error names the cause.
    connector.set_connect_timeout(Some(Duration::from_millis(200)));
    let client = Client::builder(TokioExecutor::new())
        // Shorter than the idle timeout of servers, commonly a minute: a call on a closed connection fails.
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(Duration::from_secs(20))
        // The stack retries, within its budget. Two layers of retries multiply.
        .retry_canceled_requests(false)
        .build::<_, Full<Bytes>>(connector);

    // Opens when half of the calls fail, or after ten failures in a row, which a client with few calls reaches first.
    let breaker = Breaker::builder().failure_rate(0.5, Duration::from_secs(10)).consecutive_failures(10).build()?;
    // One retry for every five calls: retries add at most a fifth to the load, even if all calls fail.
    let budget = RetryBudget::builder().ratio(0.2).build()?;
    let api = steadfast::client()
        // The longest time that a user waits: 3 attempts, and a `Retry-After` of one second.
        .timeout(Duration::from_secs(2))
        // Three failures in a row are no passing fault. Retries idempotent methods such as GET, PUT and DELETE. Retries
        // a POST only with an `Idempotency-Key`, or if no connection was made, because the server has then not received
        // it.
        .retry(http::retry(3).budget(budget))
        .circuit_breaker(breaker.clone())
        // Well above the slowest usual response of 60 ms: after this time, a new attempt is more likely to succeed.
        .attempt_timeout(Duration::from_millis(300))
        .http_by(Peer::External, Verdict::new(Peer::External).unsent(legacy::Error::is_connect))
        // The timeouts also cover the body, and a truncated body is a failure for the breaker.
        .whole_body()
        .service(client)?;
    println!("{}", api.explain());

    // Twenty calls in about two seconds: enough time to stop the server during the calls.
    for number in 1..=20 {
        let request = Request::get(format!("http://{address}/")).body(Full::default())?;
        match api.clone().oneshot(request).await {
            Ok(response) => {
                let status = response.status();
                // At most 1 MB: a faulty server must not fill the memory.
                match Limited::new(response.into_body(), 1 << 20).collect().await {
                    Ok(body) => println!("call {number}: {status}, {} bytes", body.to_bytes().len()),
                    Err(error) => println!("call {number}: {status}, then failed: {error}"),
                }
            }
            Err(Error::Service(error)) => println!("call {number}: failed: {error}"),
            Err(Error::Rejected(rejection)) => println!("call {number}: {rejection}"),
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    println!("The circuit is {:?}.", breaker.state());
    Ok(())
}

/// Lets this example run alone: every fifth response is a `500`.
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
