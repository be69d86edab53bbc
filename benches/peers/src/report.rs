//! The results as JSON for programs.

use crate::{
    harness::{Contestant, Role, Row},
    keyed::memory::Memory,
    tally::Turn,
};
use serde::Serialize;
use std::collections::BTreeMap;

/// All rows of a run.
#[derive(Serialize)]
pub struct Report {
    pub versions: BTreeMap<&'static str, &'static str>,
    pub quick: bool,
    pub seconds: f64,
    pub rows: Vec<Measured>,
    pub memory: Vec<Memory>,
}

/// One row on one or two threads. Times are nanoseconds per operation of each thread: the median of all repetitions.
#[derive(Serialize)]
pub struct Measured {
    pub name: String,
    pub threads: usize,
    /// True if no peer does the same work as ours.
    informational: bool,
    /// Why the row is informational only.
    pub why_informational: Option<&'static str>,
    ours_ns: Option<f64>,
    ours_min: Option<f64>,
    ours_max: Option<f64>,
    ours_allocs: Option<f64>,
    /// The fastest of the peers that do the same work as ours; of all peers if none does.
    best_peer: Option<&'static str>,
    best_peer_ns: Option<f64>,
    /// The ratio of our time to the best peer's: of the medians, and its range over the rounds.
    ratio: Option<f64>,
    ratio_min: Option<f64>,
    ratio_max: Option<f64>,
    floor_ns: Option<f64>,
    /// The ratio of our time to the floor's.
    floor_ratio: Option<f64>,
    bare_ns: Option<f64>,
    peers: BTreeMap<&'static str, Figures>,
    /// All contestants in the order of their row.
    #[serde(skip)]
    pub all: Vec<Figures>,
}

/// The result of one contestant.
#[derive(Clone, Copy, Serialize)]
pub struct Figures {
    #[serde(skip)]
    pub name: &'static str,
    #[serde(skip)]
    pub role: Role,
    pub ns: f64,
    pub min: f64,
    pub max: f64,
    pub allocs: f64,
    /// The ratio of our time to this one's.
    pub ratio: Option<Ratio>,
    /// Why its time is not comparable with ours.
    pub other_work: Option<&'static str>,
}

/// A ratio of our time to another's.
#[derive(Clone, Copy, Serialize)]
pub struct Ratio {
    pub of_medians: f64,
    /// The range over the rounds, in each of which both took their turns in immediate succession.
    pub min: f64,
    pub max: f64,
}

impl Figures {
    fn of(contestant: &Contestant, turns: &[Turn]) -> Self {
        let mut times: Vec<f64> = turns.iter().filter_map(|turn| turn.nanos).collect();
        times.sort_by(f64::total_cmp);
        let tenths = |value: f64| (value * 10.0).round() / 10.0;
        let at = |place: usize| tenths(times.get(place).copied().unwrap_or(f64::NAN));
        let allocations = turns.iter().map(|turn| turn.allocations).fold(0.0, f64::max);
        Self {
            name: contestant.name,
            role: contestant.role,
            ns: at(times.len() / 2),
            min: at(0),
            max: at(times.len().saturating_sub(1)),
            allocs: tenths(allocations),
            ratio: None,
            other_work: contestant.other_work,
        }
    }
}

impl Ratio {
    fn of(ours: (Figures, &[Turn]), other: (Figures, &[Turn])) -> Option<Self> {
        let rounds = ours.1.iter().zip(other.1);
        let mut ratios: Vec<_> = rounds.filter_map(|(ours, other)| Some(ours.nanos? / other.nanos?)).collect();
        ratios.sort_by(f64::total_cmp);
        let (min, max) = (hundredths(*ratios.first()?), hundredths(*ratios.last()?));
        Some(Self { of_medians: hundredths(ours.0.ns / other.0.ns), min, max })
    }
}

