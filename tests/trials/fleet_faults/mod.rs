//! Four processes share three limits on a real store, which then fails in one way or another. The trials check what the
//! processes admitted, and how long each decision took.
//!
//! The processes are this program, started again with their part in the environment.

mod client;
mod cluster;
mod faults;
mod fleet;
mod verdict;

use libtest_mimic::Trial;

pub use client::{PART, be};

pub fn trials() -> Vec<Trial> {
    [faults::trials(), cluster::trials()].into_iter().flatten().collect()
}
