//! E9: breakers and a partial outage.

#[path = "../../examples/experiments/e9/mod.rs"]
mod experiment;

use crate::{confirm, findings};

#[test]
fn a_breaker_for_each_shard_saves_the_living_from_the_dead() {
    confirm(&findings(experiment::run));
}
