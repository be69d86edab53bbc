//! E4: metastable collapse.

#[path = "../../examples/experiments/e4.rs"]
mod experiment;

use crate::{confirm, findings};

#[test]
fn a_limit_on_the_server_keeps_retries_from_making_a_spike_last() {
    confirm(&findings(experiment::run));
}
