//! A burst of ten times what a slow service can do, for some seconds, and a queue in front of it. How many wait, when
//! does the queue say that they are through, and when are they?
//!
//! ```sh
//! cargo run --release --example load_leveling                       # five seconds of burst, in virtual time
//! cargo run --release --example load_leveling -- --real             # one second of burst, in twenty of real time
//! cargo run --release --features redis --example load_leveling -- --redis redis://127.0.0.1:6379
//! ```
//!
//! The rates by which the queue tells are those of the last ten seconds: as long as the burst is in them it says
//! "never", which is what would become of the backlog if it all went on so.
//!
//! With `--redis` the queue is in Redis, and the work survives its processes; without it, the queue is in this process, and
//! each caller waits until its work is done. `embedded.rs` and `redis.rs` are the templates to copy.

mod embedded;
mod picture;
#[path = "../support/plot.rs"]
mod plot;
#[cfg(feature = "redis")]
mod redis;
mod traffic;

use clap::{Parser, value_parser};
use indicatif::{ProgressBar, ProgressStyle};
use std::{path::PathBuf, time::Duration};
use tokio::runtime;
use tower::BoxError;
use traffic::Run;

/// A burst into a slow service, behind a queue that says when its backlog is gone.
#[derive(Parser)]
struct Arguments {
    /// In real time. What is in Redis always is.
    #[arg(long)]
    real: bool,
    /// The Redis server to keep the work in.
    #[cfg(feature = "redis")]
    #[arg(long, value_name = "URL")]
    redis: Option<String>,
    /// How long the burst lasts, in seconds. Nine times as much work is left then, and takes twice as long again, since
    /// the usual work goes on. Default: 5, and 1 in real time.
    #[arg(long, value_name = "SECONDS", value_parser = value_parser!(u64).range(1..=60))]
    burst: Option<u64>,
    /// Where to draw the picture.
    #[arg(long, value_name = "FILE", default_value = "load_leveling.svg")]
    svg: PathBuf,
}

fn main() -> Result<(), BoxError> {
    let arguments = Arguments::parse();
    #[cfg(feature = "redis")]
    let redis = arguments.redis.clone();
    #[cfg(not(feature = "redis"))]
    let redis: Option<String> = None;
    let is_real = arguments.real || redis.is_some();
    let burst = Duration::from_secs(arguments.burst.unwrap_or(if is_real { 1 } else { 5 }));
    let runtime = runtime::Builder::new_current_thread().enable_all().start_paused(!is_real).build()?;
    let run = runtime.block_on(watch(redis, burst))?;
    print!("{run}");
    picture::write(&run, &arguments.svg)?;
    println!("drawn: {}", arguments.svg.display());
    Ok(())
}

async fn watch(redis: Option<String>, burst: Duration) -> Result<Run, BoxError> {
    let style = ProgressStyle::with_template("{bar:40.cyan/dim} {pos} of {len} done; {msg}")?;
    let bar = ProgressBar::new(0).with_style(style);
    let run = match redis {
        None => traffic::run(&embedded::Embedded::new()?, burst, &bar).await,
        #[cfg(feature = "redis")]
        Some(url) => traffic::run(&redis::InRedis::new(&url).await?, burst, &bar).await,
        #[cfg(not(feature = "redis"))]
        Some(_) => Err("the feature `redis` is off".into()),
    };
    bar.finish_and_clear();
    run
}
