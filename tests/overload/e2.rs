//! E2: a retry budget, for several shares of failing calls.

#[path = "../../examples/experiments/e2.rs"]
mod experiment;

use crate::{confirm, findings};

#[test]
fn a_budget_of_a_tenth_adds_a_tenth_of_load_at_every_failure_rate() {
    confirm(&findings(experiment::run));
}
