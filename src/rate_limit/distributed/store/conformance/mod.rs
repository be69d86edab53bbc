//! Checks that a [`Store`](super::Store) of your own does what the limits rely on: a suite to run in a test of yours.
//!
//! This module needs the feature `conformance`.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use steadfast::rate_limit::distributed::{Embedded, conformance};
//!
//! let report = conformance::check(&Embedded::new()).await;
//! assert!(report.is_ok(), "{report}");
//! assert!(report.checks().any(|check| check.name() == "a_fresh_key_grants_up_to_the_burst"));
//! // Or, in a test that returns a result:
//! report.into_result()?;
//! # Ok(())
//! # }
//! ```
//!
//! # What it needs
//!
//! - A tokio runtime with its timer. With a real clock the suite takes less than three seconds. With a paused clock it
//!   takes no time, and the store must then take its time from the same clock.
//! - A store that is not used for anything else. Every run has keys of its own, so the suite can be run again on the
//!   same data; but it also asks for the empty key.
//! - Answers within 20 ms. What is expected is computed from when a charge was sent and when its answer was there. So a
//!   slower store is rarely found wrong for being slow, but less is found out about it.
//! - A clock that keeps time with this process's, and counts in milliseconds or finer. The two may differ by any
//!   constant.
//!
//! # What it cannot find out
//!
//! How a store fails, how it takes a clock that goes back, and what it keeps over a restart. Lost data is tried with
//! keys that the store has never seen.
//!
//! # When a check fails
//!
//! The name of a check is a sentence about a store that passes. Each failed one says what it looked at, what it
//! expected and what the store answered. The sentence is explained by the steps of
//! [`Charge`](crate::rate_limit::distributed::Charge) and [`Demand`](crate::rate_limit::distributed::Demand). A panic
//! of the store ends the suite: a check sends numbers up to `u64::MAX` in most fields.

mod buckets;
mod debts;
mod keys;
mod probe;
mod quotas;
mod report;
mod suite;
mod together;
mod windows;

pub use report::{Check, Failure, Report};
pub use suite::check;
