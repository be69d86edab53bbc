//! Messages through a queue in a real Redis, from processes to processes, while all that can go wrong does: which messages
//! were delivered, how often, and why more than once.
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

mod deliveries;
mod faults;
mod part;
mod processes;
mod scene;
mod verdict;

use std::{env, process::ExitCode};

fn main() -> ExitCode {
    if let Ok(part) = env::var(part::PART) {
        return part::be(&part);
    }
    trial::run(faults::trials(), server::missing())
}
