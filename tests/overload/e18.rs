//! E18: the cost of a poller's tick.

#[allow(dead_code, reason = "the example also has a main function, and draws")]
#[path = "../../examples/experiments/e18/mod.rs"]
mod experiment;

use crate::{confirm_figure, finding::Finding, findings};
use experiment::instructions;
use std::sync::LazyLock;

/// Valgrind starts this program with only the test that runs the ticks.
const ALONE: [&str; 3] = ["--exact", "--test-threads=1", "e18::every_case_can_be_run_alone"];

static FINDINGS: LazyLock<Vec<Finding>> = LazyLock::new(|| findings(|lab| experiment::run_with(lab, &ALONE)));

#[track_caller]
fn confirm(begins: &str) -> usize {
    let figures = FINDINGS[0].figures.iter().filter(|figure| figure.name.starts_with(begins));
    figures.inspect(|figure| confirm_figure(figure)).count()
}

#[test]
fn every_tick_allocates_decodes_and_fetches_the_same_amount() {
    assert_eq!(confirm("36 cases"), 1);
}

#[test]
fn a_corrupt_snapshot_is_healed_in_one_tick() {
    assert_eq!(confirm("ticks until"), 1);
}

/// The instructions are counted only where valgrind is installed.
#[test]
fn every_tick_takes_the_same_number_of_instructions_even_if_it_fails() {
    let counted = usize::from(instructions::can_be_counted());
    assert_eq!(confirm("instructions, most over least"), counted);
    assert_eq!(confirm("a tick over a good one"), counted);
    assert_eq!(confirm("a watcher's, least over most"), counted);
}

#[test]
fn every_case_can_be_run_alone() {
    match instructions::run_alone() {
        Some(run) => run.unwrap(),
        None => instructions::go_through(1, instructions::Extent { ticks: 1, extremes: false }).unwrap(),
    }
}
