//! Stacks: the layers of this crate in a fixed, sensible order, independent of the order in which you name them.
//!
//! ```text
//! client: observe > timeout > retry > circuit breaker > rate limit > load shed > attempt timeout > observe > context
//!         > stamp > service
//! server: observe > rate limit > load shed > load level > timeout > context > service
//! ```
//!
//! [`client`](crate::client) wraps a service that you call, [`server`](crate::server) one that others call. An empty
//! slot costs nothing. Filling a slot twice does not compile.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use std::time::Duration;
//! use steadfast::{circuit_breaker::Breaker, retry::Retry};
//! use tower::{ServiceExt, service_fn};
//!
//! let payments = steadfast::client()
//!     .timeout(Duration::from_secs(6))
//!     .retry(Retry::new(3))
//!     .circuit_breaker(Breaker::builder().build()?)
//!     .attempt_timeout(Duration::from_millis(600))
//!     .service(service_fn(async |amount: u32| Ok::<_, std::io::Error>(amount)))?;
//! assert_eq!(payments.oneshot(7).await?, 7);
//! # Ok(())
//! # }
//! ```
//!
//! # Why these orders
//!
//! - An open breaker refuses before the call takes a token or a permit.
//! - If an inner layer refuses an attempt, the outer layers take their tokens and permits back.
//! - A call in backoff holds neither token nor permit.
//! - Refusals by the stack itself are no evidence against the service.
//! - A call that waits in a server's queue holds a permit of the load shed. Its timeout has not started.
//! - If the stack itself refuses an attempt, the retry ends the call, unless it is built to wait for refusals; see
//!   [`retry`](crate::retry).
//! - On a server the rate limit comes first: its check is the cheapest, and a caller over its share must not displace
//!   others.
//!
//! # How a rejection reaches the caller
//!
//! | method | the caller gets |
//! |---|---|
//! | none | [`Error<E>`](crate::Error): the rejection, or the service's error |
//! | `.keep_error()` | the service's error type, which must be `From<Rejection>` |
//! | `.respond_with(\|rejection\| response)` | a response; the error type stays |
//! | `.boxed_error()` | a `BoxError` that holds the rejection or the service's error |
//! | `.border(..)` | a response or an error of your own [`Border`](crate::shell::Border), which also sees the request |
//!
//! Servers need responses: hyper closes the connection on an error, and axum accepts no errors.
//! [`Error`](crate::Error#passing-errors-on) shows how `?` converts errors.
//!
//! [`Rejection`](crate::Rejection) prints as one line with the mechanism and the reason. `Error<E>` prints whether a
//! layer rejected the call or the service failed, followed by the rejection or the service's error. Its `source()` is
//! that rejection or that error.
//!
//! # The context of the service
//!
//! The service runs with the call's [`CallContext`](crate::CallContext) as the current one. In a client this is the
//! context of the attempt: its number and its deadline. A stack with a timeout reads the clock when a call starts, to
//! compute the deadline. In a client with only a timeout, the context costs one clock reading and two accesses to a
//! task-local value per call. A client with a retry reads the clock anyway.
//!
//! # A stack around a stack
//!
//! Each stack knows only its own layers. An outer stack treats the refusal of an inner stack as an error of the
//! service. The token of the outer stack stays spent, the error counts against the service, and the retry repeats the
//! call. If both stacks are in one process, give the outer one the classifier [`Layered`](crate::classify::Layered). It
//! recognizes the inner refusal. The outer stack then takes its token back, its breaker does not count the refusal, and
//! its retry ends the call.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use std::time::Duration;
//! use steadfast::classify::{AnyError, Layered};
//! use steadfast::{Error, Rejection, load_shed::Limiter, rate_limit::TokenBucket};
//! use tokio::time::Instant;
//! use tower::{ServiceExt, service_fn};
//!
//! let places = Limiter::fixed(1)?;
//! let inner = steadfast::client()
//!     .load_shed(places.clone())
//!     .service(service_fn(async |n: u32| Ok::<_, std::io::Error>(n)))?;
//!
//! let tokens = TokenBucket::builder(10, Duration::from_secs(60)).build()?;
//! let outer = steadfast::client()
//!     .rate_limit(tokens.clone())
//!     .classify_with(Layered(AnyError))
//!     .keep_error() // the inner stack's error can hold the outer one's rejections, too
//!     .service(inner)?;
//!
//! let _taken = places.try_acquire()?;
//! let error = outer.oneshot(7).await.unwrap_err();
//! assert!(matches!(error, Error::Rejected(Rejection::Overloaded(_))));
//! assert_eq!(tokens.available_at(Instant::now()), 10);
//! # Ok(())
//! # }
//! ```
//!
//! The inner error must be [`Error<E>`](crate::Error), or a tower `BoxError` that holds a rejection or an `Error<E>`.
//! If the inner refusal reaches the outer stack as a response, as in most servers,
//! [`refund_if`](crate::rate_limit::RateLimit::refund_if) returns the tokens of the rate limit.
//!
//! # Stages of your own
//!
//! Your own gate, admission or stage can fill each slot: `own_load_shed` in place of `load_shed`, and so on. It takes
//! the position of that layer. Inside the retry, each attempt passes it. If it refuses an attempt, the outer layers
//! take their tokens and permits back.
//!
//! | function | takes | which must implement |
//! |---|---|---|
//! | [`gate`] | a [`Gate`](crate::shell::Gate) | [`DescribeGate`] |
//! | [`admission`] | an [`Admission`](crate::shell::Admission) | [`DescribeAdmission`](crate::shell::DescribeAdmission) |
//! | your own [`Slot`] | any [`Stage`](crate::shell::Stage) | [`Describe`] |
//!
//! See the [shell](crate::shell#a-stage-of-your-own), and `examples/own_gate.rs` for a bulkhead per tenant.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use steadfast::error::{Rejection, SwitchedOff};
//! use steadfast::shell::{DescribeGate, Ending, Explanation, Frame, Gate};
//! use tower::{ServiceExt, service_fn};
//!
//! /// Refuses even numbers.
//! #[derive(Clone)]
//! struct OddOnly;
//!
//! impl Gate<u32> for OddOnly {
//!     type Permit = ();
//!
//!     fn admit(&self, number: &u32, _: &mut Frame) -> Result<(), Rejection> {
//!         if number % 2 == 1 { Ok(()) } else { Err(SwitchedOff::new().into()) }
//!     }
//!
//!     fn settle(&self, _: (), _: Ending, _: &mut Frame) {}
//! }
//!
//! impl DescribeGate for OddOnly {
//!     fn describe(&self, explanation: &mut Explanation) {
//!         explanation.layer("odd only", "no even numbers");
//!     }
//! }
//!
//! let service = steadfast::client()
//!     .own_load_shed(steadfast::stack::gate(OddOnly))
//!     .service(service_fn(async |n: u32| Ok::<_, std::io::Error>(n)))?;
//! assert_eq!(service.clone().oneshot(7).await?, 7);
//! assert!(service.oneshot(8).await.is_err());
//! # Ok(())
//! # }
//! ```
//!
//! A [live] stack accepts your own stages, too. The configuration of the stack has no part for them. In a live stack, a
//! stage of your own that is neither a gate nor an admission must implement [`Recall`](crate::shell::Recall).
//!
//! # Observing
//!
//! `.observe("payments", observer)` reports each call to an [`Observer`](crate::shell::Observer), and in a client each
//! attempt. `.classify(..)` decides what the answers of the service mean to the observer and to the other layers.
//!
//! # In a field of a struct
//!
//! The type of a stack names every layer. For a field of a struct, tower's `BoxCloneSyncService` names only the
//! request, the response and the error. It allocates one box per call and one per clone. Together they add about a
//! tenth to the time of a call through all six layers of a client.
//!
//! ```
//! # fn main() -> Result<(), steadfast::ConfigError> {
//! use std::time::Duration;
//! use steadfast::{Error, retry::Retry};
//! use tower::{service_fn, util::BoxCloneSyncService};
//!
//! struct Shop {
//!     payments: BoxCloneSyncService<u32, u32, Error<std::io::Error>>,
//! }
//!
//! let payments = steadfast::client()
//!     .retry(Retry::new(3))
//!     .attempt_timeout(Duration::from_millis(600))
//!     .service(service_fn(async |amount: u32| Ok(amount)))?;
//! let shop = Shop { payments: BoxCloneSyncService::new(payments) };
//! # let _ = shop.payments;
//! # Ok(())
//! # }
//! ```
//!
//! A generic struct accepts every stack and allocates nothing. Tests can give it a service without a stack:
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use steadfast::{Error, load_shed::Limiter};
//! use tower::{Service, ServiceExt, service_fn};
//!
//! struct Shop<P> {
//!     payments: P,
//! }
//!
//! impl<P, E> Shop<P>
//! where
//!     P: Service<u32, Response = u32, Error = Error<E>> + Clone,
//! {
//!     async fn buy(&self, amount: u32) -> Result<u32, Error<E>> {
//!         self.payments.clone().oneshot(amount).await
//!     }
//! }
//!
//! let payments = service_fn(async |amount: u32| Ok::<_, std::io::Error>(amount));
//! let shop = Shop { payments: steadfast::client().load_shed(Limiter::fixed(8)?).service(payments)? };
//! assert_eq!(shop.buy(7).await?, 7);
//! # Ok(())
//! # }
//! ```
//!
//! A function can return a stack as
//! `impl Service<u32, Response = u32, Error = Error<E>, Future: Send> + Clone + Send + Sync`.
//!
//! # If `oneshot` or `call` is not found
//!
//! The compiler reports unsatisfied trait bounds of the stack, but not always which. It names the cause if you write
//! the call in full: `tower::Service::<Request>::call(&mut stack, request)`, or `BoxCloneSyncService::new(stack)`.
//!
//! | message or symptom | cause |
//! |---|---|
//! | unsatisfied bounds | a closure whose parameter is not the request |
//! | unsatisfied bounds | `keep_error` with an error type that is not `From<Rejection>` |
//! | unsatisfied bounds | a rate limit that waits and is combined with [another](crate::rate_limit::RateLimit::and) |
//! | unsatisfied bounds, or a lifetime error | a closure that borrows from the request, such as `http::header`, as a `tenant` or as the key of a `PerKey`; return an owned value |
//! | a body is not `Clone` | the retry lacks `bodies` |
//! | `Infallible` is not `From<Error<Infallible>>`, in axum | `.http(..)` or `.respond_with(..)` is missing |
//! | a slot is private after `whole_body` | the slot must be filled before `whole_body` |
//! | `service`, `layer` or `live` is not found | a stage of your own lacks [`Describe`] |
//! | a call of a live stack is not found | a stage of your own lacks [`Recall`](crate::shell::Recall) |
//!
//! # Behind a balancer
//!
//! With the `load` feature a stack implements tower's `Load`: the number of calls in flight, plus a penalty while it
//! refuses calls. A balancer then avoids an endpoint whose circuit is open. It returns to the endpoint for a probe when
//! the open time is over. Give each endpoint its own stack. Put the retry around the balancer, with
//! [`Layered`](crate::classify::Layered): a refusal then ends the call, and no further attempt is made. Tower's
//! `Balance` needs tower's feature `balance`, and boxes errors: `error.downcast_ref::<steadfast::Error<E>>()` finds a
//! rejection.
//!
//! # As a layer
//!
//! `.layer()?` in place of `.service(..)?` builds the same stack as a tower `Layer`. All services that the layer makes
//! share one state. `.live()?` adds a handle that changes the configuration while calls pass; see [`live`].

mod adapt;
mod client;
mod exempt;
pub mod live;
mod own;
mod server;
mod slot;

#[doc(no_inline)]
pub use crate::shell::{Describe, DescribeGate, Explanation};
#[doc(hidden)]
pub use adapt::{Adapt, Adapted, Adapter, AdmissionSlot};
#[doc(hidden)]
pub use client::AdaptedClient;
pub use client::ClientBuilder;
#[doc(hidden)]
pub use exempt::{Exempt, Exempting};
#[doc(hidden)]
pub use own::{Admitting, Own};
pub use own::{admission, gate};
#[doc(hidden)]
pub use server::AdaptedServer;
pub use server::ServerBuilder;
pub use slot::Slot;
#[doc(hidden)]
pub use slot::{Gated, Limit, LiveSlot, Off, Watch, Watched};

pub(crate) use client::client;
pub(crate) use server::server;
