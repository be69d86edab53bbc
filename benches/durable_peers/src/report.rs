//! The figures as a table.

use crate::Turn;
use comfy_table::{CellAlignment, Table, presets::NOTHING};

/// All turns of one contender.
pub struct Row {
    pub name: &'static str,
    pub turns: Vec<Turn>,
}

impl Row {
    pub fn new(name: &'static str) -> Self {
        Self { name, turns: Vec::new() }
    }

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

/// The medians, with their ratios to the first row.
pub fn table(rows: &[Row]) -> Table {
    let of_first = rows.first().map_or(f64::NAN, |row| row.median(|turn| turn.per_second));
    let mut table = Table::new();
    table.load_style(NOTHING).set_header([
        "",
        "messages/s",
        "(range)",
        "to first",
        "script us",
        "server us",
        "client us",
    ]);
    for row in rows {
        let (rate, (least, most)) = (row.median(|turn| turn.per_second), row.range());
        let client = row.median(|turn| turn.client_micros);
        table.add_row([
            row.name.to_owned(),
            format!("{rate:.0}"),
            format!("{least:.0}-{most:.0}"),
            format!("{:.2}x", rate / of_first),
            format!("{:.2}", row.median(|turn| turn.script_micros)),
            format!("{:.2}", row.median(|turn| turn.server_micros)),
            if client.is_nan() { "-".to_owned() } else { format!("{client:.2}") },
        ]);
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}
