//! E24: fairness of shedding.

#[path = "../../examples/experiments/e24.rs"]
mod experiment;

use crate::{confirm, findings};

#[test]
fn small_tenants_are_served_whatever_the_large_ones_ask_for() {
    confirm(&findings(experiment::run));
}
