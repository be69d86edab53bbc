//! [`Exact`]: the store decides each call.
//!
//! | file | what is in it |
//! |---|---|
//! | `limit.rs` | the limit |
//! | `admit.rs` | how a call is admitted, and what becomes of its place while it waits for the store |
//! | `builder.rs` | its configuration |

mod admit;
mod builder;
mod limit;

pub use builder::ExactBuilder;
pub use limit::Exact;
