//! The experiments for which the crate has no mechanism yet, and those that another example runs in real time.

use crate::finding::Finding;

/// Its row, if an experiment is one of these.
pub fn finding(id: &str) -> Option<Finding> {
    let (id, what, anchor, reach) = LATER.into_iter().find(|(known, ..)| *known == id)?;
    Some(Finding::later(id, what, anchor, reach))
}

/// Id, what, what was published, what is to be reached.
const LATER: [(&str, &str, &str, &str); 6] = [
    (
        "E11",
        "adaptive concurrency: service time x1, x3, x1, offered 0.8/1.5/3x",
        "Vegas and Envoy's gradient lose two thirds in one phase",
        "≥ 0.90 of the best fixed limit over each phase, ≥ 0.88 from round trip 20 to 60; nothing shed by a probe",
    ),
    (
        "E12",
        "priority: capacity 100/s, high 60/s steady, low 50 to 600/s",
        "Netflix: > 0.994 of high under a 12x prefetch spike",
        "high ≥ 0.999, low ≥ 0.98 of what is left",
    ),
    (
        "E13",
        "load step 1.4x: time until the p99 of the accepted is back under its target",
        "Breakwater < 20 ms, DAGOR 500 ms, SEDA 1.58 s (10 µs tasks)",
        "p99 ≤ D in every bin of 5 round trips; goodput ≥ 0.98 of capacity after round trip 20; ≤ 0.003 shed before",
    ),
    (
        "E15",
        "hedging at the observed p95: p99.9 and extra load",
        "1800 to 74 ms for +2% (Tail at Scale); +5% at p95",
        "p99.9 cut ≥ 10x, extra load ≤ 0.05 and never beyond its budget",
    ),
    (
        "E19",
        "real run on loopback: cargo run --release --features http --example overload",
        "unprotected goodput falls to about 0 past capacity",
        "≥ 0.95 of capacity from 0.5x to 10x, p99 of the accepted ≤ 2x the unloaded p99",
    ),
    (
        "E20",
        "real run: live tasks and bytes at 10x overload, shedding at once against queueing",
        "Uber: 150k to 10k goroutines, 5-6 to 1 GB",
        "flat from 2x to 10x",
    ),
];
