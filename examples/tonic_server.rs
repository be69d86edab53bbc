//! A tonic server that rejects calls above its capacity at once.
//!
//! ```sh
//! cargo run --features http --example tonic_server -- 50051   # without a port, any free port
//! cargo run --features http --example tonic_client -- 127.0.0.1:50051
//! ```
//!
//! Ctrl-C stops it. It serves gRPC's standard health service, which needs no generated code; add your own services to
//! it. Above its limits, callers get `RESOURCE_EXHAUSTED` with a pushback: the time after which to retry, or -1 if that
//! is not known. A handler finds the caller's deadline in `steadfast::CallContext::current()`. The client stacks that
//! it calls send the rest of that deadline.

use std::{env, net::Ipv4Addr, time::Duration};
use steadfast::{http::Peer, load_shed::Limiter, rate_limit::TokenBucket};
use tokio::net::TcpListener;
use tonic::transport::{Server, server::TcpIncoming};
use tower::BoxError;

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let port = env::args().nth(1).map_or(Ok(0), |port| port.parse())?;

    let stack = steadfast::server()
        // The rate promised to all callers together. Counts calls, not their cost.
        .rate_limit(TokenBucket::builder(100, Duration::from_secs(1)).burst(100).build()?)
        // The capacity of the server: 500 calls per second at 50 ms each are 25 in flight, by Little's law. A few more
        // absorb bursts. Many more would only queue. The limit counts calls until the head of their response, which
        // comes after the work. Use `.whole_body()` only around services that work while they stream: with it, each
        // watcher of the health service would keep a permit for days.
        .load_shed(Limiter::fixed(32)?)
        // The longest time that a caller waits, so work stops after it too. A shorter `grpc-timeout` of the caller
        // applies. The timeout covers only the head of the response, and so does not cut streams short.
        .timeout(Duration::from_secs(1))
        // The callers are your own services. Messages name the limits, and callers may raise the criticality of a call.
        // In gRPC, a rejected call is an ordinary response with a status in its headers.
        .http(Peer::Internal)
        .layer()?;
    eprint!("{}", stack.explain());

    // The handle of the health service, `_reporter`, can report to callers that a service is about to stop.
    let (_reporter, health) = tonic_health::server::health_reporter();

    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
    println!("listening on {}", listener.local_addr()?);
    Server::builder()
        // The limits apply to the whole server, with all services and connections. tonic's own settings (`load_shed`,
        // `concurrency_limit_per_connection`, `timeout`) act before the stack and per connection.
        .layer(stack)
        .add_service(health)
        .serve_with_incoming(TcpIncoming::from(listener).with_nodelay(Some(true)))
        .await?;
    Ok(())
}
