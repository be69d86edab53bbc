//! A stack around reqwest: a circuit breaker per host, one budget for all retries, and retried uploads.
//!
//! ```sh
//! cargo run --features http --example reqwest_client                   # against two servers of its own, one of them down
//! cargo run --features http --example reqwest_client -- 127.0.0.1:8080 # against any number of other servers
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
        // A dead host does not even refuse connections, so connecting needs a limit. The limit is shorter than the
        // attempt timeout, so that the error names the cause.
        .connect_timeout(Duration::from_millis(200))
        // Shorter than the idle timeout of servers, commonly a minute: a call on a closed connection fails.
        .pool_idle_timeout(Duration::from_secs(20))
        // The stack retries, within its budget. Two layers of retries multiply.
        .retry(retry::never())
        .build()?;

    // Each breaker opens when half of the calls to its host fail, or after ten failures in a row. A client with few
    // calls reaches the ten failures first.
    let breaker = Breaker::builder().failure_rate(0.5, Duration::from_secs(10)).consecutive_failures(10);
    let breakers = PerKey::new(http::authority, breaker)?;
    // One retry for every five calls to any host. A host that is down can use no more retries than that.
    let budget = RetryBudget::builder().ratio(0.2).build()?;
    let api = steadfast::client()
        // The longest time that a user waits: 3 attempts, and a `Retry-After` of one second.
        .timeout(Duration::from_secs(2))
        // Three failures in a row are no passing fault. Bodies of up to 64 KiB are replayed, including streams. A POST
        // is retried only with an `Idempotency-Key`, or if no connection was made.
        .retry(http::retry(3).budget(budget).bodies(http::DEFAULT_REPLAY_CAP, Body::wrap))
        .circuit_breaker(breakers.clone())
        // Well above the slowest usual response of 60 ms: after this time, a new attempt is more likely to succeed.
        .attempt_timeout(Duration::from_millis(300))
        .http_by(Peer::External, Verdict::new(Peer::External).unsent(reqwest::Error::is_connect))
        // The timeouts also cover the body, and a truncated body is a failure for the breaker.
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
                    // At most 1 MB: a faulty server must not fill the memory.
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

/// Lets this example run alone: one in `fails_every` responses is a `502`, all others are an echo.
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
