//! Snapshots of a fixed size, and the poller that reads one in every tick.

mod allocations;
mod cancellation;
mod configs;
mod decoding;
mod instrument;
mod last_good;
mod refusals;
mod schedule;
mod stacks;
mod support;
mod ticks;
mod work;
