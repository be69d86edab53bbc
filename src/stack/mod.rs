//! Stacks: the layers of this crate in the orders that make sense, whatever order they are named in.
//!
//! ```text
//! client: observe > timeout > retry > circuit breaker > rate limit > load shed > attempt timeout > observe > context
//!         > stamp > service
//! server: observe > rate limit > load shed > load level > timeout > context > service
//! ```
//!
//! [`client`](crate::client) is for what calls out, [`server`](crate::server) for what is called. A slot that is not
//! filled costs nothing; filling one twice does not compile.
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
//! - An open breaker refuses before a token or a place is taken.
//! - What was taken for an attempt that a layer further in refuses is given back.
//! - A call that waits for its next attempt holds neither token nor place.
//! - Refusals of the stack itself are no evidence against the service.
//! - A call that waits its turn on a server holds a place of the load shed, and has not begun the time of its timeout.
//! - A retry does not wait for refusals by the stack itself; see [`retry`](crate::retry).
//! - On a server the rate limit comes first: it is the cheapest, and a caller over its share must not push out others.
//!
//! # Ways out for a rejection
//!
//! By default a call fails with [`Error<E>`](crate::Error). `.keep_error()` converts rejections into the service's own
//! error type, which must be `From<Rejection>`. `.respond_with(|rejection| response)` turns them into responses and
//! keeps the error type; servers need it, since hyper closes the connection on an error and axum admits none.
//!
//! `.boxed_error()` boxes rejections and the service's errors, each as itself, for functions that return a `BoxError`.
//! `?` converts the default `Error<E>` into every box of errors, if `E` is an error type;
//! [`Error`](crate::Error#passing-errors-on) has an example of each.
//!
//! A [`Border`](crate::shell::Border) of your own, given to `.border(..)`, sees the request as well. It answers in the
//! caller's format, and may change the type of the response.
//!
//! [`Rejection`](crate::Rejection) prints as one line that names the mechanism and the reason. `Error<E>` prints which
//! of the two it is, and the rejection or the service's error. `source()` leads to that as well.
//!
//! # The context of the service
//!
//! The service runs with the call's [`CallContext`](crate::CallContext) as the current one. In a client that is the
//! context of the attempt: its number, and the deadline by which it is given up. So a stack with a timeout reads the
//! clock when a call starts. A client with only a timeout then costs a reading of the clock and two accesses to the
//! task-local more per call; one with a retry reads the clock anyway.
//!
//! # A stack around a stack
//!
//! Each stack knows its own layers only. To an outer stack, the refusal of an inner one is the error of a service that
//! was called: it keeps its token, counts against the service, and is tried again. Where both are in one process, give
//! the outer one the classifier [`Layered`](crate::classify::Layered). It takes the inner refusal for what it is:
//! tokens are given back, no breaker counts it, and no retry waits for it.
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
//! The inner error has to be [`Error<E>`](crate::Error), or tower's `BoxError` around either. A server stack has no
//! classifier; its rate limit gives tokens back by [`refund_if`](crate::rate_limit::RateLimit::refund_if).
//!
//! # Stages of your own
//!
//! A gate, an admission or a stage of your own can take each place: `own_load_shed` in place of `load_shed`, and so on.
//! It stands where the layer of that name would, so a retry tries it again, and the layers further out give back what
//! they took if it refuses. [`gate`] takes a [`Gate`](crate::shell::Gate), [`admission`] an
//! [`Admission`](crate::shell::Admission), and your own [`Slot`] makes any [`Stage`](crate::shell::Stage). All of them
//! have to say what they do: [`DescribeGate`], [`DescribeAdmission`](crate::shell::DescribeAdmission) or [`Describe`].
//! See the [shell](crate::shell#a-stage-of-your-own), and
//! `examples/own_gate.rs` for a bulkhead per tenant.
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
//! A [live] stack takes them, too. Its configuration has no part for them. There a stage of your own that is neither
//! gate nor admission implements [`Recall`](crate::shell::Recall).
//!
//! # Watching
//!
//! `.observe("payments", observer)` tells an [`Observer`](crate::shell::Observer) of each call, and in a client of each
//! attempt. A server says what the answers of its handler mean by `.classify(..)`.
//!
//! # In a field of a struct
//!
//! The type of a stack names every layer. A field is easiest to write with tower's `BoxCloneSyncService`, which names
//! the request, the response and the error. It allocates one box for each call, and one for each clone. Both together
//! add about a tenth to the time of a call through all six layers of a client.
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
//! A struct with a parameter takes every stack, and allocates nothing. Tests can give it a service without a stack:
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
//! A function returns it as `impl Service<u32, Response = u32, Error = Error<E>, Future: Send> + Clone + Send + Sync`.
//!
//! # If `oneshot` or `call` is not found
//!
//! The compiler then says that the trait bounds of the stack are not satisfied, and not always which. It names the
//! cause where the call is written out: `tower::Service::<Request>::call(&mut stack, request)`, or
//! `BoxCloneSyncService::new(stack)`. Causes are a closure with another parameter than the request, a `keep_error`
//! whose error type is not `From<Rejection>`, or a limit that waits among [several](crate::rate_limit::RateLimit::and).
//! Where a body is not `Clone`, the retry lacks `bodies`. That `Infallible` is not `From<Error<Infallible>>`, in axum,
//! means that `.http(..)` or `.respond_with(..)` is missing. A slot that is said to be private after `whole_body` was
//! to be filled before it.
//!
//! Where `service`, `layer` or `live` of a builder is not found, a stage of your own does not say what it does. A call
//! of a live stack is not found where a stage of your own has no [`Recall`](crate::shell::Recall).
//!
//! # Behind a balancer
//!
//! With the `load` feature a stack implements tower's `Load`: its calls in flight, and a penalty while it refuses
//! calls. A balancer then avoids an endpoint whose circuit is open, and comes back to probe it. Give each endpoint a
//! stack of its own. Put the retry around the balancer, with [`Layered`](crate::classify::Layered): then a refusal ends
//! the call instead of spending its attempts. `Balance` needs tower's own feature `balance`, and boxes errors:
//! `error.downcast_ref::<steadfast::Error<E>>()` finds a rejection.
//!
//! # As a layer
//!
//! `.layer()?` in place of `.service(..)?` gives the same stack as a tower `Layer`. All services that it makes share
//! one state. `.live()?` gives it with a handle by which everything in it can be changed while calls pass: [`live`].

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
