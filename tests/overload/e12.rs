//! E12: calls of high and of low criticality.

#[path = "../../examples/experiments/e12.rs"]
mod experiment;

use crate::{confirm, findings};

#[test]
fn high_criticality_is_served_and_low_criticality_gets_the_remaining_capacity() {
    confirm(&findings(experiment::run));
}
