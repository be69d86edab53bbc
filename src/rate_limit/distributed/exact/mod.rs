//! [`Exact`]: the store decides each call.
//!
//! | file | content |
//! |---|---|
//! | `limit.rs` | the limit |
//! | `admit.rs` | the admission of a call, and its place while it waits for the store |
//! | `builder.rs` | the configuration of the limit |

mod admit;
mod builder;
mod limit;

pub use builder::ExactBuilder;
pub use limit::Exact;
