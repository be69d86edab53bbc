//! E22: the deadlines of a chain.

#[path = "../../examples/experiments/e22.rs"]
mod experiment;

use crate::{confirm, findings};

#[test]
fn deadlines_shrink_at_every_hop_and_end_all_work() {
    confirm(&findings(experiment::run));
}
