//! The least that the work can cost: a rate limit by hand, and all five mechanisms by hand in one tower service.
//!
//! Deadline, retry with a budget, circuit breaker with a sliding window, rate limit and a count of calls in flight,
//! with no layers, no configuration, no handles and no questions asked: one state per call, one allocation for all
//! shared words, one reading of the clock on the way down and one on the way up. A library can come near it, not below.

mod mechanisms;
mod service;

pub use mechanisms::Gcra;
pub use service::ByHand;
