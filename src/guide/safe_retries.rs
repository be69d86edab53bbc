//! How do I retry without doing work twice and without making an outage worse?
//!
//! A retry hides a passing fault from your callers. It also repeats side effects, and it multiplies the load on a
//! service that is already in trouble. Four questions decide whether it is safe.
//!
//! # May the request be sent twice?
//!
//! By default the retry repeats every request, because only you know which ones must not be repeated. Say so with
//! [`replay_if`](crate::retry::Retry::replay_if). Your function returns `true` (always), `false` (never) or a
//! [`Repeat`](crate::retry::Repeat):
//!
//! - `Always`: after every failure.
//! - `IfUnprocessed`: only if the service provably did nothing with the request. Even a payment is safe then.
//!
//! The proof is an [`Outcome::Unprocessed`](crate::Outcome::Unprocessed) from your classifier, for example for a
//! connection that could not be made. An error that leaves open whether the service saw the request is a `Failure`.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
//! use steadfast::{Outcome, retry::{Repeat, Retry, RetryBudget}};
//! use tower::{ServiceExt, service_fn};
//!
//! #[derive(Clone)]
//! struct Payment {
//!     idempotency_key: Option<u64>,
//! }
//!
//! static CALLS: AtomicU32 = AtomicU32::new(0);
//! let bank = service_fn(async |_: Payment| match CALLS.fetch_add(1, Relaxed) {
//!     0 => Err("connection reset"), // the bank may have seen the payment
//!     _ => Ok("paid"),
//! });
//! let bank = steadfast::client()
//!     .retry(
//!         Retry::new(3)
//!             .replay_if(|payment: &Payment| match payment.idempotency_key {
//!                 Some(_) => Repeat::Always,
//!                 None => Repeat::IfUnprocessed,
//!             })
//!             .budget(RetryBudget::builder().initial(1).build()?),
//!     )
//!     .classify(|result: Result<&&str, &&str>| match result {
//!         Ok(_) => Outcome::Success,
//!         Err(&"connection refused") => Outcome::Unprocessed { retry_after: None },
//!         Err(_) => Outcome::Failure,
//!     })
//!     .service(bank)?;
//!
//! assert!(bank.clone().oneshot(Payment { idempotency_key: None }).await.is_err());
//! assert_eq!(CALLS.swap(0, Relaxed), 1);
//! assert_eq!(bank.oneshot(Payment { idempotency_key: Some(7) }).await.unwrap(), "paid");
//! assert_eq!(CALLS.load(Relaxed), 2);
//! # Ok(())
//! # }
//! ```
//!
//! With the feature `http`, `http::retry(3)` decides this by the method and the header `Idempotency-Key`.
//!
//! After an error, [`Rejection::reached_service`](crate::Rejection::reached_service) says whether the call may have had
//! effects.
//!
//! # Can another attempt help?
//!
//! The retry repeats a `Failure`, an `Unprocessed`, and a timeout after the service was called. It repeats an
//! `Overloaded` only if the service said when to come back, and then not earlier. It repeats no `Permanent`. The page
//! of [`retry`](crate::retry#what-is-retried) has the whole table.
//!
//! # How much load do all retries add?
//!
//! Three attempts for each call are three times the load at the moment when the service has the least room. A
//! [`RetryBudget`](crate::retry::RetryBudget) bounds the retries to a share of the calls: 10% by default. All services
//! that one layer makes share it.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
//! use steadfast::retry::Retry;
//! use tower::{ServiceExt, service_fn};
//!
//! static CALLS: AtomicU32 = AtomicU32::new(0);
//! let client = steadfast::client().retry(Retry::new(3)).service(service_fn(async |(): ()| {
//!     CALLS.fetch_add(1, Relaxed);
//!     Err::<(), _>("down")
//! }))?;
//! for _ in 0..100 {
//!     assert!(client.clone().oneshot(()).await.is_err());
//! }
//! // Without the budget it would be 300. The calls earned ten retries. At most two more come from elsewhere: a new
//! // budget holds less than one retry, and it gains one every 100 s, for clients with little traffic.
//! assert!(CALLS.load(Relaxed) <= 112);
//! # Ok(())
//! # }
//! ```
//!
//! A new budget holds less than one retry. A program that lives for a few calls uses
//! [`initial`](crate::retry::RetryBudgetBuilder::initial).
//!
//! # Who else retries?
//!
//! Attempts multiply from hop to hop: three at each of three hops are 27 calls of the last service. Let only one level
//! of the chain retry.
//!
//! - A retry that gives up forbids the retries of the callers around it. The stacks pass this on, over HTTP and gRPC as
//!   well. A client follows the header `steadfast-retry` only if the server is an internal peer ([`http_grpc`]). See
//!   [`CallContext::forbid_retry`](crate::CallContext::forbid_retry).
//! - Switch off the retries inside the clients that you wrap; see
//!   [`retry`](crate::retry#services-that-retry-by-themselves).
//!
//! # Waits
//!
//! By default, a [`Backoff`](crate::retry::Backoff) draws each wait at random, from zero to a ceiling that doubles from
//! retry to retry. Clients that failed together therefore do not come back together. If a wait would end at the
//! deadline of the call or later, the retry is not made. The caller gets the last answer at once. A service that asks
//! for a longer wait than [`max_hint`](crate::retry::Retry::max_hint) gets no retry.
//!
//! # Retries and circuit breakers
//!
//! Each attempt passes the breaker. An open circuit ends the call at once; a retry does not wait until the circuit
//! closes. For batch work a late answer is better than none: use
//! [`wait_for_refusals`](crate::retry::Retry::wait_for_refusals).
//!
#![cfg_attr(feature = "http", doc = "[`http_grpc`]: super::http_grpc")]
#![cfg_attr(not(feature = "http"), doc = "[`http_grpc`]: crate#features")]
