//! Buckets that many processes keep together: what asks the store for each decision, and what tells it in the background.

mod exact;
mod extremes;
mod faults;
mod fleet;
mod flusher;
mod layer;
mod leased;
mod partly;
mod policies;
mod store;
mod wakers;
mod write_behind;
