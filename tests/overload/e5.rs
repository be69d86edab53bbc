//! E5: retry amplification in a chain.

#[path = "../../examples/experiments/e5.rs"]
mod experiment;

use crate::{confirm, findings};

#[test]
fn a_budget_and_a_mark_limit_retries_to_one_call_in_ten_in_a_chain() {
    confirm(&findings(experiment::run));
}
