//! An axum server that rejects requests above its capacity at once.
//!
//! ```sh
//! cargo run --features http --example axum_server -- 8080 # without a port, any free port
//! curl -i http://127.0.0.1:8080/orders/7
//! ```
//!
//! Ctrl-C stops it. Above its limits, callers get `503 Service Unavailable`, or `429 Too Many Requests` with a
//! `Retry-After`. After one second they get `504 Gateway Timeout`. No `HandleErrorLayer` is needed: the stack turns
//! rejections into responses and does not change the error type.

use axum::{Router, extract::Path, routing::get};
use std::{env, net::Ipv4Addr, time::Duration};
use steadfast::{http::Peer, load_shed::Limiter, rate_limit::TokenBucket};
use tokio::net::TcpListener;
use tower::BoxError;

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let port = env::args().nth(1).map_or(Ok(0), |port| port.parse())?;

    let stack = steadfast::server()
        // The rate promised to all callers together. Counts requests, not their cost.
        .rate_limit(TokenBucket::builder(100, Duration::from_secs(1)).burst(100).build()?)
        // The capacity of the server: 500 requests per second at 50 ms each are 25 in flight, by Little's law. A few
        // more absorb bursts. Many more would only queue.
        .load_shed(Limiter::fixed(32)?)
        // The longest time that a caller waits, so work stops after it too. A shorter deadline of the caller applies.
        // Calls that a handler makes through a stack of `steadfast::client()` inherit the rest of the deadline.
        .timeout(Duration::from_secs(1))
        // External callers may ask for less time or criticality, never for more, and responses do not reveal the
        // limits.
        .http(Peer::External)
        // A slow reader costs memory until it has read the whole body, so its call keeps its permit and its deadline
        // until then. A route with longer streams puts `steadfast::http::NoBodyDeadline` into the extensions of its
        // responses.
        .whole_body()
        .layer()?;
    eprint!("{}", stack.explain());

    let app = Router::new()
        .route("/orders", get(all_orders))
        .route("/orders/{number}", get(one_order))
        // axum applies the layer to each route. All routes above share its state, and so the limits. A route with its
        // own limits needs its own stack.
        .layer(stack)
        // Added after the layer, so without limits. If the stack refused a health check, an orchestrator would restart
        // a server that is only busy.
        .route("/health", get(async || "alive\n"));

    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
    println!("listening on {}", listener.local_addr()?);
    axum::serve(listener, app).await?;
    Ok(())
}

/// A placeholder for your own work, which takes 50 ms here.
async fn all_orders() -> &'static str {
    tokio::time::sleep(Duration::from_millis(50)).await;
    "orders 1 to 9\n"
}

async fn one_order(Path(number): Path<u32>) -> String {
    tokio::time::sleep(Duration::from_millis(50)).await;
    format!("order {number}\n")
}
