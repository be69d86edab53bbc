//! [`Leased`]: this process decides on a credit that the store has granted.
//!
//! | file | what is in it |
//! |---|---|
//! | `limit.rs` | the limit, and how a call is admitted |
//! | `builder.rs` | its configuration |

mod builder;
mod limit;

pub use builder::LeasedBuilder;
pub use limit::{Leased, Spent};
