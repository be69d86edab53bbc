//! Shows the run on standard error: a block that changes on a terminal, plain lines elsewhere.

use crate::{
    frame::{self, GOODPUT_LINE, History, INTERVAL, LINES, Step},
    tally::Calls,
};
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::{
    env,
    io::{IsTerminal, stderr},
    sync::{
        Arc,
        mpsc::{self, Receiver, RecvTimeoutError, Sender},
    },
    thread::{self, JoinHandle},
    time::Duration,
};
use tokio::time::Instant;

/// Without a terminal, a long step prints a line this often.
const PLAIN_INTERVAL: Duration = Duration::from_secs(10);

/// What the run writes to standard error.
pub struct Display {
    block: Option<Block>,
}

impl Display {
    pub fn new() -> Self {
        let can_redraw = stderr().is_terminal() && env::var_os("TERM").is_none_or(|name| name != "dumb");
        eprintln!("Calls per second, in each step:");
        Self { block: can_redraw.then(Block::new) }
    }

    /// Shows the step until it is finished or dropped.
    pub fn watch(&self, step: Step, calls: Arc<Calls>) -> Watch<'_> {
        let (stop, stopped) = mpsc::channel();
        let block = self.block.clone();
        let thread = {
            let calls = calls.clone();
            // On a thread of its own, so that a slow terminal delays neither the clients nor the server.
            thread::spawn(move || match block {
                Some(block) => redraw(&block, &step, &calls, &stopped),
                None => report(&step, &calls, &stopped),
            })
        };
        Watch { display: self, step, calls, running: Some((stop, thread)) }
    }

    /// Prints a line that remains.
    fn say(&self, line: &str) {
        match &self.block {
            // A closed terminal does not end the run.
            Some(block) => drop(block.lines.println(line)),
            None => eprintln!("{line}"),
        }
    }
}

impl Drop for Display {
    fn drop(&mut self) {
        if let Some(block) = &self.block {
            block.bars.iter().for_each(ProgressBar::finish_and_clear);
            // Separates the table.
            eprintln!();
        }
    }
}

/// A step that is shown while it runs.
pub struct Watch<'a> {
    display: &'a Display,
    step: Step,
    calls: Arc<Calls>,
    running: Option<(Sender<()>, JoinHandle<()>)>,
}

impl Watch<'_> {
    /// Prints the result of the calls, with the counters of the report.
    pub fn finish(mut self) {
        self.stop();
        let tally = &self.calls.counted;
        let [p99] = tally.percentiles([0.99]);
        self.display.say(&frame::summary(&self.step, &tally.rates(), p99));
    }

    fn stop(&mut self) {
        if let Some((stop, thread)) = self.running.take() {
            drop(stop);
            let _ = thread.join();
        }
    }
}

impl Drop for Watch<'_> {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The lines that are redrawn, each cut to the width of the terminal.
#[derive(Clone)]
struct Block {
    lines: MultiProgress,
    bars: [ProgressBar; LINES],
}

impl Block {
    fn new() -> Self {
        // Each change of a line draws the block. The limit of 100 drawings per second is above LINES per interval, so
        // no line is ever stale.
        let lines = MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(100));
        let bars = std::array::from_fn(|index| {
            // Coloured only where the terminal supports it, and without NO_COLOR.
            let template = if index == GOODPUT_LINE { "{wide_msg:.green}" } else { "{wide_msg}" };
            let bar = lines.add(ProgressBar::no_length());
            // The templates are constants; if one were wrong, the default would do.
            bar.set_style(ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar
        });
        Self { lines, bars }
    }
}

fn redraw(block: &Block, step: &Step, calls: &Calls, stopped: &Receiver<()>) {
    let mut history = History::new();
    while stopped.recv_timeout(INTERVAL) == Err(RecvTimeoutError::Timeout) {
        let Some(elapsed) = calls.elapsed(Instant::now()) else { continue };
        for (bar, line) in block.bars.iter().zip(frame::block(step, elapsed, &mut history, calls)) {
            if bar.message() != line {
                bar.set_message(line);
            }
        }
    }
}

fn report(step: &Step, calls: &Calls, stopped: &Receiver<()>) {
    let mut before = calls.all();
    while stopped.recv_timeout(PLAIN_INTERVAL) == Err(RecvTimeoutError::Timeout) {
        let now = calls.all();
        let [p99] = calls.counted.percentiles([0.99]);
        eprintln!("{}", frame::summary(step, &now.per_second_since(&before, PLAIN_INTERVAL), p99));
        before = now;
    }
}
