//! E18: is the cost of a poller's tick constant? It must not depend on the number of changes or of used slots, or on
//! whether its source is up, down or corrupt.

mod cases;
#[path = "../../../tests/mechanisms/counting.rs"]
mod counting;
pub mod instructions;
mod limit;
mod polling;
mod watching;

pub use cases::{Case, Source};

use crate::{
    finding::{Bound, Figure, Finding, ToCome},
    lab::{Lab, Means},
};
use cases::{Subject, WARM_UP};
use counting::{Allocated, allocated};
use instructions::{Extent, Instructions, can_be_counted};
use limit::DECODED;
use polling::{Polling, ticks_to_heal};
use std::{array, io};
use steadfast::ConfigError;

/// The measurement noise of the cost of a failing tick relative to a good one. The allocator has another history in
/// each case, and finds free memory in more or fewer steps: about 100 of 100,000 instructions.
const NOISE: f64 = 0.002;

pub fn run(lab: &Lab) -> Result<Vec<Finding>, ConfigError> {
    run_with(lab, &[])
}

/// Runs the experiment in a program that calls [`instructions::run_alone`] only with these arguments.
pub fn run_with(lab: &Lab, arguments: &[&str]) -> Result<Vec<Finding>, ConfigError> {
    let worked = lab.worst(1, |seed| work(seed, lab.count(10, 10, 2) as u32))?;
    let healed = lab.worst(1, |seed| Ok([ticks_to_heal(seed)?]))?;
    let mut figures = vec![
        Figure::new(
            "36 cases, most over least: allocations, bytes of them, slots decoded, bytes fetched while it is up",
            [Bound::AtMost(1.0); 4],
            part(&worked, 0),
        ),
        Figure::new("allocations and bytes of them per tick", [Bound::Free; 2], part(&worked, 4)),
        Figure::new("ticks until a corrupt snapshot is healed", [Bound::AtMost(1.0)], healed),
    ];
    let to_come = if can_be_counted() {
        let run = |seed| Ok(compare(&extent(lab).cases(), &count(lab, seed, arguments)));
        let counted = if lab.is_glance() { one_seed(lab, run)? } else { lab.worst(1, run)? };
        figures.extend([
            Figure::new("instructions, most over least", [Bound::AtMost(1.01)], part(&counted, 0)),
            Figure::new("a tick over a good one: down, corrupt", [Bound::AtMost(1.0 + NOISE); 2], part(&counted, 1)),
            Figure::new("instructions of a tick: up, down, corrupt", [Bound::Free; 3], part(&counted, 3)),
            Figure::new("a watcher's, least over most", [Bound::AtMost(0.02)], part(&counted, 6)),
            Figure::new("a watcher's, least and most", [Bound::Free; 2], part(&counted, 7)),
        ]);
        None
    } else {
        Some(ToCome { anchor: "", reach: "instructions ± 0.01: not counted, since valgrind is not here" })
    };
    Ok(vec![Finding {
        id: "E18",
        what: "constant work: a tick of 256 slots with 0 to all rules changed, 0 to all slots used, source up, down or corrupt",
        anchors: Vec::new(),
        figures,
        to_come,
    }])
}

/// Makes one run for both the model and the other seeds. Valgrind takes seconds, and a seed only chooses the limits.
fn one_seed<const N: usize>(
    lab: &Lab,
    run: impl Fn(u64) -> Result<[f64; N], ConfigError> + Sync,
) -> Result<Means<N>, ConfigError> {
    let model = lab.mean(0..1, run)?;
    Ok(Means { model, half_widths: [0.0; N], others: model })
}

/// Counts the instructions of a tick in each case.
pub fn count(lab: &Lab, seed: u64, arguments: &[&str]) -> io::Result<Instructions> {
    instructions::count(seed, extent(lab), arguments)
}

fn extent(lab: &Lab) -> Extent {
    Extent { ticks: lab.count(12, 4, 1) as u32, extremes: lab.is_glance() }
}

/// Returns the ratio of the most to the least of: allocations, bytes of them, slots decoded, bytes fetched; then the
/// most of the first two.
fn work(seed: u64, ticks: u32) -> Result<[f64; 6], ConfigError> {
    let mut each: Vec<[u64; 3]> = Vec::new();
    let mut fetched = Vec::new();
    for case in Case::all() {
        let mut polling = Polling::new(&case, seed, ticks)?;
        for _ in 0..WARM_UP {
            polling.tick();
        }
        for _ in 0..ticks {
            let decoded = DECODED.get();
            let (good, Allocated { times, bytes }) = allocated(|| polling.tick());
            if good != (case.source == Source::Up) {
                return Ok([f64::INFINITY; 6]);
            }
            each.push([times, bytes, DECODED.get() - decoded]);
            if case.source != Source::Down {
                fetched.push(polling.fetched() as f64);
            }
        }
    }
    let [times, bytes, decoded]: [Vec<f64>; 3] =
        array::from_fn(|number| each.iter().map(|tick| tick[number] as f64).collect());
    Ok([spread(&times), spread(&bytes), spread(&decoded), spread(&fetched), most(&times), most(&bytes)])
}

/// Returns these numbers of instructions and ratios of them, which are all infinite if nothing could be counted:
///
/// - the ratio of the most to the least,
/// - for each failure, the worst ratio of a failing tick to a good one with the same rules,
/// - the means of good ticks, of ticks with the source down, and of ticks with the source corrupt,
/// - for a watcher, the ratio of the least to the most, the least, and the most.
fn compare(cases: &[Case], counted: &io::Result<Instructions>) -> [f64; 9] {
    let Instructions { polling, watching } = match counted {
        Ok(instructions) => instructions,
        Err(error) => {
            eprintln!("E18: {error}");
            return [f64::INFINITY; 9];
        }
    };
    let of = |source: Source| -> Vec<f64> {
        let each = cases.iter().zip(polling);
        each.filter(|(case, _)| case.source == source).map(|(_, instructions)| *instructions).collect()
    };
    let [up, down, corrupt] = [Source::Up, Source::Down, Source::Corrupt].map(of);
    let over = |failing: &[f64]| failing.iter().zip(&up).map(|(failing, good)| failing / good).fold(0.0, f64::max);
    let mean = |numbers: &[f64]| numbers.iter().sum::<f64>() / numbers.len() as f64;
    let (least, most) = (least(watching), most(watching));
    let over = [over(&down), over(&corrupt)];
    let means = [mean(&up), mean(&down), mean(&corrupt)];
    [spread(polling), over[0], over[1], means[0], means[1], means[2], least / most, least, most]
}

fn least(numbers: &[f64]) -> f64 {
    numbers.iter().copied().fold(f64::INFINITY, f64::min)
}

fn most(numbers: &[f64]) -> f64 {
    numbers.iter().copied().fold(0.0, f64::max)
}

fn spread(numbers: &[f64]) -> f64 {
    most(numbers) / least(numbers)
}

/// Returns some of the numbers, starting with this index.
fn part<const N: usize, const M: usize>(all: &Means<N>, from: usize) -> Means<M> {
    let some = |numbers: &[f64; N]| array::from_fn(|index| numbers[from + index]);
    Means { model: some(&all.model), half_widths: some(&all.half_widths), others: some(&all.others) }
}
