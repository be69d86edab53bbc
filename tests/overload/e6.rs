//! E6: queue disciplines.

#[path = "../../examples/experiments/e6.rs"]
mod experiment;

use crate::{confirm, findings};

#[test]
fn queue_disciplines_serve_what_was_published() {
    confirm(&findings(experiment::run));
}
