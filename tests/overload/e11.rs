//! E11: an adaptive limit beside the best fixed limit.

#[path = "../../examples/experiments/e11.rs"]
mod experiment;

use crate::{confirm, findings};

#[test]
fn an_adaptive_limit_does_nearly_as_well_as_the_best_fixed_limit() {
    confirm(&findings(experiment::run));
}
