//! The lowest cost of the work: a hand-written rate limit, and all five mechanisms by hand in one tower service.
//!
//! Deadline, retry with a budget, circuit breaker with a sliding window, rate limit, and a count of the calls in
//! flight. There are no layers, no configuration, no handles and no predictions. Each call has one state; all shared
//! words are in one allocation; the clock is read once before the call and once after. A library can approach this
//! cost, but not undercut it.

mod mechanisms;
mod service;

pub use mechanisms::Gcra;
pub use service::ByHand;
