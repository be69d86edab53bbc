//! How do many processes keep one limit, or share one queue?
//!
//! A limit of 100 calls per second in each of ten processes is a limit of 1,000. And work that waits in the memory of a
//! process is lost with that process. Both need a store that all processes share.
//!
//! # Do you need it?
//!
//! A limit that protects a process belongs in that process: use [`load_shed`](crate::load_shed). A limit of a tenant
//! may be divided by the number of processes if the load balancer spreads the tenant's calls evenly. Use a shared limit
//! where the sum has to be right: a partner counts it, or a tenant pays for it.
//!
//! # One limit for all processes
//!
//! [`distributed`](crate::rate_limit::distributed) has three kinds of limit. Each states a bound on what all processes
//! together admit.
//!
//! | kind | who decides | choose it where |
//! |---|---|---|
//! | [`Exact`](crate::rate_limit::distributed::Exact) | the store, in each call; a process repeats a recent refusal by itself | a call is worth a round trip |
//! | [`Leased`](crate::rate_limit::distributed::Leased) | the process, from the tokens that the store lent to it | a partner counts the calls in a window |
//! | [`WriteBehind`](crate::rate_limit::distributed::WriteBehind) | the process, from the last answer of the store and what the process has admitted since | the limit protects you, and calls are cheap |
//!
//! Here two processes share a store. [`Embedded`](crate::rate_limit::distributed::Embedded) is a store for one process
//! and for tests; a fleet uses `Redis` with the feature `redis`. `build` returns the limit and its flusher, the
//! background task that reports to the store. Spawn it.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use std::time::Duration;
//! use steadfast::rate_limit::{Quota, distributed::{Embedded, Exact}};
//!
//! // For a fleet: `Redis::builder("redis://127.0.0.1:6379").connect().await?`.
//! let store = Embedded::new();
//! let process = || Exact::builder(store.clone(), Quota::new(10, Duration::from_secs(1))).processes(2).build();
//! let ((one, flusher_of_one), (other, flusher_of_other)) = (process()?, process()?);
//! tokio::spawn(flusher_of_one.run());
//! tokio::spawn(flusher_of_other.run());
//!
//! assert!(one.acquire(b"tenant 7", 6).await.is_ok());
//! assert!(other.acquire(b"tenant 7", 4).await.is_ok());
//! assert!(other.acquire(b"tenant 7", 1).await.is_err()); // together they have had ten
//! assert!(other.acquire(b"tenant 8", 1).await.is_ok());
//! # Ok(())
//! # }
//! ```
//!
//! In a stack, the limit is a [`RateLimit`](crate::rate_limit::RateLimit) like any other:
//!
#![cfg_attr(feature = "redis", doc = "```no_run")]
#![cfg_attr(not(feature = "redis"), doc = "```ignore")]
//! use std::time::Duration;
//! use steadfast::rate_limit::{Quota, RateLimit, distributed::{Exact, Redis}};
//!
//! # struct Order { tenant: String }
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let store = Redis::builder("redis://127.0.0.1:6379").connect().await?;
//! let quota = Quota::new(100, Duration::from_secs(1));
//! let (limit, flusher) = Exact::builder(store, quota).namespace("orders").processes(4).build()?;
//! let flusher = tokio::spawn(flusher.run());
//!
//! let limit = RateLimit::distributed_ref(limit, |order: &Order| order.tenant.as_str());
//! let stack = steadfast::server().rate_limit(limit).layer()?;
//! // At the end: drop everything that holds the stack, and let the flusher report the rest to the store.
//! drop(stack);
//! flusher.await?;
//! # Ok(())
//! # }
//! ```
//!
//! # When the store is away
//!
//! Each call to the store has a deadline; `Exact` waits for 5 ms by default. In an outage of the store each process
//! decides alone, as [`OnOutage`](crate::rate_limit::distributed::OnOutage) says. By default each process keeps to its
//! share of the limit. The share follows from the tokens that the process admitted or held just before the outage. The
//! page of the module has the bounds for [each failure](crate::rate_limit::distributed#when-something-fails). The
//! example `fleet_quota` draws such an outage.
//!
//! A store of your own implements [`Store`](crate::rate_limit::distributed::Store). The feature `conformance` has a
//! suite that checks it.
//!
//! # A queue over Redis
//!
//! Work that need not be answered at once can outlive its process. [`durable`] appends it to a Redis Stream. The caller
//! gets a receipt, and workers in any process do the work at their own pace, at least once. This needs the feature
//! `redis`.
//!
#![cfg_attr(feature = "redis", doc = "```no_run")]
#![cfg_attr(not(feature = "redis"), doc = "```ignore")]
//! use std::time::Duration;
//! use steadfast::load_level::durable::{Delivery, DurableQueue, Message};
//! use tower::{BoxError, ServiceExt, service_fn};
//!
//! # struct Order { id: u64 }
//! # async fn example() -> Result<(), BoxError> {
//! let queue = DurableQueue::builder("redis://127.0.0.1:6379", "orders").depth(50_000).connect().await?;
//!
//! // In the web server. An order that is sent twice within `dedup_for` enters the queue once, by the key in `once`.
//! let producer = queue.producer(|order: Order| {
//!     let number = order.id.to_string();
//!     Ok::<_, BoxError>(Message::new(number.clone()).once(number))
//! });
//! let receipt = producer.oneshot(Order { id: 7 }).await?;
//! println!("202 Accepted: {}", receipt.id);
//!
//! // In another process.
//! let decode = |delivery: Delivery| Ok::<_, BoxError>(Order { id: String::from_utf8(delivery.payload)?.parse()? });
//! let ship = service_fn(async |order: Order| Ok::<_, BoxError>(println!("shipped {}", order.id)));
//! let worker = queue.worker(decode, ship).concurrency(8).pace(100, Duration::from_secs(1)).build()?;
//! let report = worker.run(tokio::time::sleep(Duration::from_secs(3600))).await;
//! println!("{} succeeded, {} are dead letters", report.succeeded, report.dead);
//! # Ok(())
//! # }
//! ```
//!
//! Make the work idempotent: a message is worked on again when its worker dies. A message that fails too often becomes
//! a dead letter. Redis needs `appendonly yes` and `maxmemory-policy noeviction`.
//!
//! # Limits that change everywhere
//!
//! [`live_limits`](super::live_limits#all-processes) shows how all processes follow one published configuration.
//!
#![cfg_attr(feature = "redis", doc = "[`durable`]: crate::load_level::durable")]
#![cfg_attr(not(feature = "redis"), doc = "[`durable`]: crate#features")]
