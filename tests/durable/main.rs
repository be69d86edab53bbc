//! Load leveling across processes: a real Redis, real time, and what goes wrong with both.

#[path = "../support/proxy.rs"]
#[allow(dead_code, reason = "every test file uses a part of it")]
mod proxy;
#[path = "../support/redis.rs"]
#[allow(dead_code, reason = "every test file uses a part of it")]
mod server;
#[path = "../support/trial.rs"]
mod trial;

mod appending;
mod ends;
mod faults;
mod fixture;
mod halfway;
mod settings;
mod takeover;

use std::process::ExitCode;

fn main() -> ExitCode {
    let trials = [
        settings::trials(),
        appending::trials(),
        ends::trials(),
        takeover::trials(),
        faults::trials(),
        halfway::trials(),
    ];
    trial::run(trials.into_iter().flatten().collect(), server::missing())
}
