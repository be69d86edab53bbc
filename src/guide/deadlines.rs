//! How does a deadline reach every service in a chain of calls?
//!
//! A caller waits for one second. The service that it calls queries a database with its own timeout of five seconds.
//! After one second the caller has gone. The service and the database continue for up to four more seconds, although no
//! caller waits for the answer. Every service in a chain must know how much time is left.
//!
//! # What travels with a call
//!
//! A [`CallContext`](crate::CallContext) has the deadline, the [`Criticality`](crate::Criticality) and the number of
//! the attempt. It is a task-local of tokio: code reads it with
//! [`CallContext::current`](crate::CallContext::current).
//!
//! | who | does |
//! |---|---|
//! | a server stack | runs its handler in a context whose deadline is the earlier of two: the caller's deadline, and the end of its own timeout |
//! | a client stack | reads the context, and opens a context for each attempt; if the stack has a timeout, it ends the call at the inherited deadline at the latest |
//! | the service inside a client | reads the deadline of its attempt, and can send it on |
//!
//! A deadline never moves later: each layer can only make it earlier.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use std::time::Duration;
//! use steadfast::CallContext;
//! use tokio::time::Instant;
//! use tower::{ServiceExt, service_fn};
//!
//! let secs = Duration::from_secs;
//! // The database says which deadline it sees.
//! let database = service_fn(async |(): ()| Ok::<_, std::io::Error>(CallContext::current().deadline()));
//! let database = steadfast::client().timeout(secs(5)).service(database)?;
//!
//! // The handler does not mention the deadline. The context carries it.
//! let handler = service_fn(move |(): ()| database.clone().oneshot(()));
//! let server = steadfast::server().timeout(secs(1)).service(handler)?;
//!
//! let start = Instant::now();
//! assert_eq!(server.oneshot(()).await?, Some(start + secs(1)));
//! # Ok(())
//! # }
//! ```
//!
//! # A client without a timeout
//!
//! A `timeout` of any length also ends the call at an inherited deadline. An `attempt_timeout` of any length also ends
//! each attempt at that deadline. Without either, the stack only passes the deadline on: retries and waiting calls
//! respect it, but a call in the service does not end. Give every client a timeout.
//!
//! If the deadline has already passed when a call begins, a stack with a timeout refuses the call. The full time of an
//! attempt is the `attempt_timeout`, or without one the `timeout` of the stack. If an inherited deadline ends an
//! attempt before half of its full time, the attempt does not count as a failure of the service. See
//! [`TimedOut::was_cut_short`](crate::error::TimedOut::was_cut_short).
//!
//! # Spawned tasks
//!
//! `tokio::spawn` loses the context. [`context::spawn`](crate::context::spawn) carries it into the new task, and
//! [`CallContext::scope`](crate::CallContext::scope) carries it into any future, such as one that a worker runs.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use std::time::Duration;
//! use steadfast::{CallContext, context};
//! use tower::{ServiceExt, service_fn};
//!
//! let handler = service_fn(async |(): ()| {
//!     let deadline = async { CallContext::current().deadline() };
//!     let lost = tokio::spawn(deadline).await?;
//!     let kept = context::spawn(async { CallContext::current().deadline() }).await?;
//!     Ok::<_, tokio::task::JoinError>((lost, kept))
//! });
//! let server = steadfast::server().timeout(Duration::from_secs(1)).service(handler)?;
//! let (lost, kept) = server.oneshot(()).await?;
//! assert!(lost.is_none() && kept.is_some());
//! # Ok(())
//! # }
//! ```
//!
//! A spawned task goes on when its caller gives up. Let it stop at the deadline of its context, or abort it:
//!
//! ```
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use std::time::Duration;
//! use steadfast::{CallContext, context};
//! use tokio::time::{Instant, sleep, timeout_at};
//!
//! let caller = CallContext::new().with_deadline(Instant::now() + Duration::from_secs(1));
//! let task = caller.sync_scope(|| {
//!     context::spawn(async {
//!         let work = sleep(Duration::from_secs(60));
//!         match CallContext::current().deadline() {
//!             Some(deadline) => timeout_at(deadline, work).await.is_ok(),
//!             None => {
//!                 work.await;
//!                 true
//!             }
//!         }
//!     })
//! });
//! assert!(!task.await?, "the task stopped at the deadline");
//! # Ok(())
//! # }
//! ```
//!
//! # Between processes
//!
//! With the feature `http` a server reads from the headers of a request how much time is left. A client writes the time
//! left into the request of each attempt, if the server is an internal peer or the call is gRPC. Headers carry a
//! remaining time, never a time of day, because the clocks of two machines differ. See [`http_grpc`].
//!
//! For another protocol, read the remaining time from the request, and run the call in a scope:
//!
//! ```
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use std::time::Duration;
//! use steadfast::{CallContext, Error, Rejection};
//! use tokio::time::Instant;
//! use tower::{ServiceExt, service_fn};
//!
//! let server = steadfast::server().timeout(Duration::from_secs(5)).service(service_fn(async |(): ()| {
//!     tokio::time::sleep(Duration::from_secs(1)).await;
//!     Ok::<_, std::io::Error>(())
//! }))?;
//!
//! let time_left = Duration::from_millis(300); // from the request
//! let context = CallContext::new().with_deadline(Instant::now() + time_left);
//! let error = context.scope(server.oneshot(())).await.unwrap_err();
//! assert!(matches!(error, Error::Rejected(Rejection::TimedOut(_))));
//! # Ok(())
//! # }
//! ```
//!
//! # Which layers use the deadline
//!
//! | layer | use |
//! |---|---|
//! | [`timeout`](crate::timeout) | ends the call |
//! | [`retry`](crate::retry) | makes no retry whose backoff would end at the deadline or later |
//! | [`load_shed`](crate::load_shed#a-limit-that-finds-itself) | an adaptive limit refuses a call that would not end in time |
//! | [`rate_limit`](crate::rate_limit) | a limit that lets calls wait refuses a call whose turn would come at the deadline or later |
//! | [`load_level`](crate::load_level#semantics) | by default, refuses a call that has waited for half of the time between its arrival and its deadline |
//! | [`circuit_breaker`](crate::circuit_breaker#semantics) | does not count an attempt as a failure if the caller's deadline ended it before half of its full time |
//!
#![cfg_attr(feature = "http", doc = "[`http_grpc`]: super::http_grpc")]
#![cfg_attr(not(feature = "http"), doc = "[`http_grpc`]: crate#features")]
