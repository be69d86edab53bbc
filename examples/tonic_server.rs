//! A tonic server that refuses at once what it cannot do in time.
//!
//! ```sh
//! cargo run --features http --example tonic_server -- 50051   # or any free port, if none is named
//! cargo run --features http --example tonic_client -- 127.0.0.1:50051
//! ```
//!
//! Ctrl-C stops it. It serves the standard health service of gRPC, which needs no generated code of its own; put yours
//! beside it. Beyond its limits callers get `RESOURCE_EXHAUSTED` with a pushback: the time after which to retry, or -1
//! where that is not known. A handler finds the caller's deadline in `steadfast::CallContext::current()`, and the
//! client stacks that it calls send on what is left of it.

use std::{env, net::Ipv4Addr, time::Duration};
use steadfast::{http::Peer, load_shed::Limiter, rate_limit::TokenBucket};
use tokio::net::TcpListener;
use tonic::transport::{Server, server::TcpIncoming};
use tower::BoxError;

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let port = env::args().nth(1).map_or(Ok(0), |port| port.parse())?;

    let stack = steadfast::server()
        // What the callers, all together, have been promised. Counts calls, however cheap or dear they are.
        .rate_limit(TokenBucket::builder(100, Duration::from_secs(1)).burst(100).build()?)
        // What the server can do: 500 calls per second at 50 ms each are 25 in flight, by Little's law. A few more
        // absorb bursts; many more would only wait in line. It counts calls until the head of their answer, which comes
        // after the work. Not `.whole_body()`: with it each watcher of the health service would keep a place for days.
        // Around a service that works while it streams, that is right.
        .load_shed(Limiter::fixed(32)?)
        // No caller waits longer than this for an answer, so no work goes on for longer either. A caller that sends a
        // shorter `grpc-timeout` gets that. It holds for the head of the answer, and so does not cut streams short.
        .timeout(Duration::from_secs(1))
        // The callers are services of your own. Messages name the limits, and callers may raise the criticality of a
        // call. To gRPC a refused call is a response like any other, with a status in its headers.
        .http(Peer::Internal)
        .layer()?;
    eprint!("{}", stack.explain());

    // Its handle, `_reporter`, is what tells callers that a service is about to stop.
    let (_reporter, health) = tonic_health::server::health_reporter();

    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
    println!("listening on {}", listener.local_addr()?);
    Server::builder()
        // The limits hold for the whole server, all services and connections together. tonic's own settings
        // (`load_shed`, `concurrency_limit_per_connection`, `timeout`) come before the stack and hold per connection.
        .layer(stack)
        .add_service(health)
        .serve_with_incoming(TcpIncoming::from(listener).with_nodelay(Some(true)))
        .await?;
    Ok(())
}
