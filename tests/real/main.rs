//! Tests with real sockets, files and processes: the examples, the layers together with the libraries that they
//! support, and state in Redis, in files and behind HTTP.
//!
//! Servers are separate processes on free ports of the loopback interface. They stop when their test ends. Machines may
//! stall, so these tests never assert that something was fast, only that it took no longer than many times the expected
//! time.

#[path = "../support/durable.rs"]
#[allow(dead_code, reason = "every test binary uses a part of it")]
mod durable_fixture;
#[path = "../support/process.rs"]
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

#[cfg(all(feature = "metrics", feature = "serde"))]
mod board;
mod browser;
mod clients;
mod compile_fail;
mod composition;
mod constant_work_sources;
mod dashboard;
mod durable;
mod failover;
mod grpc_clients;
mod grpc_server;
mod http_servers;
mod load_leveling;
mod quotas;
#[cfg(feature = "redis-tls")]
mod redis_access;
mod runtimes;
mod telemetry;
mod uploads;
mod whole_bodies;

use crate::trial::needing;
use std::{env, process::ExitCode};

fn main() -> ExitCode {
    if let Some(path) = env::var_os(constant_work_sources::PUBLISH_TO) {
        constant_work_sources::publish_until_killed(path.as_ref());
    }
    if let Some(path) = env::var_os(constant_work_sources::FULL_DISK) {
        constant_work_sources::write_to_a_full_disk(path.as_ref());
    }
    let trials = [
        #[cfg(all(feature = "metrics", feature = "serde"))]
        board::trials(),
        clients::trials(),
        compile_fail::trials(),
        composition::trials(),
        grpc_clients::trials(),
        grpc_server::trials(),
        http_servers::trials(),
        load_leveling::trials(),
        quotas::trials(),
        uploads::trials(),
        whole_bodies::trials(),
        constant_work_sources::trials(),
        needing(server::missing(), constant_work_sources::trials_with_redis()),
        needing(browser::missing(), dashboard::trials()),
        needing(browser::missing(), dashboard::pictures()),
        needing(server::missing(), durable::trials()),
        needing(server::missing(), failover::trials()),
        #[cfg(feature = "redis-tls")]
        redis_access::trials(),
        needing(server::missing(), runtimes::trials()),
        needing(server::missing(), telemetry::trials()),
    ];
    // Most tests mostly wait for processes.
    trial::run(trials.into_iter().flatten().collect(), 6)
}
