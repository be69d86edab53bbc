//! A configuration that every instance reads, checks and builds as a whole on a schedule, changed or not.
//!
//! Limits, weights, flags and routes change while a service runs. The usual way is to watch for changes and send only
//! those. It costs next to nothing, until everything changes at once, or everyone reconnects after an outage and asks
//! for all: then the work is hundreds of times that of any day before, on a path that hardly ever ran, in the worst
//! hour. A change that a delta missed stays wrong until an operator notices.
//!
//! Here there is one path, and it runs all the time. A publisher puts a snapshot of fixed size somewhere; each
//! [`Poller`] reads all of it in every period, verifies all of it, decodes every slot, builds the value again and puts
//! it in force. Nothing has changed, everything has changed, the source is down, the bytes are broken: the work is the
//! same, so the first outage is the thousandth rehearsal. Whatever went wrong is right again one good tick later. (Colm
//! MacCárthaigh, "Reliability, constant work, and a good cup of coffee", Amazon Builders' Library; Roberto Vitillo,
//! "Understanding Distributed Systems", constant work.)
//!
//! It suits what is small and matters: thousands of rules, not millions. It costs the source its whole snapshot once
//! per period and instance, every day. Where that is too much, watch instead.
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
//!     /// No client has this number, and no client reaches this limit. The largest numbers are also the longest.
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
//! /// Where the snapshot is: a file, an object store, another service.
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
//! // Room for a thousand clients, however many there are.
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
//! // Called in every tick, with the rules of all thousand slots.
//! let index = |rules: &[ClientLimit]| -> HashMap<u64, u32> {
//!     rules.iter().map(|rule| (rule.client, rule.per_second)).collect()
//! };
//! let poller = Poller::builder(Published(bytes), shape).period(Duration::from_secs(5)).build(index)?;
//! let (limits, readings) = (poller.current(), poller.readings());
//! tokio::spawn(poller.run());
//!
//! // Wherever a limit is needed: no lock, no waiting.
//! assert_eq!(limits.load().get(&7), None);
//! tokio::time::sleep(Duration::from_millis(1)).await;
//! assert_eq!(limits.load().get(&7), Some(&100));
//! assert_eq!(readings.now().version, Some(Version { epoch: 1, version: 42 }));
//! # Ok(())
//! # }
//! ```
//!
//! # What goes wrong, and what happens then
//!
//! | what | what is in force | what shows it, in [`Readings`] |
//! |---|---|---|
//! | the source is down, hangs or panics | the last good rules | `source` |
//! | bytes are missing, too many, flipped, or are something else | the last good rules; the next good read heals | `empty`, `truncated`, `oversized`, `corrupt`, `not_a_snapshot` |
//! | publisher and poller are of different versions | the last good rules | `format`, `reserved`, `schema`, `shape` |
//! | a rule cannot work | the last good rules, all of them: no part of a snapshot is taken | `fill`, `encoding`, `rule`, `check` |
//! | an old snapshot comes back, from a replica or a backup | the last good rules | `backwards` |
//! | a publisher lost its count and begins at version 1 | the last good rules, until it publishes with a greater epoch | `backwards`, `conflict` |
//! | two publishers count for themselves | the rules that came first | `conflict` |
//! | the publisher stands still | its last rules | `since_publication` grows |
//! | a clock is wrong by hours | the new rules | an age of zero, or a large one |
//! | a clock is wrong by more than a day | the last good rules | `from_the_future`, if the publisher is ahead |
//! | the code of the target panics | the last value | `panicked` |
//! | a start while the source is down | the rules of the file, or the defaults | `in_force`, `source` |
//! | the file is corrupt | the defaults, until the first good read | `last_good.refused` |
//! | the disk hangs or is full | the new rules; a first tick waits for it until the timeout | `last_good.busy`, `last_good.failed` |
//! | the source is down for longer than [`Staleness::DefaultsAfter`] | the defaults, until the next good read | `in_force`, `since_good_read` |
//! | a tick takes longer than the period | the new rules, late | `ticks.missed()`, `last_tick` |
//!
//! A version is never taken back. To return to earlier rules, publish them under a later version. A publisher whose
//! state is lost would be refused for ever: it begins a new epoch, greater than any before (the time in seconds will
//! do), and its versions begin at 1. A greater epoch is taken whatever its version.
//!
//! A CRC finds what breaks by accident: all errors of up to three bits in a snapshot of up to 11 KB, of two bits in
//! any, and all bursts of up to 32 in any. It does not find forgery: a process that can write the snapshot can
//! configure.
//!
//! # Defaults
//!
//! - `period`: one second. Reading 64 KB per second is nothing for a host, and a change is everywhere after a second.
//! - `timeout`: the period. A fetch that takes longer would be late for the next one.
//! - `defaults`: no rules.
//! - `staleness`: [`KeepForEver`](Staleness::KeepForEver). Yesterday's limits are better than none. It counts from the
//!   last good read, by tokio's clock: an age by the wall clock would throw good rules away when a clock steps, or when
//!   a publisher that works rests.
//! - `clock_allowance`: one day, since the time of a publication orders nothing, and a wrong clock is commoner than a
//!   publication from the future.
//! - `last_good`: no file.
//! - The first tick is at once; the others at a phase of the period that each poller draws once, so that a fleet that
//!   was started together is spread. There is no backoff: a source that is overloaded gets no more when it fails.
//!
//! # Costs
//!
//! A tick makes one CRC of the snapshot, decodes and validates each slot once, compares the slots once, and calls check
//! and build once each. It allocates one `Arc` for the value, what rules and target allocate themselves, and with a
//! file one task and one write with a sync to disk. A failed tick does the same on the last good snapshot, and no more;
//! a refusal that names a value (`rule`, `check`) has its text, of up to 200 characters, and a panic what it costs to
//! unwind. The first tick also reads the file.
//!
//! Memory: two buffers as long as a snapshot plus those of the defaults and of the file, three times the decoded rules
//! of all slots, and two values, or more while readers hold older ones.
//!
//! A reader takes no lock and shares nothing that it writes to with other readers.
//!
//! # Driving stacks
//!
//! [`Stacks`] is the target that applies the whole configuration of a stack: limits, tiers, thresholds, kill switches
//! and shadow modes, for each [live stack](crate::stack::live) by name. Its rule is [`StackRule`]. Rules of your own do
//! for what a stack does not know, such as which tenant is in which tier: a function that says the tier of a key reads
//! them by [`Current::load`].

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
