//! E26: an exact limit whose store is away.

#[path = "../../examples/experiments/e26.rs"]
mod experiment;

use crate::{confirm, findings};

#[test]
fn a_limit_whose_store_was_away_locks_no_caller_out_and_repays_what_was_too_much() {
    confirm(&findings(experiment::run));
}
