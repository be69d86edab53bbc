//! Trials in real time: what processes, servers and networks do to limits and queues when they fail.
//!
//! They take minutes, one after another, and run only when asked: `cargo test --release --all-features --test trials`.
//! Child processes are this program, started again with their part in the environment, and examples, which
//! `cargo build --release --all-features --examples` makes.

#[path = "../support/clock.rs"]
mod clock;
#[path = "../support/durable.rs"]
#[allow(dead_code, reason = "every test binary uses a part of it")]
mod durable_fixture;
#[path = "../support/fleet.rs"]
mod fleet;
#[path = "../support/process.rs"]
#[allow(dead_code, reason = "every test binary uses a part of it")]
mod process;
#[path = "../support/proxy.rs"]
#[allow(dead_code, reason = "every test binary uses a part of it")]
mod proxy;
#[path = "../support/redis.rs"]
#[allow(dead_code, reason = "every test binary uses a part of it")]
mod server;
#[path = "../support/timers.rs"]
mod timers;
#[path = "../support/trial.rs"]
mod trial;

mod chain;
mod durable;
mod durable_deaths;
mod durable_faults;
mod fleet_faults;
mod fleet_redis;
mod live_limits;
mod quotas;

use std::{env, process::ExitCode};

fn main() -> ExitCode {
    if let Ok(part) = env::var(durable_faults::PART) {
        return durable_faults::be(&part);
    }
    if let Ok(part) = env::var(fleet_faults::PART) {
        return fleet_faults::be(&part);
    }
    let with_redis = [
        fleet_redis::trials(),
        durable::trials(),
        durable_deaths::trials(),
        fleet_faults::trials(),
        durable_faults::trials(),
    ];
    let with_redis = trial::needing(server::missing(), with_redis.into_iter().flatten());
    let trials = [chain::trials(), live_limits::trials(), quotas::trials(), with_redis];
    trial::run(trials.into_iter().flatten().collect(), 1)
}
