//! Where snapshots are kept: real files, a real Redis, real HTTP, and what goes wrong with them.

mod end_to_end;
mod file_sink;
mod files;
mod fixture;
mod http;
mod kills;
mod redis;

use libtest_mimic::Trial;

pub use kills::{PUBLISH_TO, publish_until_killed};

/// Those that need a Redis server.
pub fn trials_with_redis() -> Vec<Trial> {
    [redis::trials(), end_to_end::trials()].into_iter().flatten().collect()
}

pub fn trials() -> Vec<Trial> {
    [files::trials(), file_sink::trials(), kills::trials(), http::trials()].into_iter().flatten().collect()
}
