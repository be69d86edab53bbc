//! The results of the calls, per second and per call, as a table and as JSON.

use super::{
    counts::{Ending, Rates},
    scenario::{Course, DEADLINE, Lengths, Mode, SLOWDOWN_MULTIPLE, SLOWER, capacity_rps, slow_capacity_rps},
    tally::{Calls, Tally},
};
use serde::Serialize;
use std::{
    fmt::Display,
    io::{self, Write},
};

/// One step of the run, in figures.
#[derive(Serialize)]
pub struct Row {
    multiple: f64,
    pub offered_rps: f64,
    pub goodput_rps: f64,
    /// As a share of the possible goodput: the smaller of the offered load and the capacity.
    goodput_ratio: f64,
    attempts_per_call: f64,
    /// Of the calls answered in time; `None` if there were none.
    p50_ms: Option<f64>,
    p99_ms: Option<f64>,
    /// The most tasks of the server that were alive at one moment of the measured time.
    peak_tasks: u64,
    /// The most bytes that the server's threads had allocated and not freed.
    peak_bytes: u64,
    #[serde(skip)]
    rates: Rates,
}

/// The whole run.
#[derive(Serialize)]
pub struct Report {
    pub capacity_rps: f64,
    pub protected: Vec<Row>,
    pub unprotected: Vec<Row>,
    pub slowdown: Slowdown,
}

/// The step in which the service time grows.
#[derive(Default, Serialize)]
pub struct Slowdown {
    pub capacity_rps: f64,
    /// When the service time grows, in seconds since the load began.
    pub slow_at: f64,
    pub protected: Option<SlowRun>,
    pub unprotected: Option<SlowRun>,
}

/// The result of a step.
#[derive(Serialize)]
pub struct SlowRun {
    /// Of the calls that arrived after the server had settled.
    pub goodput_rps: f64,
    pub goodput_ratio: f64,
    /// Answers in time per second, over the whole step.
    pub answers: Vec<(f64, f64)>,
}

impl Slowdown {
    /// Records a run.
    pub fn add(&mut self, mode: Mode, lengths: Lengths, calls: &Calls) {
        self.capacity_rps = slow_capacity_rps();
        self.slow_at = lengths.slow_after(Course::Slowdown).unwrap_or_default().as_secs_f64();
        let goodput_rps = calls.counted.rates().of(Ending::Answered);
        let goodput_ratio = ratio(goodput_rps, self.capacity_rps);
        let run = Some(SlowRun { goodput_rps, goodput_ratio, answers: calls.answers() });
        match mode {
            Mode::Protected => self.protected = run,
            Mode::Unprotected => self.unprotected = run,
        }
    }

    fn of(&self, mode: Mode) -> Option<&SlowRun> {
        match mode {
            Mode::Protected => self.protected.as_ref(),
            Mode::Unprotected => self.unprotected.as_ref(),
        }
    }
}

impl Report {
    pub fn new() -> Self {
        Self {
            capacity_rps: capacity_rps(),
            protected: Vec::new(),
            unprotected: Vec::new(),
            slowdown: Slowdown::default(),
        }
    }

    pub fn rows(&mut self, mode: Mode) -> &mut Vec<Row> {
        match mode {
            Mode::Unprotected => &mut self.unprotected,
            Mode::Protected => &mut self.protected,
        }
    }

    pub fn write_table(&self, output: &mut impl Write) -> io::Result<()> {
        for (mode, rows) in [(Mode::Unprotected, &self.unprotected), (Mode::Protected, &self.protected)] {
            writeln!(output, "{}", mode.name())?;
            write_line(output, "", COLUMNS.map(|(upper, _)| upper))?;
            write_line(output, "", COLUMNS.map(|(_, lower)| lower))?;
            for row in rows {
                write_line(output, &format!("{}x", row.multiple), row.cells())?;
            }
            if let Some(run) = self.slowdown.of(mode) {
                writeln!(
                    output,
                    "{SLOWDOWN_MULTIPLE}x with work that takes {SLOWER}x as long from mid-run on, once it has settled: \
                     {:.0} in time, {:.1}%",
                    run.goodput_rps,
                    100.0 * run.goodput_ratio
                )?;
                writeln!(output, "of the capacity that is left.")?;
            }
            writeln!(output)?;
        }
        writeln!(
            output,
            "Calls are per second. In time is within {} s. The best is what was offered,",
            DEADLINE.as_secs_f64()
        )?;
        writeln!(
            output,
            "up to the server's capacity of {:.0}. Open: the circuit breaker stopped them.",
            self.capacity_rps
        )?;
        writeln!(output, "Sent each: attempts per call. Peak: live tasks and bytes of the server.")
    }
}

/// The column headings, in two lines.
const COLUMNS: [(&str, &str); 12] = [
    ("", "calls"),
    ("in", "time"),
    ("% of", "best"),
    ("timed", "out"),
    ("", "open"),
    ("load", "shed"),
    ("", "failed"),
    ("sent", "each"),
    ("p50", "ms"),
    ("p99", "ms"),
    ("peak", "tasks"),
    ("peak", "MiB"),
];

impl Row {
    pub fn new(multiple: f64, tally: &Tally) -> Self {
        let rates = tally.rates();
        let [p50_ms, p99_ms] = tally.percentiles([0.50, 0.99]);
        let goodput_rps = rates.of(Ending::Answered);
        let peak = tally.peak();
        Self {
            multiple,
            offered_rps: rates.offered,
            goodput_rps,
            goodput_ratio: ratio(goodput_rps, rates.offered.min(capacity_rps())),
            attempts_per_call: ratio(tally.attempts() as f64, tally.counts().offered as f64),
            p50_ms,
            p99_ms,
            peak_tasks: peak.tasks,
            peak_bytes: peak.bytes,
            rates,
        }
    }

    /// In the order of [`COLUMNS`].
    fn cells(&self) -> [String; COLUMNS.len()] {
        let rounded = |number: f64| format!("{number:.0}");
        [
            rounded(self.offered_rps),
            rounded(self.goodput_rps),
            format!("{:.1}", 100.0 * self.goodput_ratio),
            rounded(self.rates.of(Ending::TimedOut)),
            rounded(self.rates.of(Ending::BreakerOpen)),
            rounded(self.rates.of(Ending::LoadShed)),
            rounded(self.rates.of(Ending::Failed)),
            format!("{:.2}", self.attempts_per_call),
            self.p50_ms.map_or_else(none, rounded),
            self.p99_ms.map_or_else(none, rounded),
            self.peak_tasks.to_string(),
            format!("{:.1}", self.peak_bytes as f64 / f64::from(1 << 20)),
        ]
    }
}

fn write_line<T: Display>(output: &mut impl Write, first: &str, cells: [T; COLUMNS.len()]) -> io::Result<()> {
    // As wide as the longest multiple, which keeps a line within 80 columns.
    write!(output, "{first:>4}")?;
    for (index, (cell, (upper, lower))) in cells.into_iter().zip(COLUMNS).enumerate() {
        let gap = if index == 0 { " " } else { "  " };
        write!(output, "{gap}{cell:>width$}", width = upper.len().max(lower.len()))?;
    }
    writeln!(output)
}

fn none() -> String {
    "-".to_owned()
}

fn ratio(part: f64, whole: f64) -> f64 {
    if whole > 0.0 { part / whole } else { 0.0 }
}
