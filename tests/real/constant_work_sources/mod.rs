//! Sources and sinks with real files, a real Redis and real HTTP, and their faults.

mod end_to_end;
mod file_sink;
mod files;
mod fixture;
mod full_disk;
mod http;
mod kills;
mod redis;

use libtest_mimic::Trial;

pub use full_disk::{FULL_DISK, write_to_a_full_disk};
pub use kills::{PUBLISH_TO, publish_until_killed};

/// The tests that need a Redis server.
pub fn trials_with_redis() -> Vec<Trial> {
    [redis::trials(), end_to_end::trials()].into_iter().flatten().collect()
}

pub fn trials() -> Vec<Trial> {
    let trials = [files::trials(), file_sink::trials(), full_disk::trials(), kills::trials(), http::trials()];
    trials.into_iter().flatten().collect()
}
