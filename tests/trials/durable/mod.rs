//! The durable queue with a real Redis, under faults of the server and of workers.

mod ends;
mod faults;
mod halfway;
mod takeover;

use libtest_mimic::Trial;

pub fn trials() -> Vec<Trial> {
    [ends::trials(), takeover::trials(), faults::trials(), halfway::trials()].into_iter().flatten().collect()
}
