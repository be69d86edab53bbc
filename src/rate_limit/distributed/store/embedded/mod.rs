//! A store in this process's own memory.
//!
//! | file | what is in it |
//! |---|---|
//! | `store.rs` | [`Embedded`]: the states of all keys, and when they are forgotten |
//! | `bucket.rs` | what the store knows of a bucket: the steps of a [`Charge`](super::Charge) |
//! | `window.rs` | what the store knows of a window: the steps of a [`Demand`](super::Demand) |

mod bucket;
mod store;
mod window;

pub use store::Embedded;
