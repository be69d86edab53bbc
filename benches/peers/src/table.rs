//! The results as a table for people.

use crate::report::{Figures, Measured, Ratio, Report};
use comfy_table::{CellAlignment, Table, presets::NOTHING};

impl Report {
    pub fn table(&self) -> String {
        let mut table = Table::new();
        table.load_style(NOTHING).set_header(["", "1 thread", "ours is", "2 threads", "ours is", "allocations", ""]);
        for column in 1..6 {
            if let Some(column) = table.column_mut(column) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        for pair in self.rows.chunk_by(|one, other| one.name == other.name) {
            // Some contestants run on one thread only, none on two threads only.
            let Some(row) = pair.first() else { continue };
            let mark = if row.why_informational.is_some() { " *" } else { "" };
            table.add_row([format!("\n{}{mark}", row.name)]);
            for contestant in &row.all {
                table.add_row(line(pair, contestant));
            }
        }
        let versions: Vec<_> = self.versions.iter().map(|(name, version)| format!("{name} {version}")).collect();
        format!(
            "{}\n\n{}\
             Nanoseconds per operation of each thread: median (range), and how many times as long ours takes.\n\
             Two threads share one object. \"bare\" is the service without layers.\n\
             A row of two threads depends on how often a cache line changes hands: its ratio has its range over the \
             rounds.{}\n\
             * for information: no peer of the row does the work of ours, for the reason beside it.\n\
             A reason beside one peer means that this one does other work.\n\
             {}.\nMeasured in {:.0} s.",
            table.trim_fmt(),
            self.memory(),
            if self.quick { " Below 1.3x it is noise in a quick run." } else { "" },
            versions.join(", "),
            self.seconds,
        )
    }

    /// The bytes per key of each limiter, of few keys and of many.
    fn memory(&self) -> String {
        if self.memory.is_empty() {
            return String::new();
        }
        let few = self.memory.iter().map(|memory| memory.keys).min();
        let mut table = Table::new();
        table.load_style(NOTHING).set_header(["keyed rate limit: bytes per key", "keys", "bytes", "keys", "bytes"]);
        for name in self.memory.iter().filter(|memory| Some(memory.keys) == few).map(|memory| memory.name) {
            let of_it = self.memory.iter().filter(|memory| memory.name == name);
            let cells = of_it.flat_map(|memory| [memory.keys.to_string(), format!("{:.0}", memory.bytes_per_key)]);
            table.add_row([format!("  {name}")].into_iter().chain(cells));
        }
        format!("{}\n\n", table.trim_fmt())
    }
}

/// One contestant, on one and on two threads.
fn line(row: &[Measured], contestant: &Figures) -> [String; 7] {
    let on = |threads: usize| row.iter().find(|row| row.threads == threads)?.find(contestant.name);
    let one = on(1).and_then(|figures| figures.ratio).map(|ratio| format!("{:.2}x", ratio.of_medians));
    let allocations = row.iter().filter_map(|row| row.find(contestant.name)).map(|figures| figures.allocs);
    let first = row.first().is_some_and(|row| row.all.first().is_some_and(|first| first.name == contestant.name));
    let why = row.first().filter(|_| first).and_then(|row| row.why_informational);
    [
        format!("  {}", contestant.name),
        on(1).map(times).unwrap_or_default(),
        one.unwrap_or_default(),
        on(2).map(times).unwrap_or_default(),
        on(2).and_then(|figures| figures.ratio).map(with_range).unwrap_or_default(),
        allocations.fold(0.0, f64::max).to_string(),
        contestant.other_work.or(why).map(|why| format!("  * {why}")).unwrap_or_default(),
    ]
}

/// Formats the median and the range.
fn times(figures: Figures) -> String {
    let Figures { ns, min, max, .. } = figures;
    let digits = usize::from(ns < 100.0);
    format!("{ns:.digits$} ({min:.digits$}-{max:.digits$})")
}

fn with_range(ratio: Ratio) -> String {
    format!("{:.2}x ({:.2}-{:.2})", ratio.of_medians, ratio.min, ratio.max)
}
