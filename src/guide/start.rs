//! How do I wrap the client or the server that I have?
//!
//! You have a tower service: a client of hyper, tonic or reqwest, the handler of a server, or an async function. You
//! want it to survive slow and failing dependencies, or more load than it can do. A stack of this crate is one value
//! around that service.
//!
//! # Add the crate
//!
//! ```toml
//! [dependencies]
//! steadfast = "0.1"
//! tower = { version = "0.5", features = ["util"] }
//! ```
//!
//! No feature is on by default. HTTP and gRPC need the feature `http`; see the [features](crate#features).
//!
//! # Wrap a client
//!
//! [`client`](crate::client) begins the stack of a client. Each method fills one slot. A slot that stays empty costs
//! nothing. The layers stand in a fixed order, in whatever order the methods are called; see
//! [`ordering`](super::ordering). By default a retry can send every request again, a payment too; see
//! [`safe_retries`](super::safe_retries).
//!
//! ```
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use std::time::Duration;
//! use steadfast::{circuit_breaker::Breaker, retry::{Backoff, Retry}};
//! use tower::{ServiceExt, service_fn};
//!
//! let ms = Duration::from_millis;
//! // Put your own service here: any `tower::Service` that is `Clone`.
//! let payments = service_fn(async |amount: u32| Ok::<u32, std::io::Error>(amount));
//!
//! let payments = steadfast::client()
//!     .timeout(ms(2_000)) // the whole call, with all attempts and waits
//!     .retry(Retry::new(3).backoff(Backoff::exponential(ms(50), ms(1_000))))
//!     .circuit_breaker(Breaker::builder().build()?)
//!     .attempt_timeout(ms(600))
//!     .service(payments)?;
//! assert_eq!(payments.clone().oneshot(7).await?, 7);
//!
//! // The stack says what it does with a call, and what follows from its numbers.
//! let explanation = payments.explain();
//! assert_eq!(explanation.attempts(), 3);
//! // Three attempts of 600 ms, and waits of at most 50 and 100 ms.
//! assert_eq!(explanation.worst_case_latency(), Some(ms(1_950)));
//! println!("{explanation}");
//! # Ok(())
//! # }
//! ```
//!
//! `.service(..)?` fails with a [`ConfigError`](crate::ConfigError) where the numbers cannot work. The error names the
//! field, its value and the rule. `.layer()?` in its place gives a tower `Layer`.
//!
//! # Wrap a server
//!
//! [`server`](crate::server) begins the stack of a server. A server has to answer a caller that it refuses, so
//! `.respond_with(..)` turns a [`Rejection`](crate::Rejection) into a response.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use std::{convert::Infallible, time::Duration};
//! use steadfast::{Rejection, load_shed::Limiter};
//! use tower::{ServiceExt, service_fn};
//!
//! // Status codes stand for HTTP responses here.
//! let handler = service_fn(async |path: &'static str| {
//!     if path == "/slow" {
//!         tokio::time::sleep(Duration::from_secs(60)).await;
//!     }
//!     Ok::<u16, Infallible>(200)
//! });
//! let service = steadfast::server()
//!     .load_shed(Limiter::adaptive().build()?)
//!     .timeout(Duration::from_secs(1))
//!     .respond_with(|rejection: Rejection| match rejection {
//!         Rejection::TimedOut(_) => 504,
//!         _ => 503,
//!     })
//!     .service(handler)?;
//! assert_eq!(service.clone().oneshot("/").await?, 200);
//! assert_eq!(service.oneshot("/slow").await?, 504);
//! # Ok(())
//! # }
//! ```
//!
//! With the feature `http`, `.http(Peer::External)` makes these responses for HTTP and gRPC. It also reads the deadline
//! of the caller. See [`http_grpc`].
//!
//! # Handle the errors
//!
//! A call through a client ends with the service's answer or an [`Error`](crate::Error):
//!
//! - [`Error::Service`](crate::Error::Service) holds the service's own error.
//! - [`Error::Rejected`](crate::Error::Rejected) holds a [`Rejection`](crate::Rejection): a layer refused the call or
//!   ended it. [`mechanism`](crate::Rejection::mechanism) names the layer,
//!   [`retry_after`](crate::Rejection::retry_after) says when to come back, and
//!   [`reached_service`](crate::Rejection::reached_service) says whether the call may have had effects.
//!
//! A caller that has a fallback, such as a cached answer, returns the fallback for these two errors. The module
//! [`stack`](crate::stack#how-a-rejection-reaches-the-caller) has the other ways in which a rejection comes out.
//!
//! By default, the stack takes every `Err` for a failure and every `Ok` for a success. To decide otherwise, pass a
//! function to `.classify(..)`; see [`classify`](crate::classify).
//!
//! # Keep the handles
//!
//! [`Breaker`](crate::circuit_breaker::Breaker), [`Limiter`](crate::load_shed::Limiter) and the other mechanisms are
//! handles. A clone shares the state of the original. Keep a clone to read the mechanism and to change it while calls
//! pass.
//!
//! # Next
//!
//! [`choosing_numbers`](super::choosing_numbers) says which numbers matter. [`safe_retries`](super::safe_retries) says
//! what a retry needs to know about your requests. [`virtual_time`](super::virtual_time) shows how to test the stack.
//!
#![cfg_attr(feature = "http", doc = "[`http_grpc`]: super::http_grpc")]
#![cfg_attr(not(feature = "http"), doc = "[`http_grpc`]: crate#features")]
