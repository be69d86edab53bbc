//! Four processes share one limit, in each of three ways; then their store is unreachable for a while. Draws the
//! admissions, with the limit and the bound that each way states.
//!
//! ```sh
//! cargo run --release --example fleet_quota                                  # all in one process, in virtual time
//! cargo run --release --features redis --example fleet_quota -- --redis redis://127.0.0.1:6379
//! ```
//!
//! With `--redis` the example runs four real processes. It does not stop the Redis server: the processes reach it
//! through a small proxy, which closes their connections for the outage.

mod fleet;
mod picture;
#[path = "../support/plot.rs"]
mod plot;
mod process;

use clap::Parser;
use std::{error::Error, path::PathBuf, time::Duration};

/// Four processes, one limit, and an outage of its store.
#[derive(Parser)]
struct Arguments {
    /// The Redis server that stores the limits; runs four processes in real time.
    #[arg(long, value_name = "URL")]
    redis: Option<String>,
    /// A third of the run, in seconds: the store is unreachable for the middle third.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(2..=600))]
    third: u64,
    /// The file that the picture is written to.
    #[arg(long, default_value = "fleet_quota.svg")]
    svg: PathBuf,
    /// Be the process with this number. The store's address is in the environment.
    #[arg(long, hide = true, requires = "redis")]
    process: Option<usize>,
}

fn main() -> Result<(), Box<dyn Error>> {
    let Arguments { redis, third, svg, process } = Arguments::parse();
    let third = Duration::from_secs(third);
    let slots = match (redis, process) {
        (None, _) => fleet::in_virtual_time(third)?,
        (Some(url), None) => fleet::of_processes(&url, third)?,
        (Some(url), Some(index)) => return fleet::be_process(index, &url, third),
    };
    for (way, slots) in process::Way::ALL.into_iter().zip(&slots) {
        let seen = process::Seen::of(slots, way, third);
        println!(
            "{:<12} most in one second {:>5} with the store, bound {:>5}; {:>5} without, bound {:>5}; in all {:.0}% of the limit",
            way.name(),
            seen.worst,
            way.bound(),
            seen.worst_in_outage,
            way.bound_in_outage(),
            seen.part * 100.0
        );
    }
    picture::write(&slots, third, &svg)?;
    println!("the picture is in {}", svg.display());
    Ok(())
}
