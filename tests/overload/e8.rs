//! E8: one limit for ten processes.

#[path = "../../examples/experiments/e8.rs"]
mod experiment;

use crate::{confirm, findings};

#[test]
fn ten_processes_keep_one_limit_whatever_comes_and_while_the_store_is_down() {
    confirm(&findings(experiment::run));
}
