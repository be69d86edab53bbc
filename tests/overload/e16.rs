//! E16: a timeout that is learned.

#[path = "../../examples/experiments/e16.rs"]
mod experiment;

use crate::{confirm, findings};

#[test]
fn a_learned_timeout_gives_up_one_call_in_a_thousand_and_stays_as_it_was_in_overload() {
    confirm(&findings(experiment::run));
}
