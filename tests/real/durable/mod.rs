//! The producer of a durable queue, and the content of Redis. Tests of workers, takeovers and faults are trials.

mod appending;
mod instrument;
mod settings;

use libtest_mimic::Trial;

pub fn trials() -> Vec<Trial> {
    [settings::trials(), appending::trials(), instrument::trials()].into_iter().flatten().collect()
}
