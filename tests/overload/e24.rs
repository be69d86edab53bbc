//! E24: fairness of shedding.

#[path = "../../examples/experiments/e24.rs"]
mod experiment;

use crate::{confirm, findings};

#[test]
fn small_tenants_are_served_despite_large_tenants() {
    confirm(&findings(experiment::run));
}
