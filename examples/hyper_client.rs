//! hyper-util's client behind a stack: retries with a budget, a circuit breaker, and an end to every wait.
//!
//! ```sh
//! cargo run --features http --example hyper_client                   # against a flaky server of its own
//! cargo run --features http --example hyper_client -- 127.0.0.1:8080 # against another, such as `hyper_server`
//! ```
//!
//! Stop the other server while the calls go on, and see that they fail fast.

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
    // A host that is gone does not even refuse. Below the attempt timeout, so that the error says what is wrong.
    connector.set_connect_timeout(Some(Duration::from_millis(200)));
    let client = Client::builder(TokioExecutor::new())
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
    let api = steadfast::client()
        // As long as a user waits. It covers 3 attempts, and leaves room for a `Retry-After` of a second.
        .timeout(Duration::from_secs(2))
        // An answer that fails three times in a row is no passing fault. Repeats GET, PUT, DELETE and the like; a POST
        // only with an `Idempotency-Key`, or where no connection was made, so that the server has not seen it.
        .retry(http::retry(3).budget(budget))
        .circuit_breaker(breaker.clone())
        // Well above the slowest usual answer of 60 ms: who has not answered by now is better asked again.
        .attempt_timeout(Duration::from_millis(300))
        .http_by(Peer::External, Verdict::new(Peer::External).unsent(legacy::Error::is_connect))
        // The timeouts cover the body, too, and a body that breaks off is a failure to the breaker.
        .whole_body()
        .service(client)?;
    println!("{}", api.explain());

    // Twenty calls in some two seconds: time enough to stop the server in between.
    for number in 1..=20 {
        let request = Request::get(format!("http://{address}/")).body(Full::default())?;
        match api.clone().oneshot(request).await {
            Ok(response) => {
                let status = response.status();
                // At most a megabyte: a server out of control must not fill the memory.
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
