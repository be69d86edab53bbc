//! Lets calls wait in a bounded queue until the service can take them.
//!
//! A service that is at capacity for a moment need not refuse calls. They wait in a bounded queue, and the service
//! takes them at its own pace. The queue refuses early the calls that cannot be served in time, so that it serves the
//! others in time. Here calls wait; [`load_shed`](crate::load_shed) refuses them at once. Other libraries call this a
//! bulkhead with a wait queue, and `load_shed` a bulkhead without one.
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
//! - A call takes its place in the first poll of its future. If a place in the service is free, no call waits, and the
//!   [pace](QueueBuilder::pace) allows it, the call goes on at once. Otherwise its future waits, or the queue refuses
//!   the call. The queue spawns no task. The layer polls the service's readiness only after the call's turn has come.
//! - The [`Discipline`] says which waiter is served next, and which has waited too long. By default the oldest waiter
//!   is next, and a call may wait for half of the time from its arrival to its deadline. After that the queue refuses
//!   the call ([`Rejection::WaitedTooLong`](crate::Rejection::WaitedTooLong)) and the call does not run. Simulations
//!   offered two and ten times the load that the server can take. With these defaults, and no other mechanism, the
//!   server stayed busy with calls whose callers still waited.
//! - The deadline is the one in the call's [context](crate::CallContext). It does not travel by itself: a server reads
//!   it from the request and runs the service in the context's [`scope`](crate::CallContext::scope). No call waits
//!   longer than [`max_wait`](QueueBuilder::max_wait). Except with [`Discipline::adaptive`], `max_wait` is the only
//!   limit for a call without a deadline. Set it to half of the callers' usual timeout.
//! - If calls have different deadlines, [`Discipline::earliest_deadline`] serves the most urgent call first.
//! - The queue bounds the number of waiters and their total [weight](LoadLevel::weight). A new call that would
//!   have to wait is refused if it has no time left to wait, or if it alone exceeds the weight limit. If any other new
//!   call does not fit, the queue refuses waiters or the new call, one by one, until the calls that are left fit. It
//!   chooses each one by the first rule that applies:
//!   - the oldest waiter of a class ([by earliest deadline](Discipline::earliest_deadline) the most urgent one), if its
//!     time to wait has ended ([`WaitedTooLong`](crate::Rejection::WaitedTooLong));
//!   - the new call, if the waiters that are served before it leave no room for it
//!     ([`QueueFull`](crate::Rejection::QueueFull)). By default all waiters are served before it, so the next rule
//!     never applies;
//!   - the waiter that would be served last (`QueueFull`): one of a lower class, for example, if calls are served [by
//!     criticality](QueueBuilder::by_criticality).
//! - A queue made by [`Queue::adaptive`] finds its depth by itself. ([`Discipline::adaptive`] is another setting: it
//!   changes the order.) An adaptive queue measures the service rate. It refuses a new call at once if, at this rate,
//!   the calls before it take longer than the new call may wait.
//! - A refusal by a full queue, or after too long a wait, has a `retry_after`. It is the time in which the service
//!   takes all waiters and one more call at its present rate, if no waiter leaves unserved. It is `None` while that
//!   rate is not known or is zero, and for a call that alone exceeds the weight limit.
//! - A call that ends gives its place to the next call before its own future returns the answer. With a
//!   [pace](QueueBuilder::pace), each admitted call takes a start time. An admitted call can still end before it
//!   reaches the service: its deadline passes, an inner layer refuses it, or its caller drops it. Such a call gives its
//!   start time back, and the next call can use it. The start time is lost if the queue has admitted another call in
//!   between.
//! - A [`Queue`] is a handle: read and change it while calls wait, share it among layers, or use it without tower.
//! - A queue reads one clock. Build the queue in the runtime that uses it. Another runtime can have another clock, such
//!   as a paused clock in a test. While that clock is behind the latest time that the queue has seen, the queue's time
//!   stands still. Meanwhile no further call becomes due by the pace, and no waiter reaches the end of its time to
//!   wait.
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
//! A call is weighed before its body arrives. A weight by the length of the body therefore trusts the `Content-Length`
//! of the caller.
//!
//! # Cancellation
//!
//! A call that is dropped while it waits leaves at once. Its place in the queue, or in the service if its turn has
//! come, goes to the next call. A future that is neither polled nor dropped after its turn has come keeps its place in
//! the service. If it is polled after its deadline, it is refused and returns the place.
//!
//! With a pace, and while a place in the service is free, the next waiter has a timer for the next start. If its task
//! does not poll it, the waiters behind it may start late. They then start when another call arrives or ends, or when
//! the timer of one of them fires. Such a timer fires at the end of the waiter's wait. If a place in the service was
//! free when the waiter came, the timer fires at the start that was expected then, if that is earlier.
//!
//! A call that a timeout ends returns its place, even if its work goes on in a spawned task or in another process.
//!
//! # Shutdown
//!
//! [`Queue::close`] refuses all later calls, and all waiters whose turn has not come, with
//! [`Rejection::Closed`](crate::Rejection::Closed). The calls in the service go on;
//! [`in_service`](Queue::in_service) reads zero when the last one has ended. A server maps the rejection to 503, or to
//! gRPC's `UNAVAILABLE`, so that its callers go to another instance.
//!
//! # Cost
//!
//! While no call waits and there is no pace, a call makes one compare-and-swap to enter and one to leave. It reads no
//! clock, takes no lock and allocates nothing. With a pace, each call takes the lock and reads the clock.
//!
//! A call that waits takes the lock when it comes, in each poll, and if its caller drops it. It makes one timer. It is
//! woken once, however long the queue is. With a pace it is woken up to twice, and up to twice more for each call that
//! overtakes it. The queue allocates places as it grows, reuses them, and frees them when it is dropped. Each step
//! takes constant time; with [`Discipline::earliest_deadline`] it takes O(log n) for n waiters.
//!
//! # For an autoscaler
//!
//! [`Readings`] state the number of waiters, the age of the oldest, and the present [depth](Readings::depth). They also
//! state the expected wait of a new call, and the time until the backlog is gone.
//! [`desired_concurrency`](Readings::desired_concurrency) is the concurrency that the service would need to keep up.
//!
//! # Differences from other queues
//!
//! `tower::buffer` runs its service in a task of its own. A readiness error ends that task for all callers, and
//! cancelled entries keep their place. `tower::limit::ConcurrencyLimit` and most bulkheads queue without a bound and in
//! order of arrival. Under overload the wait grows, until each call is served only when its caller gives up, or later.

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
