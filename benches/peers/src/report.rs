//! What was measured, as a table for people and as JSON for programs.

use crate::{
    harness::{Contestant, Role, Row},
    tally::Turn,
};
use comfy_table::{CellAlignment, Table, presets::NOTHING};
use serde::Serialize;
use std::collections::BTreeMap;

/// All rows of a run.
#[derive(Serialize)]
pub struct Report {
    versions: BTreeMap<&'static str, &'static str>,
    pub seconds: f64,
    pub rows: Vec<Measured>,
}

/// One row on one or two threads. Times are nanoseconds per operation of each thread: the median of all repetitions.
#[derive(Serialize)]
pub struct Measured {
    name: String,
    threads: usize,
    informational: bool,
    ours_ns: Option<f64>,
    ours_min: Option<f64>,
    ours_max: Option<f64>,
    ours_allocs: Option<f64>,
    best_peer: Option<&'static str>,
    best_peer_ns: Option<f64>,
    /// Ours to the best peer's.
    ratio: Option<f64>,
    floor_ns: Option<f64>,
    /// Ours to the floor.
    floor_ratio: Option<f64>,
    bare_ns: Option<f64>,
    peers: BTreeMap<&'static str, Figures>,
    /// All contestants in the order of their row.
    #[serde(skip)]
    all: Vec<(&'static str, Figures)>,
}

/// What one contestant took.
#[derive(Clone, Copy, Serialize)]
struct Figures {
    ns: f64,
    min: f64,
    max: f64,
    allocs: f64,
}

impl Figures {
    fn of(turns: &[Turn]) -> Self {
        let mut times: Vec<f64> = turns.iter().filter_map(|turn| turn.nanos).collect();
        times.sort_by(f64::total_cmp);
        let tenths = |value: f64| (value * 10.0).round() / 10.0;
        let at = |place: usize| tenths(times.get(place).copied().unwrap_or(f64::NAN));
        let allocations = turns.iter().map(|turn| turn.allocations).fold(0.0, f64::max);
        Self {
            ns: at(times.len() / 2),
            min: at(0),
            max: at(times.len().saturating_sub(1)),
            allocs: tenths(allocations),
        }
    }

    /// The median and the range.
    fn text(self) -> String {
        let Self { ns, min, max, .. } = self;
        let digits = usize::from(ns < 100.0);
        format!("{ns:.digits$} ({min:.digits$}-{max:.digits$})")
    }
}

impl Measured {
    pub fn new(row: &Row, threads: usize, turns: &[(&Contestant, Vec<Turn>)]) -> Self {
        let figures: Vec<_> = turns.iter().map(|(contestant, turns)| (*contestant, Figures::of(turns))).collect();
        let of =
            |role: Role| figures.iter().find(|(contestant, _)| contestant.role == role).map(|(_, figures)| *figures);
        let peers: BTreeMap<_, _> = figures
            .iter()
            .filter(|(contestant, _)| contestant.role == Role::Peer)
            .map(|(contestant, figures)| (contestant.name, *figures))
            .collect();
        let best = peers.iter().min_by(|one, other| one.1.ns.total_cmp(&other.1.ns));
        let (ours, floor) = (of(Role::Ours), of(Role::Floor));
        let ratio = |to: Option<f64>| Some(hundredths(ours?.ns / to?));
        Self {
            name: row.name.clone(),
            threads,
            informational: row.informational,
            ours_ns: ours.map(|figures| figures.ns),
            ours_min: ours.map(|figures| figures.min),
            ours_max: ours.map(|figures| figures.max),
            ours_allocs: ours.map(|figures| figures.allocs),
            best_peer: best.map(|(name, _)| *name),
            best_peer_ns: best.map(|(_, figures)| figures.ns),
            ratio: ratio(best.map(|(_, figures)| figures.ns)),
            floor_ns: floor.map(|figures| figures.ns),
            floor_ratio: ratio(floor.map(|figures| figures.ns)),
            bare_ns: of(Role::Bare).map(|figures| figures.ns),
            all: figures.iter().map(|(contestant, figures)| (contestant.name, *figures)).collect(),
            peers,
        }
    }

