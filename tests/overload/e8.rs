//! E8: one limit for ten processes.

#[path = "../../examples/experiments/e8.rs"]
mod experiment;

use crate::{confirm, findings};

#[test]
fn ten_processes_keep_one_limit_under_every_load_and_without_the_store() {
    confirm(&findings(experiment::run));
}
