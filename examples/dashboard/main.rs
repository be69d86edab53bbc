//! A server with a live page of its stacks, during a repeating scenario: calm, rush, slow dependency, outage, recovery.
//!
//! ```sh
//! cargo run --features metrics,serde --example dashboard -- --port 8080
//! ```
//!
//! It prints its address and the token for the switches. Open the address in a browser. `/metrics` serves Prometheus.
//! `grafana.json` is a dashboard of these metrics, and `alerts.yaml` has alert rules.
//!
//! The server stack `orders` wraps a handler that pays through the client stack `payments`. Callers and the dependency
//! are tasks of this process. Copy the folder `board` into your own server.

mod board;
mod scenario;
mod shop;
mod traffic;

use axum::{Router, routing::get};
use board::Board;
use clap::Parser;
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use rand::{RngExt, SeedableRng, rngs::SmallRng};
use scenario::Scenario;
use shop::Shop;
use std::net::Ipv4Addr;
use steadfast::telemetry::{BUCKETS, Metrics};
use tokio::net::TcpListener;
use tower::BoxError;

/// Shows stacks on a live page, during a repeating scenario.
#[derive(Parser)]
#[command(name = "dashboard")]
struct Arguments {
    /// The port to listen on. Default: any free port
    #[arg(long, default_value_t = 0)]
    port: u16,

    /// The seed of the arrival times and the latencies
    #[arg(long, default_value_t = 1)]
    seed: u64,

    /// Ends after one round of all phases
    #[arg(long)]
    once: bool,

    /// Shortens the phases by this factor
    #[arg(long, value_name = "N", value_parser = speed, default_value = "1")]
    speed: f64,

    /// The token for the switches. Default: a random token
    #[arg(long)]
    token: Option<String>,
}

fn speed(text: &str) -> Result<f64, String> {
    let rule = "must be a number from 0.1 to 100";
    text.parse().ok().filter(|speed| (0.1..=100.0).contains(speed)).ok_or_else(|| rule.to_owned())
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let Arguments { port, seed, once, speed, token } = Arguments::parse();
    // Every process on this machine can reach the port, so the token must not derive from the seed.
    let token = token.unwrap_or_else(|| format!("{:032x}", rand::make_rng::<SmallRng>().random::<u128>()));

    let prometheus = PrometheusBuilder::new().set_buckets(&BUCKETS)?.install_recorder()?;
    let metrics = Metrics::new();
    let scenario = Scenario::new(speed);
    let shop = Shop::open(&metrics, scenario.clone(), SmallRng::seed_from_u64(seed))?;

    let note = scenario.clone();
    let board = Board::new(metrics.clone())
        .stack("orders", shop.orders_control.clone())
        .stack("payments", shop.payments_control.clone())
        .token(token.clone())
        .note(move || note.now().text());
    let app = board.router().merge(prometheus_route(metrics, prometheus));

    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
    let address = listener.local_addr()?;
    println!("listening on {address}");
    println!("token {token}");
    eprintln!("open http://{address}/ in a browser");

    let traffic = traffic::run(shop, scenario, SmallRng::seed_from_u64(!seed), once);
    tokio::select! {
        served = axum::serve(listener, app) => served?,
        () = traffic => {}
    }
    Ok(())
}

/// The endpoint for Prometheus. Each scrape reads the gauges.
fn prometheus_route(metrics: Metrics, prometheus: PrometheusHandle) -> Router {
    let scrape = async move || {
        metrics.collect();
        prometheus.run_upkeep();
        prometheus.render()
    };
    Router::new().route("/metrics", get(scrape))
}
