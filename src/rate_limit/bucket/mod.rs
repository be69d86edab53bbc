//! The token bucket: one integer counts the tokens spent, and is compared with the tokens minted by now.
//!
//! - `state` is the state that all handles share, and how threads change it.
//! - `refill_schedule` computes how many tokens a quota has minted by an instant, with or without a warm-up.
//! - `wait_queue` holds the waiters in order of arrival.
//! - `token_bucket` is the handle. `turn`, `reservation` and `closing` hold the rest of its methods.
//! - `limit` implements the limits of a stack.

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
