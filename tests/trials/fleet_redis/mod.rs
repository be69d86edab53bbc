//! Redis as the store of limits: a real server, real time, and what goes wrong with both.

mod buckets;
mod cluster;
mod errors;
mod faults;
mod fixture;
mod measure;
mod windows;

use libtest_mimic::Trial;

pub fn trials() -> Vec<Trial> {
    let trials = [buckets::trials(), windows::trials(), errors::trials(), faults::trials(), cluster::trials()];
    // Nothing is asserted of what things cost.
    let measured = measure::trials().into_iter().map(|trial| trial.with_ignored_flag(true));
    trials.into_iter().flatten().chain(measured).collect()
}
