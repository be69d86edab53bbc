//! A hyper server for HTTP/1 and HTTP/2 that rejects requests above its capacity at once.
//!
//! ```sh
//! cargo run --features http --example hyper_server -- 8080 # without a port, any free port
//! curl -i http://127.0.0.1:8080/
//! ```
//!
//! Ctrl-C stops it. Above its limits, callers get `503 Service Unavailable`, or `429 Too Many Requests` with a
//! `Retry-After`. After one second they get `504 Gateway Timeout`. The connection stays open, except for HTTP/1
//! requests with a body: hyper closes it if the response comes before the body is read.

use http_body_util::Full;
use hyper::{
    Request, Response,
    body::{Bytes, Incoming},
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
    service::TowerToHyperService,
};
use std::{convert::Infallible, env, net::Ipv4Addr, time::Duration};
use steadfast::{http::Peer, load_shed::Limiter, rate_limit::TokenBucket};
use tokio::net::TcpListener;
use tower::{BoxError, service_fn};

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let port = env::args().nth(1).map_or(Ok(0), |port| port.parse())?;

    let service = steadfast::server()
        // The rate promised to all callers together. Counts requests, not their cost.
        .rate_limit(TokenBucket::builder(100, Duration::from_secs(1)).burst(100).build()?)
        // The capacity of the server: 500 requests per second at 50 ms each are 25 in flight, by Little's law. A few
        // more absorb bursts. Many more would only queue.
        .load_shed(Limiter::fixed(32)?)
        // The longest time that a caller waits, so work stops after it too. A shorter deadline of the caller applies.
        .timeout(Duration::from_secs(1))
        // Rejections become responses, because an `Err` would abort the connection with all other requests on it.
        // External callers may ask for less time or criticality, never for more, and responses do not reveal the
        // limits.
        .http(Peer::External)
        // A slow reader costs memory until it has read the whole body, so its call keeps its permit and its deadline
        // until then.
        .whole_body()
        .service(service_fn(answer))?;
    eprint!("{}", service.explain());

    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
    println!("listening on {}", listener.local_addr()?);
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                // The process has probably no file descriptors left. Wait for connections to end.
                eprintln!("cannot accept: {error}");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        // A clone per connection. All clones share the limits.
        let service = TowerToHyperService::new(service.clone());
        tokio::spawn(async move {
            let mut connection = auto::Builder::new(TokioExecutor::new());
            // With a timer, hyper gives up on callers that do not finish their headers.
            connection.http1().timer(TokioTimer::new());
            connection.http2().timer(TokioTimer::new());
            if let Err(error) = connection.serve_connection(TokioIo::new(stream), service).await {
                eprintln!("connection lost: {error}");
            }
        });
    }
}

/// A placeholder for your own work, which takes 50 ms here.
async fn answer(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    tokio::time::sleep(Duration::from_millis(50)).await;
    Ok(Response::new(Full::from(format!("{} {}\n", request.method(), request.uri().path()))))
}
