//! The token bucket: one integer that says how many tokens were spent, compared with how many were minted.
//!
//! - `state` is the bucket itself: what all handles share, and how threads change it.
//! - `plan` says how many tokens a quota has minted by an instant, with or without a warm-up.
//! - `line` holds the waiters in their order.
//! - `token_bucket` is the handle; `turn`, `reservation` and `closing` are its other ways to ask.
//! - `limit` makes limits of a stack of it.

mod builder;
mod closing;
mod limit;
mod refill_schedule;
mod reservation;
mod state;
#[cfg(all(test, not(steadfast_loom)))]
mod tests;
mod token_bucket;
mod turn;
mod wait_queue;

pub use builder::TokenBucketBuilder;
pub use limit::{InLine, Owing};
pub use reservation::{Acquire, Reservation};
pub use token_bucket::TokenBucket;
