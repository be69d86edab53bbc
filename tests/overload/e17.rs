//! E17: the predicted drain time.

#[path = "../../examples/experiments/e17.rs"]
mod experiment;

use crate::{confirm, findings};

#[test]
fn the_time_until_a_backlog_is_gone_is_what_was_predicted() {
    confirm(&findings(experiment::run));
}
