//! Load leveling across processes: a queue in Redis, which many append to and many work on.
//!
//! Work that need not be answered at once is taken in at the pace of those who bring it, and done at the pace of those
//! who can. It survives the processes on both sides. Within one process the [queue](super::Queue) of the module above
//! is enough: its callers wait for their answer, and this one's do not.
//!
//! ```no_run
//! # async fn example(ended: impl Future<Output = ()> + Send + 'static) -> Result<(), Box<dyn std::error::Error>> {
//! use std::{convert::Infallible, string::FromUtf8Error, time::Duration};
//! use steadfast::{
//!     classify::{AnyError, Layered},
//!     load_level::durable::{Delivery, DurableQueue, Message},
//!     retry::{Backoff, Retry},
//! };
//! use tower::{ServiceExt, service_fn};
//!
//! let queue = DurableQueue::builder("redis://127.0.0.1:6379", "mails").depth(50_000).connect().await?;
//!
//! // Where work comes up. `Layered` knows which errors no retry can help: a message that cannot be encoded, and a full
//! // queue that does not know when it will have room.
//! let mails = queue.producer(|address: String| Ok::<_, Infallible>(Message::new(address.clone()).once(address)));
//! let mails =
//!     steadfast::client().retry(Retry::new(3)).classify_with(Layered(AnyError)).keep_error().service(mails)?;
//! let receipt = mails.oneshot("ada@example.org".to_owned()).await?;
//! println!("{} is in the queue, {}", receipt.id, if receipt.is_duplicate { "as before" } else { "now" });
//!
//! // Where it is done, here or in another process.
//! let send = service_fn(async |address: String| Ok::<(), std::io::Error>(println!("a mail to {address}")));
//! let decode = |delivery: Delivery| Ok::<_, FromUtf8Error>(String::from_utf8(delivery.payload)?);
//! let worker = queue
//!     .worker(decode, send)
//!     .concurrency(20)
//!     .pace(100, Duration::from_secs(1))
//!     .max_tries(8)
//!     .backoff(Backoff::exponential(Duration::from_secs(1), Duration::from_secs(600)))
//!     .build()?;
//! let report = tokio::spawn(worker.run(ended)).await?;
//! println!("{} sent, {} given up", report.succeeded, report.dead);
//! # Ok(())
//! # }
//! ```
//!
//! # Semantics
//!
//! - A [`Producer`] is a tower service, which answers once Redis has the message. It refuses at once where it cannot
//!   append: the queue is [full](crate::Rejection::QueueFull), or Redis is not there. Nothing is kept for later in
//!   this process, and its errors [say](AppendError::may_be_appended) whether the message may be there all the same.
//! - The queue is full when [`depth`](DurableQueueBuilder::depth) messages are in it: waiting, in progress, or waiting
//!   for another try. The script that appends counts, so that no two producers take the last place. The rejection's
//!   `retry_after` is the time for all of these at the rate of the last ten seconds.
//! - A message with a [key](Message::once) is appended once. Send with one whatever may be sent again, by a retry too.
//! - Any tower layer may stand in front of a producer; those of this crate with `keep_error`, as its error is made of
//!   rejections too. To tell what a retry is of no use for, classify with [`Layered`](crate::classify::Layered).
//! - A [`Worker`] takes messages about in the order of their append, and calls any tower service with each: a clone of
//!   its own, made ready first. Success removes the message. A failure, and a panic, puts it back until its delay is
//!   over, behind what waits then; after [`max_tries`](WorkerBuilder::max_tries) it becomes a dead letter. So does at
//!   once what cannot be decoded.
//! - A call has no [context](crate::CallContext), neither deadline nor attempt: put a timeout around the service, since
//!   nothing else bounds a call, and pass on what [`Delivery`] says. Give the worker no more concurrency than the
//!   layers around its service admit, or it is rejected time and again.
//! - A [rejection](crate::Rejection) by the service, or a layer around it, that had not reached the service is no try:
//!   the message comes again when the rejection says, and one delay later at most. While it is the service that has
//!   enough (a breaker, a shed or a full queue, not a rate limit, which may be that of one key), the worker also begins
//!   nothing for as long, 1 s at most. Set a [`max_age`](WorkerBuilder::max_age) if that must end. A rejection that
//!   comes for ever, of what costs more than is ever allowed, is a failure.
//! - Dead letters can be [read](DurableQueue::dead_letters) and [sent again](DurableQueue::revive). The oldest make way
//!   when there are too many, with a count.
//! - All times are those of the server's clock; a clock that steps makes delays and ages wrong by as much, and loses
//!   nothing.
//!
//! # At least once
//!
//! Every message that has a receipt is worked on with success, dead or dropped for its age, as long as Redis keeps its
//! data. Whatever fails between two commands: each step of a message is one script or one command, which writes a
//! message where it goes before it removes it from where it was. A message is worked on twice, or more often, when
//!
//! - a worker dies, or its future is dropped, after the work was done and before Redis had heard of it;
//! - a worker does not reach Redis for [`takeover_after`](WorkerBuilder::takeover_after), or does not run for that
//!   time: its messages are taken over while it works on them. After an outage of Redis workers wait for half of that
//!   time before they take over, and those that hold messages say so at once;
//! - the server's clock steps ahead by more than that time: what is in progress seems to be left alone;
//! - the call fails after it had effects, as a timeout does, and is tried again;
//! - it is appended twice: sent again without a key, or after the key was forgotten;
//! - Redis loses the last of its writes, and with them the end of a delivery.
//!
//! Make the work idempotent, by the [identity](Delivery::id) of the message: it stays the same however often it is
//! delivered.
//!
//! # Messages that kill their worker
//!
//! A message can end the process that works on it, by an abort or by using up its memory. It must come to an end, and
//! its neighbours must not end with it:
//!
//! - All messages that a dead worker had become *suspects*, with [`may_have_begun`](Delivery::may_have_begun). That
//!   alone is no try, since their calls may not have begun.
//! - A worker calls suspects one at a time. It first lets its other calls end, then tells Redis that the call begins,
//!   and begins nothing else until Redis has heard of the end. It takes no further messages meanwhile; other workers
//!   do.
//! - A worker that dies during such a call has been killed by that message, for all that Redis knows: that is a try.
//!   The messages that the worker had beside it have not begun. They are no suspects, unless they were before.
//! - After [`max_tries`](WorkerBuilder::max_tries) the message becomes a dead letter. So a message that kills each of
//!   its workers costs one worker more than that.
//! - A call of a suspect that ends, in whatever way, ends the suspicion; a rejection that had not reached the service
//!   does not.
//! - A call of a suspect that takes longer than a second holds up no others any longer. A worker that dies then counts
//!   as a try of this message all the same, and all the others become suspects.
//!
//! A worker that is killed from outside, or cut off for long, counts as a try of at most the suspects that it was
//! calling, and of no other message. A message whose call never begins, since each worker dies before, comes again
//! without end.
//!
//! A suspect costs two scripts more, and an ordinary message nothing. Which messages are suspects, and how many workers
//! died during their calls, is in the delivery counts of the consumer group: `XPENDING` shows 1 + 4 × deaths + state.
//!
//! # Cancellation
//!
//! - A response future of a producer that is dropped takes its message back if it is not on its way; else it may be
//!   appended.
//! - A worker is ended by its `shutdown`. Its future dropped is a process that died: calls stop where they are, and
//!   others take over what it had.
//!
//! # Runtimes
//!
//! Appends and workers need a tokio runtime. A queue belongs to none: make it in a static, in a runtime that ends, or
//! outside of any, and use it in many at the same time. The connection and the task that sends appends are in the
//! runtime of a producer that needed them. Where that runtime ends,
//!
//! - an append that was on its way, of whichever runtime, is [unknown](AppendError::Unknown);
//! - an append that waited to be sent goes over to its own runtime, and is sent from there;
//! - the next call connects in its own runtime, and waits for that first attempt.
//!
//! A worker is in the runtime that runs its future, and ends with it as a process that died.
//!
//! # What Redis must be
//!
//! - Version 6.2 or later, or any Valkey; one server, with replicas or without, not a cluster. All keys of a queue have
//!   its name as their hash tag. It uses `EVALSHA`, `EVAL`, `XREADGROUP`, `XRANGE`, `INFO` and `PING`, and in scripts
//!   `TIME`, `XADD`, `XLEN`, `XACK`, `XDEL`, `XTRIM`, `XPENDING`, `XCLAIM`, `XGROUP`, `XINFO`, `GET`, `SET`, `HMGET`,
//!   `HINCRBY`, `HLEN` and commands of sorted sets.
//! - `appendonly yes`. With `appendfsync always` a receipt means that the message is on disk; each batch pays for one
//!   sync. With `appendfsync everysec` a crash of the machine loses the last second or two: messages with a receipt,
//!   and ends, whose messages come again. Without an append-only file a restart loses all since the last snapshot. A
//!   replica that takes over lacks what it had not been sent, whatever the disk says: `min-replicas-to-write` makes
//!   that less likely.
//! - `maxmemory-policy noeviction`. Any other may evict the queue itself. When memory is used up, appends fail for
//!   certain; ends, retries and takeovers go on, and make room.
//!
//! Whatever Redis does, a worker goes on: it asks again after 50 ms, then more seldom, up to every second; makes the
//! consumer group where it is gone; and [says](WorkerReadings::redis_error) what is wrong meanwhile.
//!
//! # Metrics
//!
//! [`DurableQueue::instrument`] keeps the [readings](QueueReadings) for metrics, and asks Redis apart from them.
//!
//! # Memory
//!
//! In Redis: `depth` messages, a few dozen bytes each beside their payload and about a hundred more while in progress;
//! `dead_letters` letters; each key for deduplication until it expires. In a process: a producer's messages
//! [on the way](DurableQueueBuilder::on_the_way); a worker's `concurrency` and `prefetch` messages, and up to as many
//! again that it takes over at the same time.
//!
//! # Cost
//!
//! Appends of many callers share a call of Redis, two at a time: those that come meanwhile are the next batch. A
//! message costs the server an `XADD`, its part of an `XREADGROUP` and of an `XACK`, and being trimmed; each further
//! try a few commands more. A worker with nothing to do asks five times per second whether there is a message, and gets
//! it at once when there is, and ten times what is due. It has one connection more, for that. Calls run in tasks of the
//! worker's runtime, at most as many as its concurrency, each of which makes one call after the other.
//!
//! # Defaults
//!
//! A hundred thousand messages deep: hours for a slow consumer, and 200 MB at 2 kB each. Five tries with delays from 1
//! s to 5 minutes: a restart of the dependency is no reason for a dead letter. Takeover after 30 s: longer than the
//! pauses of a machine under load, and keeping alive costs a call every few seconds. No pace and no age: nobody but you
//! can know.

mod batch;
mod builder;
mod consumption;
mod core;
mod entry;
mod error;
mod instrument;
mod message;
mod producer;
mod queue;
mod readings;
mod scripts;
mod worker;

#[cfg(feature = "redis-tls")]
pub use crate::redis::RedisTls;
pub use crate::redis::{RedisCredentials, RedisError};
pub use builder::DurableQueueBuilder;
pub use error::{AppendError, QueueError};
pub use instrument::QueueInstrument;
pub use message::{DeadLetter, Delivery, Message, Receipt};
pub use producer::Producer;
pub use queue::DurableQueue;
pub use readings::QueueReadings;
pub use worker::{Worker, WorkerBuilder, WorkerMonitor, WorkerReadings, WorkerReport};
