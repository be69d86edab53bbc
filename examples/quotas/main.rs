//! An API with a quota for each key, by tier, and how that protects the neighbours of a noisy caller.
//!
//! ```sh
//! cargo run --release --example quotas                # six seconds of traffic, and quotas.svg
//! cargo run --release --example quotas -- --serve 8080 # only the server, for curl
//! curl -i -H 'x-api-key: pro-anna' http://127.0.0.1:8080/report
//! ```
//!
//! The traffic runs against the same API twice: first with one limit for all callers, then with one limit for each key.
//! `server.rs` is the template to copy.

mod picture;
#[path = "../support/plot.rs"]
mod plot;
mod server;
mod traffic;

use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};
use std::{net::Ipv4Addr, path::PathBuf};
use tokio::net::TcpListener;
use tower::BoxError;
use traffic::Run;

/// An API with a quota for each key, and how that protects the neighbours of a noisy caller.
#[derive(Parser)]
struct Args {
    /// Only serve the API, on this port of the loopback interface.
    #[arg(long, value_name = "PORT")]
    serve: Option<u16>,
    /// The file that the picture is written to.
    #[arg(long, value_name = "FILE", default_value = "quotas.svg")]
    svg: PathBuf,
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let args = Args::parse();
    if let Some(port) = args.serve {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
        println!("listening on {}", listener.local_addr()?);
        axum::serve(listener, server::with_a_quota_for_each_key()?).await?;
        return Ok(());
    }
    let together = watch("one limit for all", server::with_one_limit_for_all()?).await?;
    let by_key = watch("one for each key", server::with_a_quota_for_each_key()?).await?;
    println!("{together}\n{by_key}");
    picture::write(&[together, by_key], &args.svg)?;
    println!("drawn: {}", args.svg.display());
    Ok(())
}

/// Serves the API on a free port, and lets the callers send requests.
async fn watch(title: &'static str, api: axum::Router) -> Result<Run, BoxError> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let address = listener.local_addr()?;
    let server = tokio::spawn(async { axum::serve(listener, api).await });
    let style = ProgressStyle::with_template("{prefix:>18} {bar:40} {msg}")?;
    let bar = ProgressBar::new(0).with_style(style).with_prefix(title);
    let run = traffic::run(title, address, &bar).await;
    bar.finish();
    server.abort();
    run
}
