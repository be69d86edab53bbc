use super::{shape::Shape, snapshot::Version, source::SourceError};
use crate::error::ConfigError;
use std::time::Duration;
use thiserror::Error as ThisError;

/// Why a tick brought no new configuration. The configuration in force stays.
///
/// The text is this error's own part; [`chain`](crate::error::chain) has that of the cause as well.
#[derive(Clone, Debug, ThisError)]
#[non_exhaustive]
pub enum Refusal {
    /// The source failed.
    #[error("the source failed")]
    Source(#[from] SourceError),
    /// There was nothing in what was read.
    #[error("it is empty")]
    Empty,
    /// It is shorter than a snapshot of this shape.
    #[error("it has {length} bytes where a snapshot of this shape has {expected}")]
    Truncated {
        /// The bytes there were.
        length: usize,
        /// The bytes of a snapshot.
        expected: usize,
    },
    /// It is longer than a snapshot of this shape.
    #[error("it has more than the {expected} bytes of a snapshot of this shape")]
    Oversized {
        /// The bytes of a snapshot.
        expected: usize,
    },
    /// It does not begin as a snapshot does.
    #[error("it is no snapshot: its first bytes are others")]
    NotASnapshot,
    /// It is in a format that this version of the crate does not read.
    #[error("it is in format {found}, and this reads format {expected}")]
    Format {
        /// The format that the header names.
        found: u16,
        /// The format that this version of the crate reads.
        expected: u16,
    },
    /// Its bytes are not those that were published.
    #[error("it is corrupt: its checksum is {found:#010x}, and its bytes make {computed:#010x}")]
    Corrupt {
        /// The checksum in the snapshot.
        found: u32,
        /// The checksum of its bytes.
        computed: u32,
    },
    /// Its rules are of another [`SCHEMA`](super::Rule::SCHEMA).
    #[error("its rules are of schema {found}, and those here of schema {expected}")]
    Schema {
        /// The schema that the header names.
        found: u32,
        /// The schema of the type of rules here.
        expected: u32,
    },
    /// It has another number of slots, or slots of another length.
    #[error(
        "it has {found_slots} slots of {found_slot_length} bytes, and here they are {} of {}",
        expected.slots(), expected.slot_length()
    )]
    Shape {
        /// The number of slots that the header names.
        found_slots: u32,
        /// The length of a slot that the header names.
        found_slot_length: u32,
        /// The shape that was configured here.
        expected: Shape,
    },
    /// A byte of the header that must be zero is not.
    #[error("the reserved bytes of its header are not zero")]
    Reserved,
    /// It says that more slots are used than it has.
    #[error("it says that {used} of its {slots} slots are used")]
    Fill {
        /// The used slots that the header names.
        used: u32,
        /// The slots there are.
        slots: u32,
    },
    /// A slot holds something else than one rule followed by zeros.
    #[error("slot {slot} does not hold one encoded rule and zeros after it")]
    Encoding {
        /// Which slot, from zero.
        slot: u32,
    },
    /// A rule cannot work.
    #[error("the rule in slot {slot} cannot work")]
    Rule {
        /// Which slot, from zero.
        slot: u32,
        /// Why the rule cannot work.
        #[source]
        error: ConfigError,
    },
    /// It was published before the one that is known to be good: a replay, or a publisher that lost its state.
    #[error("it is {found}, and the last good one was {current}: it went back")]
    Backwards {
        /// The version of the refused one.
        found: Version,
        /// The version of the last good one.
        current: Version,
    },
    /// It has the version of the last good one, and other rules.
    #[error("it is {version}, as the last good one is, and has other rules")]
    Conflict {
        /// The version of both.
        version: Version,
    },
    /// It was published at a time that is yet to come, by the clock here.
    #[error("it was published {ahead:?} ahead of the clock here: one of the two clocks is wrong")]
    FromTheFuture {
        /// By how much the publisher's clock is ahead.
        ahead: Duration,
    },
    /// The check of the target refused it.
    #[error("the check refused it")]
    Check(#[source] ConfigError),
    /// The code of the rules or of the target panicked.
    #[error("the code of the user panicked in {during}")]
    Panicked {
        /// The step: `"decode"`, `"check"` or `"build"`.
        during: &'static str,
    },
}

impl Refusal {
    /// The kinds of refusals, as [`kind`](Self::kind) calls them.
    pub const KINDS: [&'static str; 18] = [
        "source",
        "empty",
        "truncated",
        "oversized",
        "not_a_snapshot",
        "format",
        "corrupt",
        "schema",
        "shape",
        "reserved",
        "fill",
        "encoding",
        "rule",
        "backwards",
        "conflict",
        "from_the_future",
        "check",
        "panicked",
    ];

    /// The kind of the refusal, for a counter's label: one of [`KINDS`](Self::KINDS).
    pub fn kind(&self) -> &'static str {
        Self::KINDS[self.index()]
    }

    /// The place of the kind in [`KINDS`](Self::KINDS).
    pub(super) fn index(&self) -> usize {
        match self {
            Self::Source(_) => 0,
            Self::Empty => 1,
            Self::Truncated { .. } => 2,
            Self::Oversized { .. } => 3,
            Self::NotASnapshot => 4,
            Self::Format { .. } => 5,
            Self::Corrupt { .. } => 6,
            Self::Schema { .. } => 7,
            Self::Shape { .. } => 8,
            Self::Reserved => 9,
            Self::Fill { .. } => 10,
            Self::Encoding { .. } => 11,
            Self::Rule { .. } => 12,
            Self::Backwards { .. } => 13,
            Self::Conflict { .. } => 14,
            Self::FromTheFuture { .. } => 15,
            Self::Check(_) => 16,
            Self::Panicked { .. } => 17,
        }
    }
}
