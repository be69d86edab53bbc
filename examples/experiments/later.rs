//! The experiments for which the crate has no mechanism yet, and those that another example runs in real time.

use crate::finding::Finding;

/// Returns the row of an experiment, if it is one of these.
pub fn finding(id: &str) -> Option<Finding> {
    let (id, what, anchor, reach) = LATER.into_iter().find(|(known, ..)| *known == id)?;
    Some(Finding::later(id, what, anchor, reach))
}

/// The id, the description, the published result, and the target.
const LATER: [(&str, &str, &str, &str); 3] = [
    (
        "E15",
        "hedging at the observed p95: p99.9 and extra load",
        "1800 to 74 ms for +2% (Tail at Scale); +5% at p95",
        "p99.9 cut ≥ 10x, extra load ≤ 0.05 and never beyond its budget",
    ),
    (
        "E19",
        "in real time: cargo run --release --features http --example overload",
        "unprotected goodput falls to about 0 past capacity",
        "≥ 0.95 of capacity from 0.5x to 10x",
    ),
    (
        "E20",
        "the same run: peaks of live tasks and bytes, shedding at once against queueing",
        "Uber: 150k to 10k goroutines, 5-6 to 1 GB",
        "tasks at 10x ≤ 1.25 of those at 2x",
    ),
];
