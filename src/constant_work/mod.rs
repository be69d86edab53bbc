//! A configuration that is read, checked and built as a whole on a schedule, changed or not.

mod refusal;
mod rule;
mod shape;
mod sink;
mod snapshot;
mod source;
mod wall_clock;

pub use refusal::Refusal;
pub use rule::Rule;
pub use shape::{Shape, slot_length_of};
pub use sink::Sink;
pub use snapshot::{EncodeError, Snapshot, Version};
pub use source::{Source, SourceError, SourceFailure};
pub use wall_clock::WallClock;
