//! E6b: a queue below its capacity.

#[path = "../../examples/experiments/e6b.rs"]
mod experiment;

use crate::{confirm, findings};

#[test]
fn a_queue_below_capacity_refuses_almost_no_call() {
    confirm(&findings(experiment::run));
}
