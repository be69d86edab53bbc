//! E18: what a tick of a configuration costs, whatever changed and whatever is broken.

#[path = "../../tests/constant_work/counting.rs"]
mod counting;
pub mod tick;

use crate::{
    finding::{Bound, Figure, Finding},
    lab::{Lab, Means},
};
use std::{env, error::Error, process::Command};
use steadfast::ConfigError;
use tick::{Case, Mechanism, Outcome, TICKS};

const CHANGED: [f64; 4] = [0.0, 0.01, 0.1, 1.0];
const USED: [f64; 3] = [0.0, 0.5, 1.0];
pub const OUTCOMES: [Outcome; 3] = [Outcome::Ok, Outcome::Down, Outcome::Corrupt];

/// What a tick takes, in the mean.
#[derive(Clone, Copy)]
pub struct Cost {
    pub case: Case,
    pub instructions: f64,
    allocations: f64,
    bytes: f64,
}

/// The word that asks this program to be one case: the others follow.
const ASKED: &str = "--one-case-of-e18";

/// Whether this process is one case. Then it has done it.
pub fn is_one_case() -> Option<Result<(), Box<dyn Error>>> {
    let mut words = env::args().skip(1);
    if words.next().as_deref() != Some(ASKED) {
        return None;
    }
    let words: Vec<String> = words.collect();
    Some(one_case(&words))
}

fn one_case(words: &[String]) -> Result<(), Box<dyn Error>> {
    let [mechanism, changed, used, outcome, seed] = words else { return Err("a case has five words".into()) };
    let mechanism = if mechanism == "Watcher" { Mechanism::Watcher } else { Mechanism::ConstantWork };
    let outcome = OUTCOMES.into_iter().find(|known| format!("{known:?}") == *outcome).ok_or("unknown outcome")?;
    let case = Case { mechanism, changed: changed.parse()?, used: used.parse()?, outcome, seed: seed.parse()? };
    let (made, good) = tick::run(case)?;
    println!("{} {} {good}", made.times, made.bytes);
    Ok(())
}

/// Runs a case under valgrind, which counts the instructions of its ticks and of nothing else.
fn measure(case: Case) -> Result<[f64; 3], Box<dyn Error>> {
    let Case { mechanism, changed, used, outcome, seed } = case;
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null", "--toggle-collect=*counted_tick*"])
        .arg(env::current_exe()?)
        .args([ASKED, &format!("{mechanism:?}"), &changed.to_string(), &used.to_string()])
        .args([format!("{outcome:?}"), seed.to_string()])
        .output()
        .map_err(|error| format!("E18 counts instructions by valgrind: {error}"))?;
    let (stdout, stderr) = (String::from_utf8(output.stdout)?, String::from_utf8_lossy(&output.stderr).into_owned());
    let collected = stderr.lines().find_map(|line| line.split_once("Collected : ")).ok_or_else(|| stderr.clone())?.1;
    let mut numbers = stdout.split_whitespace().map(str::parse::<f64>);
    let mut number = || numbers.next().ok_or("a number is missing")?.map_err(Box::<dyn Error>::from);
    let ticks = TICKS as f64;
    let (allocations, bytes, good) = (number()? / ticks, number()? / ticks, number()?);
    if mechanism == Mechanism::ConstantWork && (good > 0.0) != (outcome == Outcome::Ok) {
        return Err(format!("{good} of {TICKS} ticks were good: {case:?}").into());
    }
    Ok([collected.trim().parse::<f64>()? / ticks, allocations, bytes])
}

