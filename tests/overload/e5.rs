//! E5: retry amplification in a chain. A service that stops retrying marks its failure, so that its caller does not
//! retry either.

#[path = "../../examples/experiments/e5.rs"]
mod experiment;

use crate::{confirm, findings};

#[test]
fn a_budget_and_a_mark_limit_retries_to_one_call_in_ten_in_a_chain() {
    confirm(&findings(experiment::run));
}
