//! A store in this process's own memory.
//!
//! | file | content |
//! |---|---|
//! | `store.rs` | [`Embedded`]: the state of all keys, and when it is forgotten |
//! | `bucket.rs` | the state of a bucket: the steps of a [`Charge`](super::Charge) |
//! | `window.rs` | the state of a window: the steps of a [`Demand`](super::Demand) |

mod bucket;
mod store;
mod window;

pub use store::Embedded;
