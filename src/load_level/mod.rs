//! Lets calls wait their turn, and says for how long.
//!
//! A service that is at capacity for a moment need not refuse calls. They wait in a bounded queue, and the service
//! takes them at its own pace. A call that cannot be served in time is refused early, so that the others are served.
//! This layer waits; [`load_shed`](crate::load_shed) decides at once.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use std::time::Duration;
//! use steadfast::load_level::{LoadLevelLayer, Queue};
//! use tower::{BoxError, Layer, ServiceExt, service_fn};
//!
//! let query = service_fn(async |_: ()| {
//!     tokio::time::sleep(Duration::from_millis(10)).await;
//!     Ok::<_, BoxError>("rows")
//! });
//! // Two at once, up to three wait.
//! let queue = Queue::builder(2, 3).build()?;
//! let service = LoadLevelLayer::new(queue.clone()).typed_error().layer(query);
//!
//! let calls = (0..6).map(|_| service.clone().oneshot(()));
//! let answers = futures::future::join_all(calls).await;
//! assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 5);
//! assert_eq!(queue.readings().not_served.full, 1);
//! # Ok(())
//! # }
//! ```
//!
//! # Semantics
//!
//! - A call takes its place in the first poll of its future. Where there is room and no call waits it goes on at once.
//!   Otherwise the future waits. Nothing is spawned, and the service's readiness is not asked for before the turn has
//!   come.
//! - The [`Discipline`] says which waiter is next, and which has waited too long. By default the oldest is next, unless
//!   it has waited for half of the time until its deadline. Such a call is refused
//!   ([`Rejection::WaitedTooLong`](crate::Rejection::WaitedTooLong)) and does not run. In simulations this rule alone
//!   kept a server at twice and at ten times its capacity busy with work that was still wanted.
//! - The deadline is that of the call's [context](crate::CallContext). A server reads it from the request, since it
//!   does not travel by itself, and runs the service in its [`scope`](crate::CallContext::scope). No call waits longer
//!   than [`max_wait`](QueueBuilder::max_wait), which is the only limit without a deadline. Set it to half of the time
//!   for which callers wait.
//! - Where calls have different deadlines, [`Discipline::earliest_deadline`] serves the most urgent first.
//! - The queue is bounded by the number of calls, and by their [weight](LoadLevel::weight). A full queue refuses
//!   ([`Rejection::QueueFull`](crate::Rejection::QueueFull)) the call that is worth least: a call whose time is up, if
//!   it is the oldest of its class; a call of the lowest class, where calls are served [by
//!   criticality](QueueBuilder::by_criticality); the call that would be served last, which is the newcomer where the
//!   oldest are served first.
//! - [`Queue::adaptive`] needs no depth. It refuses a call as soon as it comes if the calls before it take longer, at
//!   the measured rate of the service, than it may wait.
//! - Refusals carry a `retry_after`: the time in which all waiters are served at the present rate, if none of them
//!   leaves. It is `None` while that rate is not known.
//! - A call that ends gives its place to the next one before it returns. A call that was refused or cancelled before it
//!   reached the service gives back its share of the [pace](QueueBuilder::pace), if no other call has begun since.
//! - The [`Queue`] is a handle: it can be read and changed while calls wait, shared by many layers, and used without
//!   tower.
//! - All instants of a queue come from one clock. Build the queue in the runtime that uses it. For a runtime whose
//!   clock is behind, such as that of another test with a paused clock, the queue's time stands still until the clock
//!   has caught up: the pace lets no call through, and waits have no end.
//!
//! # Deadlines and classes from a request
//!
//! Read them outside of the stack, in any framework, and run the call in a context that has them.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use std::{convert::Infallible, time::Duration};
//! use hyper::{Request, Response};
//! use steadfast::{CallContext, Criticality, Rejection, load_level::Queue};
//! use tokio::time::Instant;
//! use tower::{ServiceExt, service_fn};
//!
//! let handler = service_fn(async |_: Request<String>| Ok::<_, Infallible>(Response::new("rows".to_owned())));
//! let stack = steadfast::server()
//!     .load_level(Queue::builder(4, 100).by_criticality().build()?)
//!     .respond_with(|rejection: Rejection| Response::new(rejection.to_string()))
//!     .service(handler)?;
//!
//! let service = service_fn(move |request: Request<String>| {
//!     let header = |name| request.headers().get(name).and_then(|value| value.to_str().ok());
//!     let mut context = CallContext::new();
//!     // For how long the caller still waits: not until when, since clocks differ.
//!     if let Some(millis) = header("x-timeout-ms").and_then(|text| text.parse::<u32>().ok()) {
//!         context = context.with_deadline(Instant::now() + Duration::from_millis(millis.into()));
//!     }
//!     if header("x-batch").is_some() {
//!         context = context.with_criticality(Criticality::Sheddable);
//!     }
//!     context.scope(stack.clone().oneshot(request))
//! });
//! # let request = Request::get("/").header("x-timeout-ms", "200").body(String::new())?;
//! # assert_eq!(service.oneshot(request).await?.body(), "rows");
//! # Ok(())
//! # }
//! ```
//!
//! The body is not there yet when a call is weighed. A weight by its length relies on the length that the caller
//! states.
//!
//! # Cancellation
//!
//! A call that is dropped while it waits leaves at once. Its place, or the one in the service that it has become
//! meanwhile, goes to the next call. A future that is neither polled nor dropped when its turn has come keeps its place
//! in the service. If it is polled after its deadline, it is refused and gives the place back.
//!
//! With a pace the next waiter keeps the time for those behind it. While it is not polled, they go on when another call
//! comes or ends.
//!
//! A call that a timeout ends gives its place back, even if its work goes on in a spawned task or another process.
//!
//! # Shutdown
//!
//! [`Queue::close`] refuses all waiters and all later calls, with [`Rejection::Closed`](crate::Rejection::Closed). The
//! calls in the service go on, and [`in_service`](Queue::in_service) says when the last one has ended. A server maps
//! the rejection to 503, or to gRPC's `UNAVAILABLE`, so that its callers go to another instance.
//!
//! # Cost
//!
//! While no call waits: one compare-and-swap to admit and one to leave, no clock, no lock, no allocation. A call that
//! waits takes a lock when it comes, in each poll, and when it leaves. It makes one timer and is woken once, with any
//! number of waiters. With a pace it may be woken twice, and twice more for each call that overtakes it. The places in
//! the queue are allocated as it grows, used again, and freed with the queue. These steps take constant time. With
//! [`Discipline::earliest_deadline`] they take O(log n) for n waiters.
//!
//! # For an autoscaler
//!
//! [`Readings`] state the number of waiters, the age of the oldest, the expected wait of a newcomer, when the backlog
//! is gone, the depth in force, and how many calls the service would have to do at once to keep up.
//!
//! # Differences from other queues
//!
//! `tower::buffer` holds its service in a task of its own. An error of its readiness ends that task for all callers,
//! and cancelled entries keep their place. `tower::limit::ConcurrencyLimit` and most bulkheads queue without a bound
//! and in order of arrival, so that under overload every call is served when its caller has gone.

mod acquire;
mod builder;
mod config;
mod deadlines;
mod discipline;
#[cfg(feature = "redis")]
pub mod durable;
mod instrument;
mod layer;
mod pace;
mod places;
mod queue;
mod rates;
mod readings;
mod service_rate;
mod stage;
mod state;
#[cfg(test)]
mod tests;

pub use acquire::{Acquire, Permit};
pub use builder::QueueBuilder;
pub use config::LoadLevelConfig;
pub use discipline::Discipline;
#[cfg(feature = "constant-work")]
pub(crate) use discipline::Kind;
pub use layer::{LoadLevel, LoadLevelLayer};
#[doc(hidden)]
pub use layer::{Weigh, WeighsBy, WeighsOne};
pub use queue::Queue;
pub use rates::DrainTime;
pub use readings::{Counts, Readings};
#[doc(hidden)]
pub use stage::LoadLevelStage;
