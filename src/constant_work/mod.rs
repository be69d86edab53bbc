//! Distributes configuration with constant work: in every period, every instance reads, checks and applies the whole
//! configuration.
//!
//! Limits, weights, flags and routes change while a service runs. The usual way is to watch for changes and to send
//! only the changes. That costs almost nothing until everything changes at once, or until all instances reconnect after
//! an outage and fetch everything. Then the work is hundreds of times that of a normal day, on a code path that rarely
//! ran before. A change that a delta missed stays wrong until an operator notices.
//!
//! Here there is one code path, and it runs all the time. A publisher writes a snapshot of fixed size to a sink. In
//! every period, each [`Poller`] reads the whole snapshot, verifies it, decodes every slot, builds the value again with
//! its *target* (a closure or a [`Build`]), and puts it in force. The work is the same if nothing has changed, if
//! everything has changed, if the source is down, or if the bytes are corrupt. The first outage therefore runs code
//! that has run thousands of times. After any fault, one good tick restores the configuration. (Colm MacCárthaigh,
//! "Reliability, constant work, and a good cup of coffee", Amazon Builders' Library; Roberto Vitillo, "Understanding
//! Distributed Systems", constant work.)
//!
//! Use this module for small and important configuration: thousands of rules, not millions. The source serves its whole
//! snapshot once per period to each instance. Where that is too much, watch for changes instead.
//!
//! This module needs the feature `constant-work`. An HTTP source also needs `http`, and one in Redis `redis`.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use serde::{Deserialize, Serialize};
//! use std::{collections::HashMap, time::Duration};
//! use steadfast::{
//!     ConfigError,
//!     constant_work::{Poller, Rule, Shape, Snapshot, Source, SourceError, Version, WallClock},
//! };
//!
//! #[derive(Serialize, Deserialize)]
//! struct ClientLimit {
//!     client: u64,
//!     per_second: u32,
//! }
//!
//! impl Rule for ClientLimit {
//!     const SCHEMA: u32 = 1;
//!
//!     /// No client has this number or reaches this limit. The length of a slot follows from this rule, and the
//!     /// largest numbers have the longest encoding.
//!     fn inert(_slot: u32) -> Self {
//!         Self { client: u64::MAX, per_second: u32::MAX }
//!     }
//!
//!     fn validate(&self) -> Result<(), ConfigError> {
//!         match self.per_second {
//!             0 => Err(ConfigError::new("limit.per_second", 0, "must be at least 1")),
//!             _ => Ok(()),
//!         }
//!     }
//! }
//!
//! /// The place of the snapshot: a file, an object store, another service.
//! struct Published(Vec<u8>);
//!
//! impl Source for Published {
//!     async fn fetch(&mut self, into: &mut Vec<u8>, at_most: usize) -> Result<(), SourceError> {
//!         into.clear();
//!         into.extend_from_slice(&self.0[..self.0.len().min(at_most)]);
//!         Ok(())
//!     }
//! }
//!
//! // Room for 1,000 clients. The snapshot has this size with any number of clients.
//! let shape = Shape::for_rules::<ClientLimit>(1_000)?;
//! let mut bytes = Vec::new();
//! Snapshot {
//!     version: Version { epoch: 1, version: 42 },
//!     published_at_nanos: WallClock::system().now_nanos(),
//!     rules: vec![ClientLimit { client: 7, per_second: 100 }],
//! }
//! .encode(shape, &mut bytes)?;
//! assert_eq!(bytes.len(), shape.length());
//!
//! // The target. Every tick calls it with 1,000 rules: unused slots have the inert rule.
//! let index = |rules: &[ClientLimit]| -> HashMap<u64, u32> {
//!     rules.iter().map(|rule| (rule.client, rule.per_second)).collect()
//! };
//! let poller = Poller::builder(Published(bytes), shape).period(Duration::from_secs(5)).build(index)?;
//! let (limits, readings) = (poller.current(), poller.readings());
//! tokio::spawn(poller.run());
//!
//! // Any task can read a limit. Reading takes no lock and does not wait.
//! assert_eq!(limits.load().get(&7), None);
//! tokio::time::sleep(Duration::from_millis(1)).await;
//! assert_eq!(limits.load().get(&7), Some(&100));
//! assert_eq!(readings.now().version, Some(Version { epoch: 1, version: 42 }));
//! # Ok(())
//! # }
//! ```
//!
//! # Faults and their effects
//!
//! The last column names fields of [`Readings`] and [kinds](Refusal::KINDS) of refusals, which `ticks` counts.
//!
//! | fault | in force | shown in [`Readings`] |
//! |---|---|---|
//! | the source is down, hangs or panics | the last good rules | `source` |
//! | the snapshot is truncated, too long or corrupt, or the bytes are no snapshot | the last good rules, until the next good read | `empty`, `truncated`, `oversized`, `corrupt`, `not_a_snapshot` |
//! | publisher and poller have different versions of the crate, the rule type or the shape | the last good rules | `format`, `reserved`, `schema`, `shape` |
//! | a rule is invalid | all of the last good rules: no part of the snapshot is taken | `fill`, `encoding`, `rule`, `check` |
//! | an old snapshot returns, from a replica or a backup | the last good rules; the old rules if the poller has just started without a last-good file | `backwards`, if refused |
//! | a publisher lost its state and starts at version 1 | the last good rules, until it publishes with a greater epoch, or a greater version of the same epoch | `backwards`, `conflict` |
//! | two publishers use the same version numbers | in each instance, the rules that its poller read first | `conflict` |
//! | the publisher stops | its last rules | `since_publication` grows |
//! | a clock is wrong by hours | the new rules | `since_publication` is zero or too large |
//! | a clock is wrong by more than a day | the last good rules if the publisher's clock is ahead of the poller's, otherwise the new rules | `from_the_future` if the publisher's clock is ahead |
//! | the code of the rule type or of the target panics | the last value; the defaults if the last good rules are stale | `panicked` |
//! | the process starts while the source is down | the rules of the last-good file, or the defaults | `in_force`, `source` |
//! | the last-good file is corrupt | the defaults, until the first good read | `last_good.refused` |
//! | the disk of the last-good file is full | the new rules | `last_good.failed` |
//! | the disk of the last-good file hangs | the new rules; the first tick waits for the file until the timeout | `last_good.refused`, `last_good.busy` |
//! | the source is down for longer than [`Staleness::DefaultsAfter`] | the defaults, until the next good read | `in_force`, `since_good_read` |
//! | a tick takes longer than the period | the new rules, late | `last_tick`; also `ticks.missed()` if more than one tick became due meanwhile |
//!
//! A poller refuses a version that is earlier than its last good one. A poller that has just started without a
//! last-good file has no last good version, and accepts any version. To return to earlier rules, publish them under a
//! later version. If a publisher lost its state and starts at version 1 again, pollers refuse its snapshots until its
//! version passes their last good one. Configure this publisher with a new epoch that is greater than any before, for
//! example the time in seconds. A poller accepts a greater epoch with any version.
//!
//! The checksum is a CRC-32. It detects accidental damage. In a snapshot of up to 11 KB, it detects all errors of up to
//! three bits. In any snapshot, it detects all errors of two bits and all bursts of up to 32 bits. It does not detect
//! forgery: a process that can write the snapshot can change the configuration.
//!
//! # Defaults
//!
//! - `period`: one second. Reading a snapshot of 64 KB per second costs a host nothing noticeable, and a change
//!   reaches every instance within a second.
//! - `timeout`: the period. A longer fetch would delay the next one.
//! - `defaults`: no rules.
//! - `staleness`: [`KeepForEver`](Staleness::KeepForEver). Old limits are better than none. The staleness counts from
//!   the last good read, by tokio's clock. If it counted from the publication, by the wall clock, good rules would
//!   expire when a clock steps, or when the publisher pauses.
//! - `clock_allowance`: one day. A poller refuses a snapshot that was published further in the future than this. The
//!   allowance is wide, because wrong clocks are common and the publication time does not order snapshots.
//! - `last_good`: no file.
//! - The first tick runs at once. Later ticks run once per period, at a random offset (the phase) that each poller
//!   draws once. The ticks of instances that start together are therefore spread over the period. There is no backoff:
//!   the request rate does not change when the source fails, so a failing source gets no additional load.
//!
//! # Costs
//!
//! A tick computes one CRC over the snapshot. It decodes and validates each slot once. It compares the slots once with
//! those of the last good snapshot, or of the defaults before there is one. It calls the target's `check` and `build`
//! once each. It allocates one `Arc` for the value, and what the rules and the target allocate themselves. With a
//! last-good file, a tick also spawns one blocking task, which writes the file once and syncs it to disk. No tick does
//! so before the first good snapshot, or while an earlier write is still running. A tick that fails does the same work:
//! a step that cannot use the fetched bytes runs on the last good snapshot, or on the defaults before there is one. If
//! `build` panics, a tick can call it twice. A refusal that names a value (`rule`, `check`) also allocates the text of
//! the value, cut after 200 characters. A panic costs its unwinding. The first tick also reads the last-good file and
//! verifies it like a fetched snapshot, which calls `check` a second time.
//!
//! A poller keeps in memory:
//!
//! - two buffers of the size of a snapshot, and the buffers of the defaults and of the last-good file;
//! - three copies of the decoded rules of all slots: the defaults, the last good ones, and the fetched ones;
//! - two values: the one in force and the one before. Readers that keep older values keep them in memory.
//!
//! A reader takes no lock. A thread that holds only a few values from [`Current::load`] also writes to no memory that
//! other readers share. [`Current::get`] increments a reference count that all readers share.
//!
//! # Driving stacks
//!
//! [`Stacks`] is the target that applies the whole configuration of each [live stack](crate::stack::live), by name:
//! limits, tiers, thresholds, kill switches and shadow modes. Its rule type is [`StackRule`]. Use rules of your own for
//! values that a stack does not know, such as the tier of each tenant. Your function that returns the tier of a key
//! (see [`Keyed`](crate::rate_limit::Keyed)) reads such rules with [`Current::load`].

