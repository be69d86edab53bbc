//! Load leveling across processes: a real Redis, and what goes wrong with it and with workers.

mod ends;
mod faults;
mod halfway;
mod takeover;

use libtest_mimic::Trial;

pub fn trials() -> Vec<Trial> {
    [ends::trials(), takeover::trials(), faults::trials(), halfway::trials()].into_iter().flatten().collect()
}
