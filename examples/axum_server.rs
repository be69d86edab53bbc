//! An axum server that refuses at once what it cannot do in time.
//!
//! ```sh
//! cargo run --features http --example axum_server -- 8080 # or any free port, if none is named
//! curl -i http://127.0.0.1:8080/orders/7
//! ```
//!
//! Ctrl-C stops it. Beyond its limits callers get `503 Service Unavailable`, or `429 Too Many Requests` with a
//! `Retry-After`; after a second they get `504 Gateway Timeout`. No `HandleErrorLayer` is needed: the stack answers
//! rejections itself and adds no error of its own.

use axum::{Router, extract::Path, routing::get};
use std::{env, net::Ipv4Addr, time::Duration};
use steadfast::{http::Peer, load_shed::Limiter, rate_limit::TokenBucket};
use tokio::net::TcpListener;
use tower::BoxError;

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let port = env::args().nth(1).map_or(Ok(0), |port| port.parse())?;

    let stack = steadfast::server()
        // What the callers, all together, have been promised. Counts requests, however cheap or dear they are.
        .rate_limit(TokenBucket::builder(100, Duration::from_secs(1)).burst(100).build()?)
        // What the server can do: 500 requests per second at 50 ms each are 25 in flight, by Little's law. A few more
        // absorb bursts; many more would only wait in line.
        .load_shed(Limiter::fixed(32)?)
        // No caller waits longer than this for an answer, so no work goes on for longer either. A caller that sends a
        // shorter deadline gets that. Calls that a handler makes through a stack of `steadfast::client()` inherit what
        // is left of it.
        .timeout(Duration::from_secs(1))
        // Strangers: they may ask for less time or importance, never for more, and are not told the limits.
        .http(Peer::External)
        // A slow reader costs memory until it has read all, so its call keeps its place and its deadline until then. A
        // route that streams for longer puts `steadfast::http::NoBodyDeadline` into the extensions of its responses.
        .whole_body()
        .layer()?;
    eprint!("{}", stack.explain());

    let app = Router::new()
        .route("/orders", get(all_orders))
        .route("/orders/{number}", get(one_order))
        // axum makes a service of the layer for each route. They share one state: the limits are those of all routes
        // above, together. For a route with limits of its own, give it a stack of its own.
        .layer(stack)
        // Below the layer, so without limits: a server that is busy is not dead, and must not be restarted.
        .route("/health", get(async || "alive\n"));

    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
    println!("listening on {}", listener.local_addr()?);
    axum::serve(listener, app).await?;
    Ok(())
}

/// Stands for your own work, which takes 50 ms here.
async fn all_orders() -> &'static str {
    tokio::time::sleep(Duration::from_millis(50)).await;
    "orders 1 to 9\n"
}

async fn one_order(Path(number): Path<u32>) -> String {
    tokio::time::sleep(Duration::from_millis(50)).await;
    format!("order {number}\n")
}