mod envelope;
mod instrument;
mod poller;
mod publisher;
mod refusal;
mod regular_file;
mod rule;
mod shape;
mod sink;
mod snapshot;
mod source;
mod sources;
mod stacks;
mod wall_clock;

#[cfg(feature = "redis-tls")]
pub use crate::redis::RedisTls;
#[cfg(feature = "redis")]
pub use crate::redis::{RedisCredentials, RedisError};
#[doc(hidden)]
pub use poller::current::Loaded;
pub use poller::{
    Poller,
    build::Build,
    builder::PollerBuilder,
    current::Current,
    last_good::LastGoodCounts,
    readings::{InForce, PollerReadings, Readings, Ticks},
    tick::Staleness,
};
pub use publisher::{
    Published, Publisher, builder::PublisherBuilder, error::PublishError, readings::PublisherReadings,
};
pub use refusal::Refusal;
pub use rule::Rule;
pub use shape::{Shape, slot_length_of};
pub use sink::Sink;
pub use snapshot::{EncodeError, Snapshot, Version};
pub use source::{Source, SourceError, SourceFailure};
#[cfg(feature = "http")]
pub use sources::HttpSource;
pub use sources::{FileSink, FileSource, FixedSource};
#[cfg(feature = "redis")]
pub use sources::{RedisBuilder, RedisSink, RedisSource};
pub use stacks::{StackRule, Stacks};
pub use wall_clock::WallClock;
