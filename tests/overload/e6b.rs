//! E6b: a queue that keeps up.

#[path = "../../examples/experiments/e6b.rs"]
mod experiment;

use crate::{confirm, findings};

#[test]
fn a_queue_that_keeps_up_refuses_next_to_nobody() {
    confirm(&findings(experiment::run));
}
