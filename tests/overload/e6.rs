//! E6: queue disciplines.

#[path = "../../examples/experiments/e6.rs"]
mod experiment;

use crate::{confirm, findings};

#[test]
fn the_queue_serves_calls_that_can_still_be_answered_in_time() {
    confirm(&findings(experiment::run));
}
