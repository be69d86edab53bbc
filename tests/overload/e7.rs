//! E7: sliding windows.

#[path = "../../examples/experiments/e7.rs"]
mod experiment;

use crate::{confirm, findings};

#[test]
fn an_estimate_of_two_buckets_admits_nearly_twice_its_limit() {
    confirm(&findings(experiment::run));
}
