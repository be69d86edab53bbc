//! Limits that many processes keep together: the three ways to keep one, their flushers, and the store when it fails.

mod exact;
mod extremes;
mod faults;
mod fleet;
mod flusher;
mod instrument;
mod layer;
mod leased;
mod leases;
mod partly;
mod policies;
mod store;
mod wakers;
mod windows;
mod write_behind;
