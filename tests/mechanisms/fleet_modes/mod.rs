//! The distributed limits `Exact`, `WriteBehind` and `Leased`, their flushers, and a store that fails.

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
