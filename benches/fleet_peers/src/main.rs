//! Measures limits over Redis side by side, in one process, on a `redis-server` of its own.
//!
//! `cargo run --release` prints the tables; with `--quick` it takes less than a minute. All contenders of a workload
//! take turns, each in a runtime of two threads and on an empty database. The figures are medians of the rounds.

#[path = "../../peers/src/allocations.rs"]
mod allocations;
mod contexts;
mod held;
mod limits;
#[allow(dead_code, reason = "shared with tests that use more of it")]
#[path = "../../../tests/support/redis.rs"]
mod redis_server;
mod report;
mod server;
mod turn;

use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};
use limits::{
    Exact, KEYS, Leased, Limitador, LimitadorCached, Opened, Plain, Terms, Trypema, TrypemaHybrid, WriteBehind,
};
use redis_server::RedisServer;
use report::{Row, table};
use server::Server;
use std::{process::ExitCode, time::Duration};
use turn::{Effort, Turn, Workload, memory, turn};

/// Measures limits over Redis side by side.
#[derive(Parser)]
struct Args {
    /// Measure for a shorter time each.
    #[arg(long)]
    quick: bool,
    /// Measure only contenders whose name contains one of these, separated by commas.
    #[arg(long, default_value = "")]
    only: String,
}

const THOROUGH: Effort =
    Effort { rounds: 7, warm_up: Duration::from_millis(300), measured: Duration::from_millis(500) };
const QUICK: Effort = Effort { rounds: 3, warm_up: Duration::from_millis(130), measured: Duration::from_millis(120) };

/// More tokens than the callers can take.
const PLENTY: Terms = Terms { tokens: 1_000_000_000, seconds: 1 };
/// A tenth of the throughput of the slowest contender, or less.
const SCARCE: Terms = Terms { tokens: 1000, seconds: 1 };

struct Contender {
    name: &'static str,
    turn: fn(&mut Server, &str, Workload, Effort) -> Opened<Option<Turn>>,
    memory: fn(&mut Server, &str) -> Opened<Option<f64>>,
}

macro_rules! contender {
    ($name:literal, $limit:ty) => {
        Contender { name: $name, turn: turn::<$limit>, memory: memory::<$limit> }
    };
}

const PLAIN: &str = "plain script";
const CONTENDERS: [Contender; 8] = [
    contender!("steadfast Exact", Exact),
    contender!("steadfast Leased", Leased),
    contender!("steadfast WriteBehind", WriteBehind),
    contender!("plain script", Plain),
    contender!("limitador", Limitador),
    contender!("limitador, cached", LimitadorCached),
    contender!("trypema", Trypema),
    contender!("trypema, hybrid", TrypemaHybrid),
];

fn main() -> ExitCode {
    let args = Args::parse();
    if let Some(reason) = redis_server::missing() {
        eprintln!("steadfast-fleet-peers: {reason}");
        return ExitCode::from(2);
    }
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("steadfast-fleet-peers: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Opened<()> {
    let effort = if args.quick { QUICK } else { THOROUGH };
    let starting = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let redis = starting.block_on(RedisServer::start());
    let (url, mut server) = (redis.url(), Server::connect(&redis.url()));
    let contenders: Vec<_> =
        CONTENDERS.iter().filter(|contender| args.only.split(',').any(|part| contender.name.contains(part))).collect();
    let workloads = workloads();
    let bar = ProgressBar::new((contenders.len() * (1 + workloads.len() * effort.rounds)) as u64);
    bar.set_style(ProgressStyle::with_template("{bar:40} {pos}/{len} {elapsed} {wide_msg}")?);
    let held = held::measure(&mut server, &url)?;
    let mut bytes = Vec::new();
    for contender in &contenders {
        bar.set_message(format!("memory, {}", contender.name));
        bytes.push((contender.memory)(&mut server, &url)?);
        bar.inc(1);
    }
    let mut tables = Vec::new();
    for workload in &workloads {
        let row = |(contender, bytes): (&&Contender, &Option<f64>)| Row {
            name: contender.name,
            turns: Vec::new(),
            hangs: false,
            bytes_per_key: *bytes,
        };
        let mut rows: Vec<Row> = contenders.iter().zip(&bytes).map(row).collect();
        for round in 0..effort.rounds {
            for place in 0..contenders.len() {
                // Each round starts with another contender, so that the order varies.
                let place = (round + place) % contenders.len();
                let contender = contenders[place];
                bar.set_message(format!("{}, {} callers, {}", workload.name, workload.callers, contender.name));
                if !rows[place].hangs {
                    let turn = (contender.turn)(&mut server, &url, *workload, effort)?;
                    rows[place].hangs = turn.is_none();
                    rows[place].turns.extend(turn);
                }
                bar.inc(1);
            }
        }
        tables.push(table(workload, &rows, PLAIN));
    }
    bar.finish_and_clear();
    tables.iter().for_each(|table| println!("{table}"));
    println!(
        "Leased with held credit, one thread: try_acquire {:.1} ns, acquire {:.1} ns, {} allocations",
        held.try_acquire_nanos, held.acquire_nanos, held.allocations
    );
    Ok(())
}

fn workloads() -> Vec<Workload> {
    let kinds = [("one hot key", 1, PLENTY), ("10,000 keys", KEYS, PLENTY), ("one hot key, most refused", 1, SCARCE)];
    let of = |(name, keys, terms)| [64, 256].map(|callers| Workload { name, keys, callers, terms });
    kinds.into_iter().flat_map(of).collect()
}
