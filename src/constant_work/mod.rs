//! A configuration that is read, checked and built as a whole on a schedule, changed or not.

mod build;
mod builder;
mod current;
mod last_good;
mod poller;
mod readings;
mod refusal;
mod rule;
mod shape;
mod sink;
mod snapshot;
mod source;
mod tick;
mod wall_clock;

pub use build::Build;
pub use builder::PollerBuilder;
pub use current::{Current, Loaded};
pub use last_good::LastGoodCounts;
pub use poller::Poller;
pub use readings::{InForce, PollerReadings, Readings, Ticks};
pub use refusal::Refusal;
pub use rule::Rule;
pub use shape::{Shape, slot_length_of};
pub use sink::Sink;
pub use snapshot::{EncodeError, Snapshot, Version};
pub use source::{Source, SourceError, SourceFailure};
pub use tick::Staleness;
pub use wall_clock::WallClock;
