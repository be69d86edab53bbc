//! E6: queue disciplines.

#[path = "../../examples/experiments/e6.rs"]
mod experiment;

use crate::{confirm, findings};

#[test]
fn queue_disciplines_serve_what_was_published_and_ours_what_is_still_wanted() {
    confirm(&findings(experiment::run));
}
