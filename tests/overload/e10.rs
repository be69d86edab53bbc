//! E10: adaptive throttling by the client.

#[path = "../../examples/experiments/e10.rs"]
mod experiment;

use crate::{confirm, findings};

#[test]
fn counting_at_the_attempt_takes_a_slow_backend_for_a_dead_one() {
    confirm(&findings(experiment::run));
}
