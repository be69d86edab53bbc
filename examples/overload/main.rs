//! Shows what overload does to a service, and how this crate protects it.
//!
//! ```sh
//! cargo run --release --features http --example overload            # about two minutes
//! cargo run --release --features http --example overload -- --quick # less than a minute
//! ```
//!
//! The setting is as real as one machine allows. A hyper server speaks HTTP/2 over loopback TCP. It works on 30
//! requests at a time, in slots that each take 100 ms for every request. Its capacity is therefore 300 requests per
//! second. The capacity is exact: a timer that fires late delays one answer, and the slot's next request begins as if
//! the timer had been on time (see `server.rs`). Requests wait for a slot in an unbounded queue, as in many servers.
//! A queued request is processed even if its caller has left.
//!
//! The clients are an open loop: calls arrive as a Poisson process, and no call waits for the answer to another. The
//! arrivals are seeded, so that every run receives the same calls. Every caller gives up after one second.
//!
//! **Unprotected**, the clients do what looks reasonable: a timeout on every attempt, and three attempts. That works at
//! half the capacity. Above the capacity, the queue grows until every request in it is older than its caller's
//! deadline. From then on the server works at full speed on requests without a waiting caller, and each caller sends
//! two more attempts. At twice its capacity of calls, the server receives six times its capacity of attempts, and
//! answers almost none in time.
//!
//! **Protected**, the same server and the same clients each have a stack of this crate (`stacks.rs`). The server bounds
//! what it admits and refuses the rest at once. The clients neither retry a refusal nor count it as a failure. At ten
//! times the capacity, goodput is then unchanged, at one attempt per call. The load shed does this. The circuit breaker
//! and the retry budget stay out of its way, because a server that works at its capacity is not broken.
//!
//! The server's stack is configured with one number, the deadline of its callers, and finds its limit by itself. In the
//! last step of each mode, the work takes three times as long from mid-run on, and the limit follows.
//!
//! A server with an unbounded queue holds more memory with every multiple of its capacity: a task for each waiting
//! call, and the work of each call whose caller has left. The protected server holds as much at 10 times its capacity
//! as at twice, because a refused call leaves nothing behind. The table shows each server's peaks of tasks and bytes
//! (`held.rs`).
//!
//! The run offers 0.5, 1, 2, 5 and 10 times the capacity, with a new server for each step. It counts the calls that
//! arrive after a short warm-up. It prints a table to standard output (`--json` adds a line of JSON). It draws goodput
//! against offered load, and the last steps over time, into `overload.svg` (`--svg` names another file).
//!
//! Standard error shows the run live. On a terminal, a block changes four times a second. It shows the calls offered,
//! those answered in time, and those that each mechanism stopped: of the last second, counted so far, and as bars for
//! the last ten seconds. Each finished step leaves one line:
//!
//! ```text
//!   protected at   2x   608 offered   300 in time   308 load shed  p99 194 ms
//! Step 10 of 12, protected at 5x: measuring, 2.7 s left, 35 s in all
//!   calls          now/s   counted  the last ten seconds, up to 600/s
//!   offered         1456      3367  █████████████
//!   in time          298       622  ▄▄▄▄▄▄▄▄▄▄▄▄▄
//!   load shed       1158      2691  █████████████
//! ```
//!
//! Without a terminal, as in a log, each step prints one line, and a long step one more every ten seconds. The table
//! uses the same counters.

mod args;
mod client;
mod counts;
mod frame;
mod held;
mod picture;
#[path = "../support/plot.rs"]
mod plot;
mod progress;
mod report;
mod run;
mod scenario;
mod server;
mod stacks;
mod tally;

use crate::{
    args::Arguments,
    frame::Step,
    progress::Display,
    report::{Report, Row},
    scenario::{Course, Lengths, MULTIPLES, Mode, SLOWDOWN_MULTIPLE},
    tally::Calls,
};
use std::{
    error::Error,
    io::{self, Write},
    process::ExitCode,
    sync::Arc,
};

fn main() -> ExitCode {
    let arguments = match Arguments::read() {
        Ok(arguments) => arguments,
        Err(exit) => return exit,
    };
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("overload: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<(), Box<dyn Error>> {
    let report = measure(arguments.lengths())?;
    match print(&report, arguments.json) {
        // The reader of the table may close the pipe early.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
        printed => printed?,
    }
    let path = &arguments.svg;
    picture::write(&report, path).map_err(|error| format!("cannot write {path:?}: {error}"))?;
    eprintln!("The picture is in {}.", path.display());
    Ok(())
}

/// Runs all steps in sequence, and shows them.
fn measure(lengths: Lengths) -> Result<Report, Box<dyn Error>> {
    let mut report = Report::new();
    let display = Display::new();
    let modes = [Mode::Unprotected, Mode::Protected];
    let steady = MULTIPLES.map(|multiple| (multiple, Course::Steady));
    let courses = || steady.into_iter().chain([(SLOWDOWN_MULTIPLE, Course::Slowdown)]);
    let of_mode = |mode| courses().map(move |(multiple, course)| (mode, multiple, course));
    let steps: Vec<_> = modes.into_iter().flat_map(of_mode).collect();
    for (index, &(mode, multiple, course)) in steps.iter().enumerate() {
        let further = steps[index + 1..].iter().map(|(_, _, course)| lengths.of(*course).whole()).sum();
        let lengths = lengths.of(course);
        let calls = Arc::new(Calls::new(lengths.measured));
        let step = Step { mode, multiple, course, number: index + 1, steps: steps.len(), lengths, further };
        let watch = display.watch(step, calls.clone());
        run::step(&step, &calls)?;
        watch.finish();
        match course {
            Course::Steady => report.rows(mode).push(Row::new(multiple, &calls.counted)),
            Course::Slowdown => report.slowdown.add(mode, lengths, &calls),
        }
    }
    Ok(report)
}

fn print(report: &Report, json: bool) -> io::Result<()> {
    let mut output = io::stdout().lock();
    report.write_table(&mut output)?;
    if json {
        writeln!(output, "\n{}", serde_json::to_string(report)?)?;
    }
    output.flush()
}
