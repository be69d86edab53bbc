//! E3: a retry budget each for few clients and for many.

#[path = "../../examples/experiments/e3.rs"]
mod experiment;

use crate::{confirm, findings};

#[test]
fn a_budget_each_bounds_the_load_of_few_clients_and_of_a_thousand_quiet_ones() {
    confirm(&findings(experiment::run));
}
