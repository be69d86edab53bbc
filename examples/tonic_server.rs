//! A tonic server that refuses at once what it cannot do in time.
//!
//! ```sh
//! cargo run --example tonic_server -- 50051                  # or any free port, if none is named
//! cargo run --example tonic_client -- 127.0.0.1:50051
//! ```
//!
//! Ctrl-C stops it. It serves the standard health service of gRPC, which needs no generated code of its own; put yours
//! beside it. Beyond its limits callers get `RESOURCE_EXHAUSTED`, and are told when to come back where that is known.

use std::{env, net::Ipv4Addr, time::Duration};
use steadfast::{Rejection, load_shed::Limiter, rate_limit::TokenBucket};
use tokio::net::TcpListener;
use tonic::{
    Status,
    metadata::MetadataValue,
    transport::{Server, server::TcpIncoming},
};
use tower::BoxError;

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let port = env::args().nth(1).map_or(Ok(0), |port| port.parse())?;

    let stack = steadfast::server()
        // What the callers, all together, have been promised. Counts calls, however cheap or dear they are.
        .rate_limit(TokenBucket::builder(100, Duration::from_secs(1)).burst(100).build()?)
        // What the server can do: 500 calls per second at 50 ms each are 25 in flight, by Little's law. A few more
        // absorb bursts; many more would only wait in line. It counts calls until the head of their answer, so a stream
        // of answers takes a place only at its beginning.
        .load_shed(Limiter::fixed(32)?)
        // Nobody waits longer than this for an answer, so no work goes on for longer either. It holds for the head of
        // the answer too, and so does not cut streams short.
        .timeout(Duration::from_secs(1))
        // To gRPC a failed call is a response like any other, with a status in its headers.
        .respond_with(|rejection| refuse(rejection).into_http())
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

/// What a caller sees of a call that was refused or took too long.
fn refuse(rejection: Rejection) -> Status {
    let message = rejection.to_string();
    let mut status = match rejection {
        // Not `UNAVAILABLE`, which gRPC clients take for "try again": that is the last thing a busy server needs.
        Rejection::RateLimited(_) | Rejection::Overloaded(_) | Rejection::QueueFull(_) => {
            Status::resource_exhausted(message)
        }
        // Not `UNAVAILABLE` either: the work was begun, and may have been done.
        Rejection::TimedOut(_) => Status::deadline_exceeded(message),
        _ => Status::unavailable(message),
    };
    if let Some(wait) = rejection.retry_after() {
        // Rounded up: whoever comes back early is refused again.
        let milliseconds = (wait.as_secs_f64() * 1000.0).ceil() as u64;
        status.metadata_mut().insert("grpc-retry-pushback-ms", MetadataValue::from(milliseconds));
    }
    status
}
