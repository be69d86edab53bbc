//! Four processes keep three limits on a real store, which then fails in one way or another: what they admitted, and how long
//! each decision took.
//!
//! The processes are this program, started again with their part in the environment.

#[path = "../support/clock.rs"]
mod clock;
#[path = "../support/proxy.rs"]
#[allow(dead_code, reason = "every test file uses a part of it")]
mod proxy;
#[path = "../support/redis.rs"]
#[allow(dead_code, reason = "every test file uses a part of it")]
mod server;
#[path = "../support/trial.rs"]
mod trial;

mod client;
mod cluster;
mod faults;
mod fleet;
mod verdict;

use std::{env, process::ExitCode};

fn main() -> ExitCode {
    if let Ok(part) = env::var(client::PART) {
        return client::be(&part);
    }
    trial::run([faults::trials(), cluster::trials()].into_iter().flatten().collect(), server::missing())
}
