//! Redis as the store of limits: a real server, real time, and what goes wrong with both.

#[path = "../support/proxy.rs"]
#[allow(dead_code, reason = "every test file uses a part of it")]
mod proxy;
#[path = "../support/redis.rs"]
#[allow(dead_code, reason = "every test file uses a part of it")]
mod server;
#[path = "../support/trial.rs"]
mod trial;

mod buckets;
mod cluster;
mod errors;
mod faults;
mod fixture;
mod measure;
mod windows;

use std::process::ExitCode;

fn main() -> ExitCode {
    let trials = [buckets::trials(), windows::trials(), errors::trials(), faults::trials(), cluster::trials()];
    // Nothing is asserted of what things cost.
    let measured = measure::trials().into_iter().map(|trial| trial.with_ignored_flag(true));
    trial::run(trials.into_iter().flatten().chain(measured).collect(), server::missing())
}
