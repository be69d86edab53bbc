//! Publishing snapshots: versions, refusals, and what goes wrong with a sink.

mod checks;
mod fixture;
mod histories;
mod instrument;
mod run;
mod sinks;
mod versions;
