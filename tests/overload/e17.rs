//! E17: the predicted drain time.

#[path = "../../examples/experiments/e17.rs"]
mod experiment;

use crate::{confirm, findings};

#[test]
fn the_predicted_drain_time_is_the_actual_drain_time() {
    confirm(&findings(experiment::run));
}
