//! E23: a breaker for each of a thousand hosts.

#[path = "../../examples/experiments/e23.rs"]
mod experiment;

use crate::{confirm, findings};

#[test]
fn a_breaker_for_each_host_spares_the_dead_and_refuses_hardly_any_of_the_living() {
    confirm(&findings(experiment::run));
}
