//! E25: an open circuit, and calls with no time left.

#[path = "../../examples/experiments/e25/mod.rs"]
mod experiment;

use crate::{confirm, findings};

#[test]
fn an_open_circuit_refuses_at_once_and_closes_by_its_first_three_probes_with_patience() {
    confirm(&findings(experiment::run));
}