    fn find(&self, name: &str) -> Option<Figures> {
        self.all.iter().find(|(other, _)| *other == name).map(|(_, figures)| *figures)
    }
}

fn hundredths(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

impl Report {
    pub fn new() -> Self {
        Self { versions: versions(), seconds: 0.0, rows: Vec::new() }
    }

    pub fn table(&self) -> String {
        let mut table = Table::new();
        table.load_style(NOTHING).set_header(["", "1 thread", "ours is", "2 threads", "ours is", "allocations"]);
        for column in 1..6 {
            if let Some(column) = table.column_mut(column) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        for pair in self.rows.chunk_by(|one, other| one.name == other.name) {
            // Some contestants have one thread only, and none has the second alone.
            let Some(row) = pair.first() else { continue };
            let note = if row.informational { " *" } else { "" };
            table.add_row([format!("\n{}{note}", row.name)]);
            for (name, _) in &row.all {
                let on = |threads: usize| pair.iter().find(|row| row.threads == threads);
                let time = |threads: usize| on(threads)?.find(name).map(Figures::text);
                let times = |threads: usize| {
                    let (row, figures) = (on(threads)?, on(threads)?.find(name)?);
                    let ours = row.ours_ns.filter(|_| *name != OURS)?;
                    Some(format!("{:.2}x", ours / figures.ns))
                };
                let allocations = pair.iter().filter_map(|row| row.find(name)).map(|figures| figures.allocs);
                table.add_row([
                    format!("  {name}"),
                    time(1).unwrap_or_default(),
                    times(1).unwrap_or_default(),
                    time(2).unwrap_or_default(),
                    times(2).unwrap_or_default(),
                    allocations.fold(0.0, f64::max).to_string(),
                ]);
            }
        }
        let versions: Vec<_> = self.versions.iter().map(|(name, version)| format!("{name} {version}")).collect();
        format!(
            "{}\n\n\
             Nanoseconds per operation of each thread: median (range), and how many times as long ours takes.\n\
             Two threads share one object. \"bare\" is the service without layers.\n\
             * for information: no comparison, or not by the same clock.\n\
             {}.\nMeasured in {:.0} s.",
            table.trim_fmt(),
            versions.join(", "),
            self.seconds,
        )
    }
}

/// The name of ours among the contestants of a row.
pub const OURS: &str = "steadfast";

/// What was measured, as it is locked.
fn versions() -> BTreeMap<&'static str, &'static str> {
    const MEASURED: [&str; 13] = [
        "failsafe",
        "governor",
        "leaky-bucket",
        "ratelimit",
        "recloser",
        "steadfast",
        "tokio",
        "tower",
        "tower-resilience-bulkhead",
        "tower-resilience-circuitbreaker",
        "tower-resilience-ratelimiter",
        "tower-resilience-retry",
        "tower-resilience-timelimiter",
    ];
    let quoted = |line: &'static str| line.split('"').nth(1);
    let lines: Vec<&str> = include_str!("../Cargo.lock").lines().collect();
    let named = lines.windows(2).filter(|pair| pair[0].starts_with("name = "));
    let packages = named.filter_map(|pair| Some((quoted(pair[0])?, quoted(pair[1])?)));
    packages.filter(|(name, _)| MEASURED.contains(name)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_and_the_range_are_of_all_turns() {
        let turns = [3.0, 1.0, 2.0].map(|nanos| Turn { nanos: Some(nanos), allocations: 0.0, wrong: 0 });
        let figures = Figures::of(&turns);
        assert_eq!((figures.ns, figures.min, figures.max), (2.0, 1.0, 3.0));
    }

    #[test]
    fn every_rival_has_its_version() {
        assert_eq!(versions().len(), 13);
    }
}
