//! In which order do the layers stand, and why?
//!
//! The order of layers decides what a retry repeats, what a timeout covers, and whether a refused call gets its token
//! back. A stack of [`client`](crate::client) or [`server`](crate::server) always has the same order, in whatever order
//! its methods are called.
//!
//! ```text
//! client: observe > timeout > retry > circuit breaker > rate limit > load shed > attempt timeout > observe > context
//!         > stamp > service
//! server: observe > rate limit > load shed > load level > timeout > context > service
//! ```
//!
//! A call passes from left to right. "Outer" layers are on the left, "inner" layers on the right. The first `observe`
//! of a client sees calls, the second one sees attempts.
//!
//! ```
//! # fn main() -> Result<(), steadfast::ConfigError> {
//! use std::time::Duration;
//! use steadfast::{load_shed::Limiter, retry::Retry};
//!
//! let second = Duration::from_secs(1);
//! let one = steadfast::client().timeout(second).retry(Retry::new(2)).load_shed(Limiter::fixed(8)?).layer()?;
//! let other = steadfast::client().load_shed(Limiter::fixed(8)?).retry(Retry::new(2)).timeout(second).layer()?;
//! assert_eq!(one.explain().to_string(), other.explain().to_string());
//! # Ok(())
//! # }
//! ```
//!
//! # Reasons
//!
//! | layer | stands | because |
//! |---|---|---|
//! | timeout of a client | around the retry | it bounds the whole call, with all attempts and the waits between them |
//! | retry | around breaker and limits | each attempt passes them; a call in backoff holds no place and no token |
//! | circuit breaker | before rate limit and load shed | a call that an open circuit refuses takes no token and no place |
//! | attempt timeout | inside breaker and limits | it bounds each call of the service, and the breaker sees when that call times out |
//! | rate limit of a server | first | it is the cheapest, and a caller over its share must not push out others |
//! | load shed of a server | before the queue | it counts the calls that wait, too |
//! | timeout of a server | behind the queue | it bounds the work; the deadline of the caller bounds the wait |
//!
//! The next example shows the third row: the breaker refuses, and the bucket keeps its tokens.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use std::time::Duration;
//! use steadfast::{circuit_breaker::Breaker, rate_limit::TokenBucket};
//! use tokio::time::Instant;
//! use tower::{ServiceExt, service_fn};
//!
//! let tokens = TokenBucket::builder(10, Duration::from_secs(60)).build()?;
//! let breaker = Breaker::builder().build()?;
//! let client = steadfast::client()
//!     .rate_limit(tokens.clone())
//!     .circuit_breaker(breaker.clone())
//!     .service(service_fn(async |n: u32| Ok::<_, std::io::Error>(n)))?;
//!
//! breaker.force_open();
//! let error = client.clone().oneshot(1).await.unwrap_err();
//! assert_eq!(error.rejection().unwrap().mechanism(), "circuit_breaker");
//! assert_eq!(tokens.available_at(Instant::now()), 10);
//!
//! breaker.force_closed();
//! assert_eq!(client.oneshot(2).await?, 2);
//! assert_eq!(tokens.available_at(Instant::now()), 9);
//! # Ok(())
//! # }
//! ```
//!
//! # What the layers agree on
//!
//! - A token or a place that was taken for an attempt is given back if an inner layer refuses the attempt.
//! - A refusal by the stack itself is no evidence against the service: the breaker does not count it.
//! - Before a backoff, the retry asks the inner layers of its stack whether they would refuse the next attempt. If one
//!   would, the call ends at once, unless `wait_for_refusals` is set; see
//!   [`retry`](crate::retry#refusals-by-the-stack-itself).
//! - All layers use one verdict on an answer; see [`classify`](crate::classify).
//!
//! # Two stacks in one process
//!
//! Each stack knows its own layers only. The outer stack takes a refusal of an inner stack for an error of the
//! service. Give the outer stack the classifier [`Layered`](crate::classify::Layered), which recognizes the refusal.
//! The page of [`stack`](crate::stack#a-stack-around-a-stack) has an example.
//!
//! # Another order
//!
//! Each mechanism is also a tower layer of its own, such as [`RetryLayer`](crate::retry::RetryLayer). With tower's
//! `ServiceBuilder` you choose the order. Layers that are stacked by hand need `Layered`, and the retry cannot ask the
//! inner layers before a backoff.
//!
//! # A layer of your own
//!
//! `own_load_shed` and its siblings put a gate, an admission or a stage of yours into the place of a layer. The retry
//! of a client runs your stage again in each attempt. If your stage refuses an attempt, the layers around it give back
//! what they took. See [`stack`](crate::stack#stages-of-your-own) and the example `own_gate`.
//!
//! # Requests that pass all limits
//!
//! [`exempt`](crate::stack::ServerBuilder::exempt) lets requests such as health checks bypass every limit that the
//! builder has when `exempt` is called. Limits that are added later still apply to them.
