//! A configuration that is read, checked and built as a whole on a schedule, changed or not.

mod envelope;
mod publisher;
mod publisher_builder;
mod publisher_error;
mod publisher_readings;
mod refusal;
mod rule;
mod shape;
mod sink;
mod snapshot;
mod source;
mod sources;
mod wall_clock;

#[cfg(feature = "redis")]
pub use crate::redis::RedisError;
pub use publisher::{Published, Publisher};
pub use publisher_builder::PublisherBuilder;
pub use publisher_error::PublishError;
pub use publisher_readings::PublisherReadings;
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
pub use wall_clock::WallClock;
