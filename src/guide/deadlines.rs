//! How does a deadline reach every service in a chain of calls?
//!
//! A caller waits for a second. The service that it calls asks a database, with a timeout of its own of five seconds.
//! After one second all the work is for nothing, and nothing stops it. Every service in a chain has to know how much
//! time is left.
//!
//! # What travels with a call
//!
//! A [`CallContext`](crate::CallContext) has the deadline, the [`Criticality`](crate::Criticality) and the number of
//! the attempt. It is a task-local of tokio: code reads it with
//! [`CallContext::current`](crate::CallContext::current).
//!
//! | who | does |
//! |---|---|
//! | a server stack | opens the context around its handler, with the earlier of the caller's deadline and its own timeout |
//! | a client stack | reads the context, ends the call by that deadline, and opens one for each attempt |
//! | the service inside a client | sees the deadline of its attempt, and can send it along |
//!
//! A deadline never moves away: each layer can only make it earlier.
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
//! // The handler passes nothing on.
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
//! A client stack ends the call by an inherited deadline only if it has a `timeout`, however long. Without one it hands
//! the deadline on, and retries and waiters look at it. So give every client a timeout.
//!
//! A stack with a timeout refuses a call whose deadline has passed before it begins. An attempt that an inherited
//! deadline ends before half of its own timeout is no evidence against the service; see
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
//! A spawned task goes on when its caller gives up. Let it stop at the deadline of its context, or abort it.
//!
//! # Between processes
//!
//! With the feature `http` a server reads from the headers of a request how much time is left. A client writes it for
//! each attempt. Headers carry a remaining time, never a time of day, because the clocks of two machines differ.
//! See [`http_grpc`].
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
//! # Who uses the deadline
//!
//! | layer | use |
//! |---|---|
//! | [`timeout`](crate::timeout) | ends the call |
//! | [`retry`](crate::retry) | makes no retry whose backoff would end at the deadline or later |
//! | [`load_shed`](crate::load_shed#a-limit-that-finds-itself) | an adaptive limit refuses a call that would not end in time |
//! | [`load_level`](crate::load_level#semantics) | refuses a call that has waited for half of its time |
//! | [`circuit_breaker`](crate::circuit_breaker#semantics) | does not count an attempt that had less than half of its time |
//!
#![cfg_attr(feature = "http", doc = "[`http_grpc`]: super::http_grpc")]
#![cfg_attr(not(feature = "http"), doc = "[`http_grpc`]: crate#features")]
