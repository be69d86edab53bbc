//! [`Leased`]: this process decides from a lease that the store has granted.
//!
//! | file | content |
//! |---|---|
//! | `limit.rs` | the limit, and the admission of a call |
//! | `builder.rs` | the configuration of the limit |

mod builder;
mod limit;

pub use builder::LeasedBuilder;
pub use limit::{Leased, Spent};
