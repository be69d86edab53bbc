//! E11: a limit that finds itself beside the best fixed one.

#[path = "../../examples/experiments/e11.rs"]
mod experiment;

use crate::{confirm, findings};

#[test]
fn a_limit_that_finds_itself_does_nearly_as_well_as_the_best_fixed_one() {
    confirm(&findings(experiment::run));
}
