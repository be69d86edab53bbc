//! A server takes its limits from a file. An operator publishes new limits while a load runs: one tier is cut, the
//! other raised, fewer calls may be in flight, and all calls are switched off and on again. Then the file becomes
//! corrupt, and the limits stay in force.
//!
//! ```sh
//! cargo run --release --features constant-work --example live_limits   # 14 seconds, and live_limits.svg
//! cargo run --release --features constant-work --example live_limits -- --config FILE.json
//! ```
//!
//! With `--config`, the configuration in that file is published first and last. An example of such a file:
//!
//! ```json
//! { "rate_limit": [{ "quotas": [{ "count": 150, "period": "1s", "burst": 15 }, { "count": 250, "period": "1s" }] }] }
//! ```
//!
//! `server.rs` is the template to copy, with `operator.rs` for the publisher.

mod operator;
mod picture;
#[path = "../support/plot.rs"]
mod plot;
mod report;
mod server;
mod traffic;

use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};
use operator::Operator;
use report::{Report, Seen, Slice};
use std::{
    env, fs, io,
    path::{Path, PathBuf},
    process,
    time::Duration,
};
use steadfast::stack::live::StackConfig;
use tokio::time::{Instant, sleep_until};
use tower::BoxError;

/// The time covered by one point of the picture.
const SLICE: Duration = Duration::from_millis(100);

/// A server whose limits change by publishing a file, while a load runs.
#[derive(Parser)]
struct Arguments {
    /// How long each of the nine steps lasts: from 0.4 to 60 seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 1.5, value_parser = step_seconds)]
    step_seconds: f64,
    /// The configuration to publish first, in JSON.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The file that the picture is written to.
    #[arg(long, value_name = "FILE", default_value = "live_limits.svg")]
    svg: PathBuf,
    /// Print the measurements as one line of JSON.
    #[arg(long)]
    json: bool,
}

fn step_seconds(text: &str) -> Result<f64, String> {
    let seconds = text.parse::<f64>().map_err(|error| error.to_string())?;
    if (0.4..=60.0).contains(&seconds) { Ok(seconds) } else { Err("must be from 0.4 to 60".into()) }
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let arguments = Arguments::parse();
    let first = match &arguments.config {
        Some(path) => serde_json::from_slice(&fs::read(path)?)?,
        None => operator::usual(),
    };
    let folder = Folder::new()?;
    let report = watch(&folder.0.join("limits.snapshot"), first, arguments.step_seconds).await?;
    picture::write(&report, &arguments.svg)?;
    if arguments.json {
        println!("{}", report.json());
    } else {
        println!("{report}\ndrawn: {}", arguments.svg.display());
    }
    Ok(())
}

/// Runs the operator and the load against a server, and records the result.
async fn watch(file: &Path, first: StackConfig, step_seconds: f64) -> Result<Report, BoxError> {
    let mut operator = Operator::new(file)?;
    let steps = operator::timeline(first);
    operator.begin(&steps[0]).await?;
    let server = server::start(file).await?;
    // The poller only refuses a configuration that the stack cannot use. This check ends the program instead.
    server.control.check(&steps[0].config)?;

    let slices_per_step = (step_seconds / SLICE.as_secs_f64()).round() as u32;
    let style = ProgressStyle::with_template("{bar:40.cyan/dim} {elapsed} {msg}")?;
    let bar = ProgressBar::new(u64::from(slices_per_step) * steps.len() as u64).with_style(style);
    let traffic = traffic::start(server.address);
    let began = Instant::now();
    let seconds_since = |earlier: Instant| Instant::now().saturating_duration_since(earlier).as_secs_f64();
    let (mut seen, mut next, mut before) = (Vec::new(), began, 0.0);
    for (number, step) in steps.into_iter().enumerate() {
        bar.set_message(step.name);
        if number > 0 {
            operator.begin(&step).await?;
        }
        let mut slices = Vec::new();
        for _ in 0..slices_per_step {
            next += SLICE;
            sleep_until(next).await;
            let at = seconds_since(began);
            let (counts, in_flight, in_force) = (traffic.take(), server.limiter.in_flight(), server.control.config());
            slices.push(Slice { at, length: at - before, counts, in_flight, in_force });
            before = at;
            bar.inc(1);
        }
        seen.push(Seen { step, slices });
    }
    bar.finish_and_clear();
    Ok(Report { steps: seen, readings: server.poller.now() })
}

/// A folder for the file, removed when the program ends.
struct Folder(PathBuf);

impl Folder {
    fn new() -> io::Result<Self> {
        let path = env::temp_dir().join(format!("steadfast-live-limits-{}", process::id()));
        fs::create_dir_all(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
