//! What became of the calls, in counts, as a table and as JSON.

use crate::{
    client::Ending,
    scenario::{DEADLINE, Mode, capacity_rps},
};
use hdrhistogram::Histogram;
use serde::Serialize;
use std::{
    fmt::Display,
    io::{self, Write},
    time::Duration,
};

/// The mechanisms that may stop a call, by the names that a rejection gives them.
pub const MECHANISMS: [&str; 4] = ["timeout", "circuit_breaker", "load_shed", "rate_limit"];

/// The fates of the calls that arrived during the measured time of one step.
pub struct Tally {
    measured: Duration,
    calls: u64,
    /// Answers within the deadline: all that a caller has any use for.
    pub answered: u64,
    /// In the order of [`MECHANISMS`].
    stopped: [u64; MECHANISMS.len()],
    failed: u64,
    attempts: u64,
    /// Of the calls answered in time, in microseconds.
    latency: Histogram<u64>,
}

impl Tally {
    pub fn new(measured: Duration) -> Self {
        let latency = Histogram::new_with_max(micros(DEADLINE), 3).expect("constants that a histogram accepts");
        Self { measured, calls: 0, answered: 0, stopped: [0; MECHANISMS.len()], failed: 0, attempts: 0, latency }
    }

    pub fn arrived(&mut self) {
        self.calls += 1;
    }

    pub fn ended(&mut self, ending: Ending, attempts: u32, latency: Duration) {
        self.attempts += u64::from(attempts);
        let ending = match ending {
            Ending::Answered if latency > DEADLINE => Ending::Stopped("timeout"),
            ending => ending,
        };
        match ending {
            Ending::Answered => {
                self.answered += 1;
                self.latency.saturating_record(micros(latency));
            }
            Ending::Stopped(mechanism) => match MECHANISMS.iter().position(|name| *name == mechanism) {
                Some(index) => self.stopped[index] += 1,
                None => self.failed += 1,
            },
            Ending::Failed => self.failed += 1,
        }
    }

    pub fn not_answered(&self) -> u64 {
        self.stopped.iter().sum::<u64>() + self.failed
    }

    pub fn finished(&self) -> u64 {
        self.answered + self.not_answered()
    }

    pub fn unfinished(&self) -> u64 {
        self.calls - self.finished()
    }

    /// The figures per second and per call.
    pub fn row(&self, multiple: f64) -> Row {
        let rps = |count: u64| count as f64 / self.measured.as_secs_f64();
        let percentile = |quantile| (self.answered > 0).then(|| millis(self.latency.value_at_quantile(quantile)));
        let (offered_rps, goodput_rps) = (rps(self.calls), rps(self.answered));
        Row {
            multiple,
            offered_rps,
            goodput_rps,
            goodput_ratio: ratio(goodput_rps, offered_rps.min(capacity_rps())),
            attempts_per_call: ratio(self.attempts as f64, self.calls as f64),
            p50_ms: percentile(0.50),
            p99_ms: percentile(0.99),
            stopped_rps: self.stopped.map(rps),
            failed_rps: rps(self.failed + self.unfinished()),
        }
    }
}

/// One step of the run, in figures.
#[derive(Serialize)]
pub struct Row {
    multiple: f64,
    pub offered_rps: f64,
    pub goodput_rps: f64,
    /// Of what was possible: the smaller of the offered load and the capacity.
    goodput_ratio: f64,
    attempts_per_call: f64,
    /// Of the calls answered in time; `None` where there was no such call.
    p50_ms: Option<f64>,
    p99_ms: Option<f64>,
    #[serde(skip)]
    stopped_rps: [f64; MECHANISMS.len()],
    #[serde(skip)]
    failed_rps: f64,
}

/// The whole run.
#[derive(Serialize)]
pub struct Report {
    pub capacity_rps: f64,
    pub protected: Vec<Row>,
    pub unprotected: Vec<Row>,
}

impl Report {
    pub fn new() -> Self {
        Self { capacity_rps: capacity_rps(), protected: Vec::new(), unprotected: Vec::new() }
    }

    pub fn rows(&mut self, mode: Mode) -> &mut Vec<Row> {
        match mode {
            Mode::Unprotected => &mut self.unprotected,
            Mode::Protected => &mut self.protected,
        }
    }

    pub fn write_table(&self, output: &mut impl Write) -> io::Result<()> {
        for (mode, rows) in [(Mode::Unprotected, &self.unprotected), (Mode::Protected, &self.protected)] {
            write_line(output, "", COLUMNS.map(|(upper, _)| upper))?;
            write_line(output, mode.name(), COLUMNS.map(|(_, lower)| lower))?;
            for row in rows {
                write_line(output, &format!("{}x", row.multiple), row.cells())?;
            }
            writeln!(output)?;
        }
        writeln!(output, "Calls are per second. In time is within {} s. Possible is what was", DEADLINE.as_secs_f64())?;
        writeln!(output, "offered, up to the server's capacity of {:.0}.", self.capacity_rps)
    }
}

/// The heads of the columns, in two lines.
const COLUMNS: [(&str, &str); 11] = [
    ("", "offered"),
    ("in", "time"),
    ("of", "possible"),
    ("timed", "out"),
    ("breaker", "open"),
    ("load", "shed"),
    ("rate", "limited"),
    ("", "failed"),
    ("attempts", "per call"),
    ("p50", "ms"),
    ("p99", "ms"),
];

impl Row {
    /// In the order of [`COLUMNS`].
    fn cells(&self) -> [String; COLUMNS.len()] {
        let rounded = |number: f64| format!("{number:.0}");
        let [timed_out, breaker_open, load_shed, rate_limited] = self.stopped_rps.map(rounded);
        [
            rounded(self.offered_rps),
            rounded(self.goodput_rps),
            format!("{:.1}%", 100.0 * self.goodput_ratio),
            timed_out,
            breaker_open,
            load_shed,
            rate_limited,
            rounded(self.failed_rps),
            format!("{:.2}", self.attempts_per_call),
            self.p50_ms.map_or_else(none, rounded),
            self.p99_ms.map_or_else(none, rounded),
        ]
    }
}

fn write_line<T: Display>(output: &mut impl Write, first: &str, cells: [T; COLUMNS.len()]) -> io::Result<()> {
    // Room for the longer of the modes' names.
    write!(output, "{first:>11}")?;
    for (cell, (upper, lower)) in cells.into_iter().zip(COLUMNS) {
        write!(output, "  {cell:>width$}", width = upper.len().max(lower.len()))?;
    }
    writeln!(output)
}

fn none() -> String {
    "-".to_owned()
}

fn ratio(part: f64, whole: f64) -> f64 {
    if whole > 0.0 { part / whole } else { 0.0 }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

fn millis(micros: u64) -> f64 {
    micros as f64 / 1_000.0
}
