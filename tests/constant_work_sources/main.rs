//! Where snapshots are kept: real files, a real Redis, real HTTP, and what goes wrong with them.

#[path = "../support/redis.rs"]
#[allow(dead_code, reason = "every test file uses a part of it")]
mod server;
#[path = "../support/trial.rs"]
mod trial;

mod end_to_end;
mod file_sink;
mod files;
mod fixture;
mod http;
mod kills;
mod redis;

use std::{env, process::ExitCode};

fn main() -> ExitCode {
    if let Some(path) = env::var_os(kills::PUBLISH_TO) {
        kills::publish_until_killed(path.as_ref());
    }
    let trials =
        [files::trials(), file_sink::trials(), kills::trials(), http::trials(), redis::trials(), end_to_end::trials()];
    trial::run(trials.into_iter().flatten().collect(), server::missing())
}
