//! A durable queue in Redis: many processes append messages, and a consumer group of workers processes them at least
//! once.
//!
//! Producers append work at their own pace, and workers process it at theirs. The work survives the processes on both
//! sides. Use it for work whose caller does not wait for the result. Within one process, for callers that do wait, the
//! [queue](super::Queue) of the parent module is enough.
//!
//! This module needs the feature `redis`.
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
//! // The producer. `Layered` recognizes the errors that no retry can help: a message that cannot be encoded, and a
//! // full queue that does not know when it will have room.
//! let mails = queue.producer(|address: String| Ok::<_, Infallible>(Message::new(address.clone()).once(address)));
//! let mails =
//!     steadfast::client().retry(Retry::new(3)).classify_with(Layered(AnyError)).keep_error().service(mails)?;
//! let receipt = mails.oneshot("ada@example.org".to_owned()).await?;
//! println!("{} is in the queue, {}", receipt.id, if receipt.is_duplicate { "as before" } else { "now" });
//!
//! // The worker, here or in another process.
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
//! - A [`Producer`] is a tower service. It answers once Redis has the message. It waits neither for room in a
//!   [full](crate::Rejection::QueueFull) queue nor for the return of an unreachable Redis: it returns an error. It keeps
//!   no message for a later attempt. Its errors [say](AppendError::may_be_appended) whether Redis may have the message
//!   in spite of the error.
//! - The queue is full when it has [`depth`](DurableQueueBuilder::depth) messages: waiting, in progress, or waiting for
//!   another try. The script that appends also counts, so two producers cannot both take the last place. The
//!   rejection's `retry_after` is the time to work off all of these messages at the rate of the last ten seconds. It is
//!   `None` while that rate is not known, and while no message ends.
//! - A message with a [key](Message::once) is appended once while Redis [remembers](DurableQueueBuilder::dedup_for) the
//!   key. Set a key on each message that may be sent again, also by a retry.
//! - Any tower layer can wrap a producer. Layers of this crate need `keep_error`: their rejections then become an
//!   [`AppendError::Rejected`], like those of the producer itself. To stop retries of errors that no retry can help,
//!   classify with [`Layered`](crate::classify::Layered).
//! - A [`Worker`] takes messages in about the order in which they were appended. For each message it clones a tower
//!   service, waits until the clone is ready, and calls it. After a success the message is removed. After a failure or
//!   a panic the message waits for its backoff, and then goes to the end of the queue. After
//!   [`max_tries`](WorkerBuilder::max_tries) the message becomes a dead letter. A message that cannot be decoded
//!   becomes a dead letter at once.
//! - A call has no [context](crate::CallContext), so it has neither a deadline nor an attempt number. Put a timeout
//!   around the service, since nothing else bounds a call. The number of the try is in the [`Delivery`]. Give the
//!   worker no more concurrency than the layers around its service admit; otherwise they keep rejecting its calls.
//! - A [rejection](crate::Rejection) by the service, or by a layer around it, does not count as a try if the call had
//!   not reached the service. The message comes again after the rejection's `retry_after` plus the first delay of the
//!   worker's backoff, which is by default up to 1 s. Set a [`max_age`](WorkerBuilder::max_age) if these redeliveries
//!   must end. A rejection is a failure if no later try would be admitted: the call costs more than the limit ever
//!   allows, or its key is too long.
//! - Some of these rejections also pause the worker, because they show that the service takes no calls now. They come
//!   from a circuit breaker, a load shed, a queue, a kill switch or a closed limit. The worker then begins no call for
//!   the rejection's `retry_after`, at most 1 s, or for 100 ms if there is none. The one exception is the call of a
//!   [suspect](#messages-that-kill-their-worker) that the worker has already told Redis of. A rate limit without
//!   tokens does not pause the worker, because it may be the limit of one key. Nor does a timeout pause the worker.
//! - Dead letters can be [read](DurableQueue::dead_letters) and [sent again](DurableQueue::revive). If there are too
//!   many, the oldest are removed and counted.
//! - The delays and ages of messages come from the clock of the Redis server. A step of that clock makes delays and
//!   ages wrong by the same amount. It loses no message, except that with a `max_age` a step ahead drops messages too
//!   early.
//!
//! # At least once
//!
//! Every message with a receipt is processed with success, becomes a dead letter, or is dropped for its age. The one
//! condition is that Redis keeps its data. It does not matter which command fails: each step of a message is one script
//! or one command. A script writes the message to its new place before it removes the message from the old one. A
//! message is processed twice, or more often, when
//!
//! - a worker dies, or its future is dropped, after the work was done and before Redis has recorded the end of the
//!   delivery;
//! - a worker does not reach Redis for [`takeover_after`](WorkerBuilder::takeover_after), or does not run for that
//!   time. Other workers then take over its messages while it still processes them. After an outage of Redis, and after
//!   its own start, a worker waits for half of that time before it takes over messages. Meanwhile a worker that still
//!   has messages tells Redis so;
//! - the server's clock steps ahead by more than `takeover_after`: messages in progress look abandoned;
//! - a call fails after it had effects, for example because a timeout ends it, and its message is tried again;
//! - a producer appends it twice: without a key, or after the key has expired;
//! - Redis loses its last writes, and with them the end of a delivery.
//!
//! Make the work idempotent, by the [identity](Delivery::id) of the message. The identity stays the same in every
//! delivery.
//!
//! # Messages that kill their worker
//!
//! A poison message can kill the process that works on it, by an abort or by using up its memory. In the end this
//! message must become a dead letter. The other messages that the process had must not:
//!
//! - As a rule, all messages of a dead worker become *suspects*, with [`may_have_begun`](Delivery::may_have_begun).
//!   This alone does not count as a try, since their calls may not have begun.
//! - A worker calls suspects one at a time. It first lets its other calls end. Then it tells Redis that the suspect's
//!   call begins, and begins no other call until Redis has recorded the end of this one. During this time it takes no
//!   messages from the stream; other workers do.
//! - If the worker dies during such a call, Redis blames that message: the death counts as a try. The calls of the
//!   worker's other messages have not begun, except long calls of suspects (see below). Those messages do not become
//!   suspects, unless they were suspects before.
//! - After [`max_tries`](WorkerBuilder::max_tries) the message becomes a dead letter. A message that kills each worker
//!   which calls it kills `max_tries + 1` workers, since the first death only makes the message a suspect.
//! - The end of a suspect's call clears the suspicion, whatever the result. The exception is a rejected call that does
//!   not count as a try: its message stays a suspect.
//! - A suspect's call that takes longer than a second no longer delays other calls. If the worker dies during the rest
//!   of this call, the death still counts as a try of the message, and as a rule the worker's other messages become
//!   suspects.
//!
//! A worker may also be killed from outside, or be cut off for long. This counts as a try only of the suspects that it
//! was calling. If each worker dies before it calls a message, the message is delivered again without end.
//!
//! A suspect costs one more script, and another if its call takes longer than a second. An ordinary message needs
//! neither. The delivery counts of the consumer group record which messages are suspects, and how many workers died
//! during their calls. `XPENDING` shows 1 + 4 × deaths + state. The state is 0 for an ordinary message and 1 for a
//! suspect. If a suspect was put back, its stream entry says that it is one, and the state is 0 until its call begins.
//! The state is 2 while a suspect's call runs alone, and 3 once other calls may run beside it.
//!
//! # Cancellation
//!
//! - Dropping a producer's response future withdraws its message if it has not been sent; otherwise Redis may append
//!   it.
//! - The future given to [`Worker::run`] ends the worker when it completes. Dropping the worker's future is like the
//!   death of its process: calls stop where they are, and other workers take over its messages.
//!
//! # Runtimes
//!
//! Appends and workers need a tokio runtime. A queue belongs to no runtime. Make it in a static, in a runtime that
//! ends, or outside of any. Use it in many runtimes at once. The connection runs in the runtime of the call that made
//! it. The task that sends appends runs in the runtime of a producer. If such a runtime ends,
//!
//! - an append that was on its way is [unknown](AppendError::Unknown), whichever runtime it came from;
//! - an append that waited to be sent moves to its caller's runtime, and is sent from there;
//! - the next call connects in its own runtime, and waits for that attempt.
//!
//! A worker runs in the runtime that polls its future. If that runtime ends, this is like the death of its process.
//!
//! # What Redis must be
//!
//! - Redis 6.2 or later, or any Valkey. One server, with or without replicas, but not a cluster. All keys of a queue
//!   have its name as their hash tag. The queue uses `EVALSHA`, `EVAL`, `XREADGROUP`, `XRANGE`, `INFO` and `PING`, and
//!   in scripts `TIME`, `XADD`, `XLEN`, `XACK`, `XDEL`, `XTRIM`, `XPENDING`, `XCLAIM`, `XGROUP`, `XINFO`, `GET`, `SET`,
//!   `HMGET`, `HINCRBY`, `HLEN` and commands of sorted sets.
//! - `appendonly yes`. With `appendfsync always` a receipt means that the message is on disk; each batch costs one
//!   sync. With `appendfsync everysec` a crash of the machine loses the last second or two: messages with a receipt,
//!   and ends of deliveries, whose messages come again. Without an append-only file a restart loses everything since
//!   the last snapshot. A replica that takes over lacks the writes that it had not received, even if these are on disk;
//!   `min-replicas-to-write` makes that less likely.
//! - `maxmemory-policy noeviction`. Any other policy may evict the queue itself. When the memory is full, appends are
//!   [refused](AppendError::Refused). Ends, retries and takeovers continue and free memory.
//!
//! No failure of Redis ends a worker. The worker asks again after at most 50 ms, then with a backoff. The backoff grows
//! up to a second, or up to an eighth of `takeover_after` if that is shorter. The worker creates the consumer group if
//! it is missing, and [reports](WorkerReadings::redis_error) the last error.
//!
//! # Metrics
//!
//! [`DurableQueue::instrument`] caches the [readings](QueueReadings) for metrics, and refreshes them separately from
//! the scrape.
//!
//! # Memory
//!
//! In Redis: `depth` messages, `dead_letters` letters, and each deduplication key until it expires. A message costs a
//! few dozen bytes beside its payload, and about a hundred more while it is in progress.
//!
//! In a process: a producer's messages [on the way](DurableQueueBuilder::on_the_way), and the messages of each worker.
//! A worker has up to `concurrency` plus `prefetch` messages, and may take over as many again.
//!
//! # Cost
//!
//! Appends of many callers share one call of Redis. The task that sends appends has at most two such calls in flight.
//! Appends that come in between form the next batch. A message costs the server an `XADD`, its part of an `XREADGROUP`
//! and of an `XACK`, and the trimming. Each further try costs a few commands more.
//!
//! An idle worker asks five times per second for a message, and gets one at once when it is appended. It asks ten times
//! per second for messages that are due. It needs a second connection for the waiting request. Calls run in tasks of
//! the worker's runtime. There are at most as many tasks as the concurrency, and each makes one call after the other.
//!
//! # Defaults
//!
//! | setting | default | because |
//! |---|---|---|
//! | depth | 100,000 messages | almost three hours for a consumer of ten messages per second; 200 MB at 2 kB each |
//! | tries | 5, with delays of up to 1, 2, 4 and 8 s | a failure of a second or two seldom causes a dead letter |
//! | takeover | after 30 s | longer than the pauses of a machine under load; keeping messages alive costs a call every few seconds |
//! | pace, age | none | only you know them |
//!
//! The four delays are random. Together they are 7.5 s on average, and at most 15 s. If the dependency can fail for
//! longer, set more [tries](WorkerBuilder::max_tries): the delays go on growing, up to 5 minutes.

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
