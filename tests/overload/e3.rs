//! E3: one retry budget per client, for few clients and for many.

#[path = "../../examples/experiments/e3.rs"]
mod experiment;

use crate::{confirm, findings};

#[test]
fn one_budget_per_client_bounds_the_load_of_few_clients_and_of_a_thousand_quiet_clients() {
    confirm(&findings(experiment::run));
}
