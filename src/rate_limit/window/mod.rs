//! A limit on what any window of time admits.
//!
//! - `strict` counts in cells, so that no window holds more than the limit.
//! - `estimate` counts in two counters.
//! - `sliding_window` is the handle around either.
//! - `limit` makes a limit of a stack of it.

mod estimate;
mod limit;
mod sliding_window;
mod strict;

pub(super) use sliding_window::check_limit;
pub use sliding_window::{SlidingWindow, SlidingWindowBuilder};
