//! reqwest behind a stack: a circuit breaker for each host, one budget for all retries, and uploads that are sent
//! again.
//!
//! ```sh
//! cargo run --features http --example reqwest_client                   # against two of its own, one of them down
//! cargo run --features http --example reqwest_client -- 127.0.0.1:8080 # against others, any number of them
//! ```

use axum::http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Limited};
use reqwest::{Body, Client, retry};
use std::{env, io, sync::Arc, sync::atomic::AtomicU32, sync::atomic::Ordering, time::Duration};
use steadfast::{
    Error, circuit_breaker::Breaker, http, http::Peer, http::Verdict, per_key::PerKey, retry::RetryBudget,
};
use tokio::net::TcpListener;
use tower::{BoxError, ServiceExt, service_fn};

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let mut hosts: Vec<_> = env::args().skip(1).collect();
    if hosts.is_empty() {
        hosts = vec![server(5).await?, server(1).await?];
    }
    let client = Client::builder()
        // A host that is gone does not even refuse. Below the attempt timeout, so that the error says what is wrong.
        .connect_timeout(Duration::from_millis(200))
        // Less than servers keep idle connections open, commonly a minute: a call on a closed one fails.
        .pool_idle_timeout(Duration::from_secs(20))
        // Retries are the stack's, which knows their budget. Two layers of retries multiply.
        .retry(retry::never())
        .build()?;

    // Each opens when half of the calls to its host fail or, for clients with few calls, ten in a row.
    let breaker = Breaker::builder().failure_rate(0.5, Duration::from_secs(10)).consecutive_failures(10);
    let breakers = PerKey::new(http::authority, breaker)?;
    // One retry for every five calls to any host: a host that is down takes no more from this client than that.
    let budget = RetryBudget::builder().ratio(0.2).build()?;
    let api = steadfast::client()
        // As long as a user waits. It covers 3 attempts, and leaves room for a `Retry-After` of a second.
        .timeout(Duration::from_secs(2))
        // An answer that fails three times in a row is no passing fault. Bodies are replayed, streams as well, up to 64
        // KiB of each. A POST is repeated only with an `Idempotency-Key`, or where no connection was made.
        .retry(http::retry(3).budget(budget).bodies(http::DEFAULT_REPLAY_CAP, Body::wrap))
        .circuit_breaker(breakers.clone())
        // Well above the slowest usual answer of 60 ms: who has not answered by now is better asked again.
        .attempt_timeout(Duration::from_millis(300))
        .http_by(Peer::External, Verdict::new(Peer::External).unsent(reqwest::Error::is_connect))
        // The timeouts cover the body, too, and a body that breaks off is a failure to the breaker.
        .whole_body()
        .service(service_fn(move |request: Request<Body>| {
            let client = client.clone();
            async move { client.execute(request.try_into()?).await.map(Response::<Body>::from) }
        }))?;
    println!("{}", api.explain());

    for number in 1..=20 {
        for host in &hosts {
            let lines = ["a stream ", "of two pieces"].map(Ok::<_, io::Error>);
            let upload = Body::wrap_stream(futures::stream::iter(lines));
            match api.clone().oneshot(Request::put(format!("http://{host}/notes/{number}")).body(upload)?).await {
                Ok(response) => {
                    let status = response.status();
                    // At most a megabyte: a server out of control must not fill the memory.
                    match Limited::new(response.into_body(), 1 << 20).collect().await {
                        Ok(body) => println!("call {number}: {host}: {status}, {} bytes", body.to_bytes().len()),
                        Err(error) => println!("call {number}: {host}: {status}, then failed: {error}"),
                    }
                }
                Err(Error::Service(error)) => println!("call {number}: {host}: failed: {error}"),
                Err(Error::Rejected(rejection)) => println!("call {number}: {host}: {rejection}"),
            }
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    breakers.for_each(|host, breaker| println!("The circuit of {host} is {:?}.", breaker.state()));
    Ok(())
}

/// Only for this example to run alone: one in `fails_every` answers is a `502`, all others are an echo.
async fn server(fails_every: u32) -> io::Result<String> {
    let requests = Arc::new(AtomicU32::new(1));
    let answer = move |body: String| {
        let fails = requests.fetch_add(1, Ordering::Relaxed) % fails_every == 0;
        async move { if fails { Err(StatusCode::BAD_GATEWAY) } else { Ok(body) } }
    };
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?.to_string();
    tokio::spawn(axum::serve(listener, axum::Router::new().fallback(answer)).into_future());
    Ok(address)
}
