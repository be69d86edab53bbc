//! [`WriteBehind`]: this process decides by what the store last said, and tells the store afterwards.
//!
//! | file | what is in it |
//! |---|---|
//! | `limit.rs` | the limit, and how a call is admitted |
//! | `builder.rs` | its configuration |

mod builder;
mod limit;

pub use builder::WriteBehindBuilder;
pub use limit::WriteBehind;
