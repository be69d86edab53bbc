//! A server with a live page of its stacks, while they meet a calm, a rush, a slow dependency, an outage and the
//! recovery, again and again.
//!
//! ```sh
//! cargo run --features metrics,serde --example dashboard -- --port 8080
//! ```
//!
//! It prints its address and the token for the switches. Open the address in a browser. `/metrics` is for Prometheus;
//! `grafana.json` is a dashboard of these metrics, and `alerts.yaml` has rules for alerts.
//!
//! The server stack `orders` stands before a handler that pays through the client stack `payments`. Callers and the
//! dependency are tasks of this process. Copy the folder `board` into a server of your own.

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

/// Shows stacks on a live page, under a scenario that repeats.
#[derive(Parser)]
#[command(name = "dashboard")]
struct Arguments {
    /// The port to listen on; any free one if none is named
    #[arg(long, default_value_t = 0)]
    port: u16,

    /// For the times of arrivals and of the dependency
    #[arg(long, default_value_t = 1)]
    seed: u64,

    /// Ends after the first round of all phases
    #[arg(long)]
    once: bool,

    /// How many times faster one phase follows another
    #[arg(long, value_name = "N", value_parser = speed, default_value = "1")]
    speed: f64,

    /// The token for the switches; a random one if none is named
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
    // Every program on this machine can reach the port, so the token must not follow from the seed.
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

/// What Prometheus scrapes. The gauges are read at each scrape.
fn prometheus_route(metrics: Metrics, prometheus: PrometheusHandle) -> Router {
    let scrape = async move || {
        metrics.collect();
        prometheus.run_upkeep();
        prometheus.render()
    };
    Router::new().route("/metrics", get(scrape))
}
