//! Measures steadfast beside its peers, in one process.
//!
//! `cargo run --release` prints a table, `cargo run --release -- --json` one JSON object; `--only rate` measures the
//! rows whose name contains "rate", `--who steadfast` only contestants of that name, and `--quick` less thoroughly.

mod allocations;
mod breaker;
mod budget;
mod by_hand;
mod floor;
mod gate;
mod harness;
mod in_flight;
mod keyed;
mod level;
mod pinning;
mod rate;
mod report;
mod services;
mod stacks;
mod table;
mod tally;
mod timeout;
mod turn;

use clap::Parser;
use harness::{Contestant, Effort, Row};
use report::{Measured, Report};
use std::{
    process::ExitCode,
    time::{Duration, Instant},
};
use tally::Turn;

/// Measures steadfast beside its peers.
#[derive(Parser)]
struct Args {
    /// Print one JSON object instead of a table.
    #[arg(long)]
    json: bool,
    /// Measure only the rows whose name contains this.
    #[arg(long, default_value = "")]
    only: String,
    /// Measure only the contestants whose name contains this, as for a profile of one of them.
    #[arg(long, default_value = "")]
    who: String,
    /// Measure for a shorter time each.
    #[arg(long)]
    quick: bool,
}

const THOROUGH: Effort =
    Effort { repetitions: 11, warm_up: Duration::from_millis(3), measured: Duration::from_millis(25) };
const QUICK: Effort = Effort { repetitions: 7, warm_up: Duration::from_millis(1), measured: Duration::from_millis(5) };

fn main() -> ExitCode {
    let args = Args::parse();
    let effort = if args.quick { QUICK } else { THOROUGH };
    let begin = Instant::now();
    let rows = rows(&args.only);
    let memory = keyed::memory::NAME.contains(&args.only);
    if rows.is_empty() && !memory {
        eprintln!("steadfast-peers: no row has {:?} in its name", args.only);
        return ExitCode::from(2);
    }
    let mut report = Report::new(args.quick);
    for row in rows {
        for threads in [1, 2] {
            report.rows.extend(measure(&row, &args.who, threads, effort));
        }
    }
    if memory {
        eprintln!("{}", keyed::memory::NAME);
        report.memory = keyed::memory::measure();
    }
    report.seconds = begin.elapsed().as_secs_f64();
    if args.json {
        println!("{}", serde_json::to_string(&report).expect("a report is plain data"));
    } else {
        println!("{}", report.table());
    }
    ExitCode::SUCCESS
}

/// Returns the rows whose name contains this.
fn rows(only: &str) -> Vec<Row> {
    let all = [
        rate::rows,
        keyed::rows,
        in_flight::rows,
        level::rows,
        breaker::rows,
        budget::rows,
        timeout::rows,
        stacks::rows,
        floor::rows,
    ];
    all.into_iter().flat_map(|rows| rows()).filter(|row| row.name.contains(only)).collect()
}

/// Lets the contestants of a row take turns, if their name contains `who`. Returns nothing if there are none.
fn measure(row: &Row, who: &str, threads: usize, effort: Effort) -> Option<Measured> {
    eprintln!("{}, {threads}", row.name);
    let mut turns: Vec<(&Contestant, Vec<Turn>)> = row
        .contestants
        .iter()
        .filter(|contestant| contestant.name.contains(who) && (threads == 1 || !contestant.alone))
        .map(|each| (each, Vec::new()))
        .collect();
    let count = turns.len();
    for round in 0..effort.repetitions {
        for place in 0..count {
            // Each round starts with another contestant, so that the order varies.
            let (contestant, turns) = &mut turns[(round + place) % count];
            let turn = contestant.turn(threads, effort, round == 0);
            assert_eq!(turn.wrong, 0, "{}: {} did not do what was expected", row.name, contestant.name);
            turns.push(turn);
        }
    }
    (count > 0).then(|| Measured::new(row, threads, &turns))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_chosen_by_a_part_of_their_name() {
        assert!(!rows("timeout").is_empty());
        assert!(rows("timeout").len() < rows("").len());
        assert!(rows("no such thing").is_empty());
    }
}
