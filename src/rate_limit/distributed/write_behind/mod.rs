//! [`WriteBehind`]: this process decides by the last answer of the store, and reports to the store afterwards.
//!
//! | file | content |
//! |---|---|
//! | `limit.rs` | the limit, and the admission of a call |
//! | `builder.rs` | the configuration of the limit |

mod builder;
mod limit;

pub use builder::WriteBehindBuilder;
pub use limit::WriteBehind;
