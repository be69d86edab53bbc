//! The results as tables.

use crate::turn::{Turn, Workload};
use comfy_table::{CellAlignment, Table, presets::NOTHING};

/// All turns of a contender in one workload.
pub struct Row {
    pub name: &'static str,
    pub turns: Vec<Turn>,
    /// Whether a caller got no answer in one of the turns.
    pub hangs: bool,
    pub bytes_per_key: Option<f64>,
}

impl Row {
    fn median(&self, of: impl Fn(&Turn) -> f64) -> f64 {
        let mut all: Vec<f64> = self.turns.iter().map(of).collect();
        all.sort_by(f64::total_cmp);
        all.get(all.len() / 2).copied().unwrap_or(f64::NAN)
    }

    fn range(&self) -> (f64, f64) {
        let all = || self.turns.iter().map(|turn| turn.per_second);
        (all().fold(f64::INFINITY, f64::min), all().fold(0.0, f64::max))
    }
}

/// The medians of a workload, with their ratios to the row of this name.
pub fn table(workload: &Workload, rows: &[Row], base: &str) -> String {
    let of_base = rows.iter().find(|row| row.name == base).map_or(f64::NAN, |row| row.median(|turn| turn.per_second));
    let mut table = Table::new();
    table.load_style(NOTHING).set_header([
        "",
        "decisions/s",
        "(range)",
        "to plain",
        "admitted",
        "p50 us",
        "p99 us",
        "calls/decision",
        "script us",
        "server us",
        "bytes/key",
    ]);
    for row in rows {
        if row.hangs {
            table.add_row([row.name, "hangs"]);
            continue;
        }
        let (least, most) = row.range();
        let rate = row.median(|turn| turn.per_second);
        table.add_row([
            row.name.to_owned(),
            format!("{rate:.0}"),
            format!("{least:.0}-{most:.0}"),
            format!("{:.2}x", rate / of_base),
            format!("{:.1}%", 100.0 * row.median(|turn| turn.admitted)),
            short(row.median(|turn| turn.p50_micros)),
            short(row.median(|turn| turn.p99_micros)),
            format!("{:.5}", row.median(|turn| turn.calls_per_decision)),
            format!("{:.3}", row.median(|turn| turn.script_micros)),
            format!("{:.3}", row.median(|turn| turn.server_micros)),
            row.bytes_per_key.map_or("-".to_owned(), |bytes| format!("{bytes:.0}")),
        ]);
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    format!("{}, {} callers\n{table}\n", workload.name, workload.callers)
}

fn short(micros: f64) -> String {
    if micros < 10.0 { format!("{micros:.2}") } else { format!("{micros:.0}") }
}
