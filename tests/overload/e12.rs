//! E12: what matters, and what does not.

#[path = "../../examples/experiments/e12.rs"]
mod experiment;

use crate::{confirm, findings};

#[test]
fn what_matters_is_served_and_the_rest_gets_what_is_left() {
    confirm(&findings(experiment::run));
}
