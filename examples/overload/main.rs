//! What overload does to a service, and what this crate does about it.
//!
//! ```sh
//! cargo run --release --features http --example overload            # about two minutes
//! cargo run --release --features http --example overload -- --quick # less than a minute
//! ```
//!
//! The setting is as real as one machine allows. A hyper server speaks HTTP/2 over loopback TCP. Behind it are
//! 30 slots, each busy for 100 ms with every request, so its capacity is 300 requests per second: not an estimate,
//! but a fact, since every slot keeps exact account of its time (see `server.rs`). Before the slots is a queue
//! without a bound, as naive servers have it, and a request in it is worked on even when its caller is long gone.
//! The clients are an open loop: calls arrive as a Poisson process, seeded so that two runs are offered the same
//! calls, and no call waits for the answer to another, because a crowd of users does not either. Every caller gives
//! up after one second.
//!
//! **Unprotected**, the clients do what looks reasonable: a timeout on every attempt, three attempts. That works at
//! half the capacity. Past it the queue grows until every request in it is older than its caller's patience. From then
//! on the server works at full speed on requests that nobody waits for, and each of those callers tries twice more:
//! offered twice its capacity, the server sees six times, and answers in time almost nothing.
//!
//! **Protected**, the same server and the same clients each stand behind a stack of this crate, in `stacks.rs`. The
//! server bounds what it takes in and refuses the rest at once; the clients take a refusal for what it is, neither a
//! reason to try again nor a sign that the server is broken. Ten times the capacity then leaves goodput where it was,
//! at one attempt per call. It is the load shed that does it; that the circuit breaker, the retry budget and the rate
//! stay out of its way is as it should be, because a server that works at its capacity is not broken.
//!
//! The server's stack receives one number, the deadline of its callers, and finds its limit by itself. In the last step
//! of each mode the work takes three times as long from mid-run on, and the limit follows.
//!
//! A server that queues without a bound holds more with every multiple of its capacity: a task for each call that waits,
//! and the work of each that has gone. The protected one holds at 10 times what it holds at twice, since a refused call
//! leaves nothing behind. The table has the peaks of both; see `held.rs`.
//!
//! The run offers 0.5, 1, 2, 5 and 10 times the capacity, with a new server for each step, and counts the calls that
//! arrive after a short warm-up. It prints a table to standard output (`--json` adds a line of JSON) and draws
//! goodput against offered load, and the last steps over time, into `overload.svg` (`--svg` puts it elsewhere).
//!
//! Standard error shows the run while it goes on. On a terminal, a block changes four times a second. It has the calls
//! offered, those answered in time, and those that each mechanism stopped: the calls of the last second, the calls
//! counted so far, and the last ten seconds as bars. Each finished step leaves one line:
//!
//! ```text
//!   protected at   2x   608 offered   300 in time   308 load shed  p99 194 ms
//! Step 9 of 10, protected at 5x: measuring, 2.7 s left, 9.7 s in all
//!   calls          now/s   counted  the last ten seconds, up to 600/s
//!   offered         1456      3367  █████████████
//!   in time          298       622  ▄▄▄▄▄▄▄▄▄▄▄▄▄
//!   load shed       1158      2691  █████████████
//! ```
//!
//! Elsewhere, as in a log, there is one plain line for each step, and in a long step one every ten seconds. The table
//! reads the same counters.

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

/// Runs all steps, one after the other, and shows them.
fn measure(lengths: Lengths) -> Result<Report, Box<dyn Error>> {
    let mut report = Report::new();
    let display = Display::new();
    let modes = [Mode::Unprotected, Mode::Protected];
    let steady = MULTIPLES.map(|multiple| (multiple, Course::Steady));
    let courses = || steady.into_iter().chain([(SLOWDOWN_MULTIPLE, Course::Slowdown)]);
    let steps = modes.into_iter().flat_map(|mode| courses().map(move |(multiple, course)| (mode, multiple, course)));
    for (index, (mode, multiple, course)) in steps.enumerate() {
        let lengths = lengths.of(course);
        let calls = Arc::new(Calls::new(lengths.measured));
        let steps = modes.len() * courses().count();
        let step = Step { mode, multiple, course, number: index + 1, steps, lengths };
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
