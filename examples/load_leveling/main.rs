//! A burst of ten times the capacity of a slow service, for some seconds, with a queue in front of the service. Shows
//! how many calls wait, when the queue predicts that it will be empty, and when it is.
//!
//! ```sh
//! cargo run --release --example load_leveling                       # five seconds of burst, in virtual time
//! cargo run --release --example load_leveling -- --real             # one second of burst, in twenty of real time
//! cargo run --release --features redis --example load_leveling -- --redis redis://127.0.0.1:6379
//! ```
//!
//! The queue predicts from the rates of the last ten seconds. While these include the burst, it answers "never": at
//! those rates the backlog would not shrink.
//!
//! With `--redis` the queue is in Redis, and the work survives the processes. Without it, the queue is in this process,
//! and each caller waits until its job is done. `embedded.rs` and `redis.rs` are the templates to copy.

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

/// A burst into a slow service, behind a queue that predicts when its backlog is gone.
#[derive(Parser)]
struct Arguments {
    /// Run in real time. With `--redis` this is always so.
    #[arg(long)]
    real: bool,
    /// The Redis server that stores the work.
    #[cfg(feature = "redis")]
    #[arg(long, value_name = "URL")]
    redis: Option<String>,
    /// How long the burst lasts, in seconds. It leaves a backlog of nine times its length in work. That takes
    /// 18 times its length to drain, because the usual work continues. Default: 5, and 1 in real time.
    #[arg(long, value_name = "SECONDS", value_parser = value_parser!(u64).range(1..=60))]
    burst: Option<u64>,
    /// The file that the picture is written to.
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
