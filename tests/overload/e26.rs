//! E26: an exact limit whose store has an outage.

#[path = "../../examples/experiments/e26.rs"]
mod experiment;

use crate::{confirm, findings};

#[test]
fn a_limit_after_a_store_outage_locks_no_caller_out_and_repays_its_excess() {
    confirm(&findings(experiment::run));
}
