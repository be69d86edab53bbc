//! E14: a collapse that a fair queue (first in, first out) sustains.

#[path = "../../examples/experiments/e14.rs"]
mod experiment;

use crate::{confirm, findings};

#[test]
fn a_queue_that_drops_late_calls_ends_a_collapse() {
    confirm(&findings(experiment::run));
}
