//! E25: an open circuit, and calls with no time left.

#[path = "../../examples/experiments/e25/mod.rs"]
mod experiment;

use crate::{confirm, findings};

#[test]
fn an_open_circuit_refuses_at_once_and_closes_after_three_full_probes() {
    confirm(&findings(experiment::run));
}
