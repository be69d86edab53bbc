//! Sliding windows: a limit on the calls admitted in any window of time.
//!
//! - `strict` counts in cells, so that no window admits more than the limit.
//! - `estimate` counts in two counters. It takes less memory, but may admit more than the limit.
//! - `sliding_window` is the handle of both.
//! - `limit` implements the limit of a stack.

mod estimate;
mod limit;
mod sliding_window;
mod strict;

pub(super) use sliding_window::check_limit;
pub use sliding_window::{SlidingWindow, SlidingWindowBuilder};
