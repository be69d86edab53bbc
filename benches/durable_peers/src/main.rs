//! Measures messages per second through a durable queue, on a `redis-server` of its own. Beside it `redis-benchmark`
//! appends the same payload with as many commands in flight.
//!
//! `cargo run --release` prints a table; with `--quick` it takes a quarter of the time. The contenders take turns, each
//! on an empty database. The figures are medians of the rounds.

mod plain;
mod queue;
#[allow(dead_code, reason = "shared with tests that use more of it")]
#[path = "../../../tests/support/redis.rs"]
mod redis_server;
mod report;
#[allow(dead_code, reason = "shared with benches that use more of it")]
#[path = "../../fleet_peers/src/server.rs"]
mod server;

use clap::Parser;
use plain::plain;
use queue::{Keys, Queue};
use redis_server::RedisServer;
use report::{Row, table};
use rustix::time::{ClockId, clock_gettime};
use server::Server;
use std::{
    process::ExitCode,
    time::{Duration, Instant},
};

/// Measures messages per second through a durable queue beside redis-benchmark.
#[derive(Parser)]
struct Args {
    /// Three rounds of fewer messages each.
    #[arg(long)]
    quick: bool,
    /// The bytes of a payload.
    #[arg(long, default_value_t = 100)]
    payload: usize,
    /// The `appendfsync` of an append-only file: always, everysec or no. By default the server has no append-only file.
    #[arg(long)]
    appendfsync: Option<String>,
}

/// Any error.
pub type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// The messages of a turn.
#[derive(Clone, Copy)]
pub struct Load {
    pub messages: u64,
    pub payload: usize,
}

/// The figures of a turn.
#[derive(Clone, Copy)]
pub struct Turn {
    pub per_second: f64,
    /// Microseconds per message: in scripts and the commands that they call; on the server's main thread; in this
    /// process.
    pub script_micros: f64,
    pub server_micros: f64,
    pub client_micros: f64,
}

fn main() -> ExitCode {
    let args = Args::parse();
    if let Some(reason) = redis_server::missing() {
        eprintln!("steadfast-durable-peers: {reason}");
        return ExitCode::from(2);
    }
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("steadfast-durable-peers: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<()> {
    let (rounds, messages) = if args.quick { (3, 100_000) } else { (7, 200_000) };
    let load = Load { messages, payload: args.payload };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let policy = args.appendfsync.as_deref().unwrap_or("no");
    let durable = ["--appendonly", "yes", "--appendfsync", policy];
    let arguments = if args.appendfsync.is_some() { &durable[..] } else { &[] };
    let redis = runtime.block_on(RedisServer::start_with(arguments));
    let mut server = Server::connect(&redis.url());
    let port = redis.port().to_string();
    let mut queue = Queue::connect(&redis.url(), runtime, load)?;

    let mut rows = [
        // A batch of the queue has this many messages, and two batches are in flight.
        Row::new("redis-benchmark, 2 x 512"),
        Row::new("redis-benchmark, 50 x 16"),
        Row::new("redis-benchmark, 50 x 1"),
        Row::new("produced"),
        Row::new("consumed"),
        Row::new("produced, with keys"),
        Row::new("produced and consumed"),
    ];
    for round in 0..rounds {
        for place in 0..rows.len() {
            // Each round starts with another contender, so that the order varies.
            let place = (round + place) % rows.len();
            server.clear();
            let server = &mut server;
            let turn = match place {
                0 => plain(&port, load, 2, 512, server)?,
                1 => plain(&port, load, 50, 16, server)?,
                2 => plain(&port, Load { messages: load.messages / 5, ..load }, 50, 1, server)?,
                3 => measured(server, load, || queue.produce(Keys::None))?,
                4 => {
                    queue.produce(Keys::None)?;
                    measured(server, load, || queue.consume())?
                }
                5 => measured(server, load, || queue.produce(Keys::Each))?,
                _ => measured(server, load, || queue.produce_and_consume())?,
            };
            queue.end()?;
            rows[place].turns.push(turn);
            eprintln!("round {} of {rounds}: {} {:.0}", round + 1, rows[place].name, turn.per_second);
        }
    }
    println!("{} messages of {} bytes, {} rounds", load.messages, load.payload, rounds);
    println!("{}", table(&rows));
    Ok(())
}

/// Measures how long a turn takes, and the processor time it uses.
pub fn measured(server: &mut Server, load: Load, mut work: impl FnMut() -> Result<()>) -> Result<Turn> {
    let (before, client, began) = (server.work(), process_time(), Instant::now());
    work()?;
    let (took, client, after) = (began.elapsed(), process_time() - client, server.work());
    let each = |micros: f64| micros / load.messages as f64;
    Ok(Turn {
        per_second: load.messages as f64 / took.as_secs_f64(),
        script_micros: each((after.script_micros - before.script_micros) as f64),
        server_micros: each((after.server_micros - before.server_micros) as f64),
        client_micros: each(client.as_secs_f64() * 1e6),
    })
}

/// Returns the processor time of this process so far.
fn process_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}
