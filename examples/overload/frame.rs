//! The text of the display: the calls of the last second, and those of the step so far.

use super::{
    counts::{Counts, Ending, Rates},
    scenario::{Course, DEADLINE, Lengths, Mode, SLOWER, capacity_rps},
    tally::Calls,
};
use std::{collections::VecDeque, time::Duration};

/// How often the display takes a sample.
pub const INTERVAL: Duration = Duration::from_millis(250);

/// A rate covers this many intervals, which is one second.
const WINDOW: usize = 4;

/// A sparkline shows this many rates, which is ten seconds. The whole line then fits into 80 columns.
const SPARKS: usize = 40;

/// A line of text has at most this many columns.
pub const COLUMNS: usize = 79;

/// How many lines the block has.
pub const LINES: usize = Ending::ALL.len() + 4;

/// The index of the line about answers in time.
pub const GOODPUT_LINE: usize = 3;

/// One step of the run, as the display names it.
#[derive(Clone, Copy)]
pub struct Step {
    pub mode: Mode,
    pub multiple: f64,
    pub course: Course,
    /// From one.
    pub number: usize,
    pub steps: usize,
    pub lengths: Lengths,
    /// The time that the later steps take.
    pub further: Duration,
}

impl Step {
    /// The load, and what happens.
    fn load(&self) -> String {
        match self.course {
            Course::Steady => format!("{}x", self.multiple),
            Course::Slowdown => format!("{}x, {SLOWER}x slower", self.multiple),
        }
    }

    /// The phase of the step, and the time that is left.
    fn state(&self, elapsed: Duration) -> String {
        let Lengths { warm_up, measured } = self.lengths;
        let (phase, end) = if elapsed < warm_up {
            ("warming up", warm_up)
        } else if elapsed < warm_up + measured {
            ("measuring", warm_up + measured)
        } else {
            ("last calls", warm_up + measured + DEADLINE)
        };
        let all = self.lengths.whole().saturating_sub(elapsed) + self.further;
        format!("{phase}, {} left, {} in all", time(end.saturating_sub(elapsed)), time(all))
    }
}

/// The samples of one step, as far back as the display shows.
pub struct History {
    /// The samples of the last second. Before the first sample nothing was counted.
    samples: VecDeque<(Duration, Counts)>,
    rates: VecDeque<Rates>,
}

impl History {
    pub fn new() -> Self {
        Self { samples: [(Duration::ZERO, Counts::default())].into(), rates: VecDeque::new() }
    }

    /// Takes the counts at `elapsed` after the load began. Returns the calls per second of the last second, or since
    /// the load began if that is less.
    pub fn add(&mut self, elapsed: Duration, counts: Counts) -> Rates {
        let (since, earlier) = self.samples.front().copied().unwrap_or_default();
        let rates = counts.per_second_since(&earlier, elapsed.saturating_sub(since));
        self.samples.push_back((elapsed, counts));
        if self.samples.len() > WINDOW {
            self.samples.pop_front();
        }
        self.rates.push_back(rates);
        if self.rates.len() > SPARKS {
            self.rates.pop_front();
        }
        rates
    }
}

/// The block that is redrawn while a step runs.
pub fn block(step: &Step, elapsed: Duration, history: &mut History, calls: &Calls) -> [String; LINES] {
    let now = history.add(elapsed, calls.all());
    let counted = calls.counted.counts();
    let line = |name: &str, rate: f64, count: u64, rates: Vec<f64>| {
        format!("  {name:<12} {rate:>7.0} {count:>9}  {}", sparkline(&rates, full())).trim_end().to_owned()
    };
    let heights = format!("the last ten seconds, up to {:.0}/s", full());
    let mut lines = [const { String::new() }; LINES];
    let Step { mode, number, steps, .. } = step;
    lines[0] = format!("Step {number} of {steps}, {} at {}: {}", mode.name(), step.load(), step.state(elapsed));
    lines[1] = format!("  {:<12} {:>7} {:>9}  {}", "calls", "now/s", "counted", heights);
    lines[2] = line("offered", now.offered, counted.offered, history.rates.iter().map(|rates| rates.offered).collect());
    for (slot, ending) in lines[GOODPUT_LINE..].iter_mut().zip(Ending::ALL) {
        let rates = history.rates.iter().map(|rates| rates.of(ending)).collect();
        *slot = line(ending.name(), now.of(ending), counted.of(ending), rates);
    }
    let [p50, p99] = calls.counted.percentiles([0.50, 0.99]).map(|millis| millis.map_or("-".to_owned(), milliseconds));
    lines[LINES - 1] = format!("  of those counted in time, p50 {p50}, p99 {p99}");
    lines
}

/// One line about a step: calls per second, the most frequent endings first, cut at 79 columns.
pub fn summary(step: &Step, rates: &Rates, p99: Option<f64>) -> String {
    let mut line = format!(
        "{:>11} at {:>4} {:>5.0} offered {:>5.0} in time",
        step.mode.name(),
        step.load(),
        rates.offered,
        rates.of(Ending::Answered)
    );
    let mut others: Vec<_> = Ending::ALL.into_iter().filter(|ending| *ending != Ending::Answered).collect();
    others.sort_by(|one, other| rates.of(*other).total_cmp(&rates.of(*one)));
    let others = others.into_iter().map(|ending| (rates.of(ending), ending.name()));
    let others = others.filter(|(rate, _)| *rate > 0.5).map(|(rate, name)| format!(" {rate:>5.0} {name}"));
    let p99 = p99.map(|millis| format!("  p99 {}", milliseconds(millis)));
    for piece in others.chain(p99) {
        if line.chars().count() + piece.chars().count() > COLUMNS {
            break;
        }
        line += &piece;
    }
    line
}

/// The rate that fills a block: twice the capacity, in every line and step, so that all heights can be compared.
fn full() -> f64 {
    2.0 * capacity_rps()
}

/// One character for each rate. Zero is blank, any other rate is visible, and `full` or more is a whole block.
pub fn sparkline(rates: &[f64], full: f64) -> String {
    const HEIGHTS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let height = |rate: f64| if rate > 0.0 && full > 0.0 { (rate / full * 8.0).round().clamp(1.0, 8.0) } else { 0.0 };
    rates.iter().map(|rate| HEIGHTS[height(*rate) as usize]).collect()
}

/// A time in readable units: tenths of a second below ten seconds, minutes from two minutes on.
pub fn time(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    if seconds < 9.95 {
        format!("{seconds:.1} s")
    } else if seconds < 119.5 {
        format!("{seconds:.0} s")
    } else {
        format!("{:.0} min", seconds / 60.0)
    }
}

fn milliseconds(millis: f64) -> String {
    format!("{millis:.0} ms")
}
