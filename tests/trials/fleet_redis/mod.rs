//! Redis as the store of limits: a real server, real time, and their faults.

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
    // The measurements assert nothing.
    let measured = measure::trials().into_iter().map(|trial| trial.with_ignored_flag(true));
    trials.into_iter().flatten().chain(measured).collect()
}
