//! E14: a collapse that a fair queue keeps alive.

#[path = "../../examples/experiments/e14.rs"]
mod experiment;

use crate::{confirm, findings};

#[test]
fn what_would_be_answered_too_late_makes_room_for_the_others_and_no_collapse_lasts() {
    confirm(&findings(experiment::run));
}
