//! Checks that a [`Store`](super::Store) of your own does what the limits rely on. Run the suite in one of your tests.
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
//! # Requirements
//!
//! - A tokio runtime with its timer. With a real clock the suite takes less than three seconds. With a paused clock it
//!   takes no time, and the store must then use the same clock.
//! - A store that is not used for anything else. Every run has its own keys, so the suite can run again on the same
//!   data. The suite also uses the empty key.
//! - Answers within 20 ms. A check computes the expected answer from the times at which a charge was sent and answered.
//!   A slower store rarely fails because it is slow, but the suite then finds out less about it.
//! - A clock that runs at the speed of this process's clock, and counts in milliseconds or finer. The two clocks may
//!   differ by any constant.
//!
//! # Limits of the suite
//!
//! The suite does not check how a store fails, how it handles a clock that goes back, and what it keeps over a restart.
//! It tests lost data with keys that the store has never seen.
//!
//! # When a check fails
//!
//! The name of a check is a sentence about a store that passes. A failed check reports what it looked at, what it
//! expected and what the store answered. The steps of [`Charge`](crate::rate_limit::distributed::Charge) and
//! [`Demand`](crate::rate_limit::distributed::Demand) explain the sentence. A panic of the store ends the suite. It may
//! come from a sum that overflows: the checks send numbers up to `u64::MAX` in most fields.

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
