//! Publishing snapshots: versions, refusals, and faults of a sink.

mod checks;
mod fixture;
mod histories;
mod instrument;
mod run;
mod sinks;
mod versions;
