//! E23: a breaker for each of a thousand hosts.

#[path = "../../examples/experiments/e23.rs"]
mod experiment;

use crate::{confirm, findings};

#[test]
fn a_breaker_per_host_spares_dead_hosts_and_rarely_refuses_calls_to_living_hosts() {
    confirm(&findings(experiment::run));
}