/// All cases of a mechanism, or their extremes.
pub fn costs(lab: &Lab, mechanism: Mechanism, seed: u64, all: bool) -> Result<Vec<Cost>, ConfigError> {
    let mut cases = Vec::new();
    for outcome in OUTCOMES {
        for used in USED.into_iter().filter(|used| all || *used != 0.5) {
            for changed in CHANGED.into_iter().filter(|changed| all || [0.0, 1.0].contains(changed)) {
                cases.push(Case { mechanism, changed, used, outcome, seed });
            }
        }
    }
    let count = cases.len() as u64;
    let measured = lab.each(0..count, |number| {
        let case = cases[number as usize % cases.len()];
        measure(case).map_err(|error| ConfigError::new("E18", error.to_string(), "must run under valgrind"))
    })?;
    let cost =
        |(case, [instructions, allocations, bytes]): (_, [f64; 3])| Cost { case, instructions, allocations, bytes };
    Ok(cases.into_iter().zip(measured).map(cost).collect())
}

fn extremes(costs: &[Cost], number: impl Fn(&Cost) -> f64) -> (f64, f64) {
    costs.iter().map(number).fold((f64::INFINITY, 0.0), |(least, most), number| (least.min(number), most.max(number)))
}

/// Instructions, allocations and bytes: the most over the least; a failing tick over the good one of the same case, the
/// worst.
fn spread(costs: &[Cost]) -> [f64; 4] {
    let over = |number: fn(&Cost) -> f64| {
        let (least, most) = extremes(costs, number);
        most / least
    };
    let of_good = |failing: &Cost| {
        let Case { changed, used, .. } = failing.case;
        let same =
            |cost: &&Cost| cost.case.outcome == Outcome::Ok && (cost.case.changed, cost.case.used) == (changed, used);
        costs.iter().find(same).map_or(f64::INFINITY, |good| failing.instructions / good.instructions)
    };
    let failing = costs.iter().filter(|cost| cost.case.outcome != Outcome::Ok);
    let worst = failing.map(of_good).fold(0.0, f64::max);
    [over(|cost| cost.instructions), over(|cost| cost.allocations), over(|cost| cost.bytes), worst]
}

pub fn run(lab: &Lab) -> Result<Vec<Finding>, ConfigError> {
    let all = lab.is_thorough();
    let of = |mechanism, seed, all| costs(lab, mechanism, seed, all);
    let (ours, others) = (of(Mechanism::ConstantWork, 0, all)?, of(Mechanism::ConstantWork, 1_000, false)?);
    let spreads = Means { model: spread(&ours), others: spread(&others) };
    let range = |costs: &[Cost]| {
        let (least, most) = extremes(costs, |cost| cost.instructions);
        [least, most]
    };
    let instructions = Means { model: range(&ours), others: range(&others) };
    let watcher = of(Mechanism::Watcher, 0, all)?;
    let watched = Means { model: range(&watcher), others: range(&of(Mechanism::Watcher, 1_000, false)?) };
    let heal = |seed| {
        let ticks = tick::ticks_to_heal(seed);
        ticks.map_err(|error| ConfigError::new("E18", error.to_string(), "must heal")).map(|ticks| ticks as f64)
    };
    let healed = Means { model: [heal(0)?], others: [heal(1_000)?] };
    // Another way through the same work differs by some instructions in 100,000.
    let wanted = [Bound::AtMost(1.01), Bound::AtMost(1.0), Bound::AtMost(1.0), Bound::AtMost(1.0001)];
    Ok(vec![Finding {
        id: "E18",
        what: "constant work: a tick of 256 slots, {0, 1, 10, 100%} changed, {0, 50, 100%} used, source {ok, down, corrupt}",
        anchors: Vec::new(),
        figures: vec![
            Figure::new(
                "the most over the least of all cases: instructions, allocations, allocated bytes; a failing tick over a good one",
                wanted,
                spreads,
            ),
            Figure::new("ticks until a corrupt snapshot is healed", [Bound::AtMost(1.0)], healed),
            Figure::new("instructions of a tick, least and most", [Bound::Free; 2], instructions),
            Figure::new("the same of a watcher that parses what changed", [Bound::Free; 2], watched),
        ],
        to_come: None,
    }])
}
