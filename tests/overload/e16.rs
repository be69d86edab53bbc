//! E16: a learned timeout.

#[path = "../../examples/experiments/e16.rs"]
mod experiment;

use crate::{confirm, findings};

#[test]
fn a_learned_timeout_cuts_off_one_call_in_a_thousand_and_does_not_grow_in_overload() {
    confirm(&findings(experiment::run));
}
