//! E2: a retry budget, whatever the share of the calls that fails.

#[path = "../../examples/experiments/e2.rs"]
mod experiment;

use crate::{confirm, findings};

#[test]
fn a_budget_of_a_tenth_adds_a_tenth_of_load_whatever_fails() {
    confirm(&findings(experiment::run));
}
