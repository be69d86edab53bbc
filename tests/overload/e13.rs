//! E13: a load step.

#[path = "../../examples/experiments/e13.rs"]
mod experiment;

use crate::{confirm, findings};

#[test]
fn admitted_calls_meet_their_deadline_through_a_load_step() {
    confirm(&findings(experiment::run));
}
