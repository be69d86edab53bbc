//! How does a server keep answering when more arrives than it can do?
//!
//! A server that takes in more than it can do gets slower, until every answer comes after its caller has gone. Callers
//! retry, and more arrives. Such a server may stay overloaded even when the rush is over. It has to refuse what it
//! cannot do in time, early and cheaply.
//!
//! # Which mechanism
//!
//! | situation | mechanism |
//! |---|---|
//! | more arrives than the server can do | [`load_shed`](crate::load_shed): refuses at once |
//! | a burst arrives that the server can work off soon | [`load_level`](crate::load_level): lets calls wait in a bounded queue |
//! | the work may be done later, even by another process | a durable queue; see [`fleet`](super::fleet#a-queue-over-redis) |
//! | one caller takes more than its share | [`rate_limit`](crate::rate_limit) by key, or [`fair_share`](crate::load_shed::LimiterBuilder::fair_share) |
//! | a dependency is overloaded | its client: a [retry budget](crate::retry::RetryBudget) and a [`circuit_breaker`](crate::circuit_breaker) |
//!
//! A rate limit counts calls and does not see how busy the server is. It does not replace a concurrency limit.
//!
//! # Refuse at once
//!
//! A [`Limiter`](crate::load_shed::Limiter) bounds the calls in flight. `Limiter::adaptive()` finds the bound from the
//! deadlines of the callers. `Limiter::fixed(n)` has the bound that you give it:
//!
//! ```
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use std::time::Duration;
//! use steadfast::load_shed::Limiter;
//! use tower::{ServiceExt, service_fn};
//!
//! let server = steadfast::server().load_shed(Limiter::fixed(10)?).service(service_fn(async |(): ()| {
//!     tokio::time::sleep(Duration::from_millis(20)).await;
//!     Ok::<_, std::io::Error>(())
//! }))?;
//! let calls = (0..100).map(|_| server.clone().oneshot(()));
//! let answers = futures::future::join_all(calls).await;
//! assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 10);
//! # Ok(())
//! # }
//! ```
//!
//! # Let calls wait
//!
//! A [`Queue`](crate::load_level::Queue) lets calls wait, and refuses a call that cannot be served in time. By default
//! a call waits for at most half of the time until its deadline. `Queue::adaptive(n)` measures the rate of the service
//! and refuses newcomers for which the queue is too long already.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use std::time::Duration;
//! use steadfast::{Rejection, load_level::Queue};
//! use tower::{ServiceExt, service_fn};
//!
//! // Ten at once, and twenty more wait.
//! let queue = Queue::builder(10, 20).build()?;
//! let server = steadfast::server().load_level(queue).service(service_fn(async |(): ()| {
//!     tokio::time::sleep(Duration::from_millis(20)).await;
//!     Ok::<_, std::io::Error>(())
//! }))?;
//! let calls = (0..100).map(|_| server.clone().oneshot(()));
//! let answers = futures::future::join_all(calls).await;
//! assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 30);
//!
//! let refused = answers.into_iter().find_map(Result::err).unwrap();
//! assert!(matches!(refused.rejection(), Some(Rejection::QueueFull(_))));
//! # Ok(())
//! # }
//! ```
//!
//! A server may have both. The load shed stands before the queue and counts the calls that wait, so its limit has to be
//! above the concurrency of the queue.
//!
//! # Refuse what matters least
//!
//! Each call has a [`Criticality`](crate::Criticality) in its context. With
//! [`by_criticality`](crate::load_shed::LimiterBuilder::by_criticality) the less critical classes see a lower limit:
//!
//! ```
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use steadfast::{CallContext, Criticality, load_shed::Limiter};
//!
//! let limiter = Limiter::at_most(10).by_criticality().build()?;
//! let batch = CallContext::new().with_criticality(Criticality::Sheddable);
//! let _busy: Vec<_> = (0..5).map(|_| limiter.try_acquire()).collect::<Result<_, _>>()?;
//! // Half of the places are in use: no more batch work, and users are still served.
//! assert!(batch.sync_scope(|| limiter.try_acquire().is_err()));
//! assert!(limiter.try_acquire().is_ok());
//! # Ok(())
//! # }
//! ```
//!
//! [`guarantee`](crate::load_shed::LimiterBuilder::guarantee) reserves places for one class. The class gets them even
//! when its own lower limit is reached. The other classes share the rest.
//!
//! [`QueueBuilder::by_criticality`](crate::load_level::QueueBuilder::by_criticality) serves critical calls first.
//! [`fair_share`](crate::load_shed::LimiterBuilder::fair_share) keeps one tenant from filling the places of the others.
//!
//! # Health checks
//!
//! An orchestrator restarts a server that refuses its health checks, so an overloaded server must answer them.
//!
//! | method | exempts from | its requests |
//! |---|---|---|
//! | [`LoadShed::exempt`](crate::load_shed::LoadShed::exempt) | the limit of that `LoadShed` | take places; are [counted](crate::load_shed::Limiter::exempted) unless the limit is a plain `Limiter::fixed` |
//! | [`ServerBuilder::exempt`](crate::stack::ServerBuilder::exempt) | all limits that the builder has so far | take no place and are not counted |
//!
//! No limit bounds exempt requests. Exempt only cheap requests that untrusted callers cannot send.
//!
//! # Signals other than calls
//!
//! [`signal`](crate::load_shed::LimiterBuilder::signal) lowers the limit while the runtime lags
//! ([`RuntimeLag`](crate::load_shed::RuntimeLag)), while the control group is under pressure
//! ([`CgroupPressure`](crate::load_shed::CgroupPressure)), or while a function of yours says so.
//!
//! # Tell callers when to come back
//!
//! A refusal by a queue or a rate limit has a [`retry_after`](crate::Rejection::retry_after) where it is known. With
//! the feature `http`, the response states that time in `Retry-After`, or for gRPC in `grpc-retry-pushback-ms`. The
//! retry of a client waits for at least that time. Without a hint, the retry does not call an overloaded service again.
//!
//! # Work that goes on
//!
//! A call that a timeout ends gives its place back. If its work goes on, in a spawned task or in a database, the limit
//! cannot see that work. Make handlers stop when their future is dropped.
//!
//! # See it
//!
//! The example `overload` runs a real server at half to ten times its capacity, with and without stacks. `sim` shows
//! what your own stack does; see [`virtual_time`](super::virtual_time).
