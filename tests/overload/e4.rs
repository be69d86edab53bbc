//! E4: metastable collapse.

#[path = "../../examples/experiments/e4.rs"]
mod experiment;

use crate::{confirm, findings};

#[test]
fn a_server_limit_prevents_retries_from_sustaining_a_spike() {
    confirm(&findings(experiment::run));
}