impl Measured {
    pub fn new(row: &Row, threads: usize, turns: &[(&Contestant, Vec<Turn>)]) -> Self {
        let mut all: Vec<_> = turns.iter().map(|(contestant, turns)| Figures::of(contestant, turns)).collect();
        let ours = all.iter().position(|figures| figures.role == Role::Ours);
        for other in 0..all.len() {
            let pair = ours.filter(|ours| *ours != other).map(|ours| [ours, other].map(|at| (all[at], &*turns[at].1)));
            all[other].ratio = pair.and_then(|[ours, other]| Ratio::of(ours, other));
        }
        let ours = ours.map(|at| all[at]);
        let of = |role: Role| all.iter().find(|figures| figures.role == role).copied();
        let peers = || all.iter().filter(|figures| figures.role == Role::Peer);
        let fastest = |of: &mut dyn Iterator<Item = Figures>| of.min_by(|one, other| one.ns.total_cmp(&other.ns));
        let equal = fastest(&mut peers().copied().filter(|figures| figures.other_work.is_none()));
        let best = equal.or_else(|| fastest(&mut peers().copied()));
        let why_informational = row.informational.or(best.and_then(|figures| figures.other_work));
        Self {
            name: row.name.clone(),
            threads,
            informational: why_informational.is_some(),
            why_informational,
            ours_ns: ours.map(|figures| figures.ns),
            ours_min: ours.map(|figures| figures.min),
            ours_max: ours.map(|figures| figures.max),
            ours_allocs: ours.map(|figures| figures.allocs),
            best_peer: best.map(|figures| figures.name),
            best_peer_ns: best.map(|figures| figures.ns),
            ratio: best.and_then(|figures| Some(figures.ratio?.of_medians)),
            ratio_min: best.and_then(|figures| Some(figures.ratio?.min)),
            ratio_max: best.and_then(|figures| Some(figures.ratio?.max)),
            floor_ns: of(Role::Floor).map(|figures| figures.ns),
            floor_ratio: of(Role::Floor).and_then(|figures| Some(figures.ratio?.of_medians)),
            bare_ns: of(Role::Bare).map(|figures| figures.ns),
            peers: peers().map(|figures| (figures.name, *figures)).collect(),
            all,
        }
    }

    pub fn find(&self, name: &str) -> Option<Figures> {
        self.all.iter().find(|figures| figures.name == name).copied()
    }
}

fn hundredths(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

impl Report {
    pub fn new(quick: bool) -> Self {
        Self { versions: versions(), quick, seconds: 0.0, rows: Vec::new(), memory: Vec::new() }
    }
}

/// The versions of the contestants in the lockfile.
fn versions() -> BTreeMap<&'static str, &'static str> {
    const MEASURED: [&str; 15] = [
        "failsafe",
        "governor",
        "leaky-bucket",
        "rate-net",
        "ratelimit",
        "recloser",
        "steadfast",
        "throttle-net",
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

    fn turns(nanos: [f64; 3]) -> Vec<Turn> {
        nanos.map(|nanos| Turn { nanos: Some(nanos), allocations: 0.0, wrong: 0 }).to_vec()
    }

    fn contestant(role: Role, name: &'static str) -> Contestant {
        Contestant::on_threads(role, name, || (), |_| true)
    }

    #[test]
    fn the_median_and_the_range_are_of_all_turns() {
        let figures = Figures::of(&contestant(Role::Peer, "peer"), &turns([3.0, 1.0, 2.0]));
        assert_eq!((figures.ns, figures.min, figures.max), (2.0, 1.0, 3.0));
    }

    #[test]
    fn a_ratio_is_of_the_medians_and_its_range_is_of_the_rounds() {
        let contestants = vec![contestant(Role::Peer, "peer"), contestant(Role::Ours, "ours")];
        let row = Row::new("row", contestants);
        let turns = [turns([1.0, 2.0, 4.0]), turns([4.0, 4.0, 2.0])];
        let measured = Measured::new(&row, 2, &row.contestants.iter().zip(turns).collect::<Vec<_>>());
        assert_eq!((measured.ratio, measured.ratio_min, measured.ratio_max), (Some(2.0), Some(0.5), Some(4.0)));
        assert!(!measured.informational);
    }

    #[test]
    fn a_peer_that_does_other_work_is_no_measure_while_another_is_there() {
        let faster = || contestant(Role::Peer, "faster").other_work("reads no clock");
        let ours = || contestant(Role::Ours, "ours");
        let both = Row::new("row", vec![ours(), faster(), contestant(Role::Peer, "equal")]);
        let taken = [[2.0; 3], [1.0; 3], [4.0; 3]].map(turns);
        let measured = Measured::new(&both, 1, &both.contestants.iter().zip(taken).collect::<Vec<_>>());
        assert_eq!((measured.best_peer, measured.ratio), (Some("equal"), Some(0.5)));
        assert!(!measured.informational);

        let alone = Row::new("row", vec![ours(), faster()]);
        let taken = [[2.0; 3], [1.0; 3]].map(turns);
        let measured = Measured::new(&alone, 1, &alone.contestants.iter().zip(taken).collect::<Vec<_>>());
        assert_eq!((measured.best_peer, measured.why_informational), (Some("faster"), Some("reads no clock")));
        assert!(measured.informational);
    }

    #[test]
    fn every_rival_has_its_version() {
        assert_eq!(versions().len(), 15);
    }
}
