//! Lets calls wait in a bounded queue until the service can take them.
//!
//! A service that is at capacity for a moment need not refuse calls. They wait in a bounded queue, and the service
//! takes them at its own pace. The queue refuses early the calls that cannot be served in time, so that it serves the
//! others in time. This layer waits; [`load_shed`](crate::load_shed) decides at once. Other libraries call the two a
//! bulkhead with and without a wait queue.
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
//! - A call takes its place in the first poll of its future. If the service has room and no call waits, the call goes
//!   on at once. Otherwise its future waits. The queue spawns no task, and polls the service's readiness only after the
//!   call's turn has come.
//! - The [`Discipline`] says which waiter is served next, and which has waited too long. By default the oldest waiter
//!   is next, unless it has waited for half of the time until its deadline. Such a call is refused
//!   ([`Rejection::WaitedTooLong`](crate::Rejection::WaitedTooLong)) and does not run. In simulations this rule alone
//!   kept a server at twice and at ten times its capacity busy with work that callers still wanted.
//! - The deadline is the one in the call's [context](crate::CallContext). It does not travel by itself: a server reads
//!   it from the request and runs the service in the context's [`scope`](crate::CallContext::scope). No call waits
//!   longer than [`max_wait`](QueueBuilder::max_wait), the only limit for a call without a deadline. Set it to half of
//!   the time for which callers wait.
//! - If calls have different deadlines, [`Discipline::earliest_deadline`] serves the most urgent call first.
//! - The queue bounds the number of waiters and their total [weight](LoadLevel::weight). A full queue refuses
//!   ([`Rejection::QueueFull`](crate::Rejection::QueueFull)) the first of these calls that it finds:
//!   - the oldest waiter of a class, if its time to wait has ended;
//!   - a waiter of a lower class, if calls are served [by criticality](QueueBuilder::by_criticality);
//!   - the call that would be served last. That is the newcomer, if the oldest waiter is served first.
//! - [`Queue::adaptive`] finds its depth by itself. It refuses a new call at once if the calls before it take longer,
//!   at the measured service rate, than the new call may wait.
//! - Refusals carry a `retry_after`: the time to serve all waiters at the present rate, if none of them leaves. It is
//!   `None` while the rate is not known.
//! - A call that ends gives its place to the next call before it returns. A call that was refused or cancelled before
//!   it reached the service returns its slot of the [pace](QueueBuilder::pace), if no other call has begun since.
//! - A [`Queue`] is a handle: read and change it while calls wait, share it among layers, or use it without tower.
//! - A queue reads one clock. Build the queue in the runtime that uses it. In a runtime whose clock is behind, such as
//!   another test with a paused clock, the queue's time stops until that clock catches up: the pace admits no call, and
//!   waits do not end.
//!
//! # Deadlines and classes from a request
//!
//! Read both outside of the stack, in any framework, and run the call in a context that has them.
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
//!     // The time for which the caller still waits, not an instant: clocks differ.
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
//! The body has not arrived when a call is weighed. A weight by the length of the body relies on the length that the
//! caller states.
//!
//! # Cancellation
//!
//! A call that is dropped while it waits leaves at once. Its place in the queue, or in the service if its turn has
//! come, goes to the next call. A future that is neither polled nor dropped after its turn has come keeps its place in
//! the service. If it is polled after its deadline, it is refused and returns the place.
//!
//! With a pace, only the first waiter has a timer for the next slot. While its task does not poll it, the waiters
//! behind it go on when another call comes or ends.
//!
//! A call that a timeout ends returns its place, even if its work goes on in a spawned task or in another process.
//!
//! # Shutdown
//!
//! [`Queue::close`] refuses all waiters and all later calls with [`Rejection::Closed`](crate::Rejection::Closed). The
//! calls in the service go on; [`in_service`](Queue::in_service) reads zero when the last one has ended. A server maps
//! the rejection to 503, or to gRPC's `UNAVAILABLE`, so that its callers go to another instance.
//!
//! # Cost
//!
//! While no call waits, a call makes one compare-and-swap to enter and one to leave. It reads no clock, takes no lock
//! and allocates nothing. A call that waits takes a lock when it comes, in each poll, and when it leaves. It makes one
//! timer, and is woken once for any number of waiters. With a pace it can be woken twice, and twice more for each call
//! that overtakes it. The queue allocates places as it grows, reuses them, and frees them when it is dropped. Each step
//! takes constant time; with [`Discipline::earliest_deadline`] it takes O(log n) for n waiters.
//!
//! # For an autoscaler
//!
//! [`Readings`] state the number of waiters, the age of the oldest, the expected wait of a new call, the time until the
//! backlog is gone, the depth in force, and the concurrency that the service would need to keep up.
//!
//! # Differences from other queues
//!
//! `tower::buffer` runs its service in a task of its own. A readiness error ends that task for all callers, and
//! cancelled entries keep their place. `tower::limit::ConcurrencyLimit` and most bulkheads queue without a bound and in
//! order of arrival. Under overload they serve every call after its caller has gone.

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
