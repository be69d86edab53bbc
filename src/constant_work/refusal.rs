use super::{shape::Shape, snapshot::Version, source::SourceError};
use crate::error::ConfigError;
use std::time::Duration;
use thiserror::Error as ThisError;

/// The reason why a tick brought no new configuration. The configuration in force stays, unless it has become
/// [stale](super::Staleness).
///
/// The text covers this error alone; [`chain`](crate::error::chain) adds the text of the cause.
#[derive(Clone, Debug, ThisError)]
#[non_exhaustive]
pub enum Refusal {
    /// The source failed.
    #[error("the source failed")]
    Source(#[from] SourceError),
    /// The source returned no bytes.
    #[error("the snapshot is empty")]
    Empty,
    /// The bytes are fewer than a snapshot of this shape has.
    #[error("the snapshot is truncated: it has {length} of {expected} bytes")]
    Truncated {
        /// The number of bytes that were read.
        length: usize,
        /// The number of bytes of a snapshot of the local shape.
        expected: usize,
    },
    /// The bytes are more than a snapshot of this shape has.
    #[error("the snapshot has more than the {expected} bytes of its shape")]
    Oversized {
        /// The number of bytes of a snapshot of the local shape.
        expected: usize,
    },
    /// The bytes do not begin with those of a snapshot.
    #[error("not a snapshot: it does not begin with \"STDFSTCW\"")]
    NotASnapshot,
    /// The snapshot has a format that this version of the crate does not read.
    #[error("the snapshot has format {found}: this version of the crate reads format {expected}")]
    Format {
        /// The format that the header names.
        found: u16,
        /// The format that this version of the crate reads.
        expected: u16,
    },
    /// The bytes differ from those that were published.
    #[error("the snapshot is corrupt: it names the checksum {found:#010x}, and its bytes have {computed:#010x}")]
    Corrupt {
        /// The checksum in the snapshot.
        found: u32,
        /// The checksum of its bytes.
        computed: u32,
    },
    /// The rules have another [`SCHEMA`](super::Rule::SCHEMA).
    #[error("the rules have schema {found}: this program reads schema {expected}")]
    Schema {
        /// The schema that the header names.
        found: u32,
        /// The schema of the local rule type.
        expected: u32,
    },
    /// The snapshot has another number of slots, or slots of another length.
    #[error(
        "the snapshot has {found_slots} slots of {found_slot_length} bytes: this program expects {} of {} bytes",
        expected.slots(), expected.slot_length()
    )]
    Shape {
        /// The number of slots that the header names.
        found_slots: u32,
        /// The length of a slot that the header names.
        found_slot_length: u32,
        /// The local shape.
        expected: Shape,
    },
    /// A reserved byte of the header is not zero.
    #[error("the reserved bytes of the header are not zero")]
    Reserved,
    /// The header says that more slots are used than there are.
    #[error("the header says that {used} of {slots} slots are used")]
    Fill {
        /// The used slots that the header names.
        used: u32,
        /// The slots of the snapshot.
        slots: u32,
    },
    /// A slot does not contain one rule followed by zeros.
    #[error("slot {slot} does not contain one encoded rule followed by zeros")]
    Encoding {
        /// The index of the slot, from zero.
        slot: u32,
    },
    /// A rule is invalid.
    #[error("the rule in slot {slot} is invalid")]
    Rule {
        /// The index of the slot, from zero.
        slot: u32,
        /// The setting that is invalid.
        #[source]
        error: ConfigError,
    },
    /// The snapshot is older than the last good one: it is a replay, or its publisher lost its state.
    #[error("the snapshot is {found}, older than the last good one, {current}")]
    Backwards {
        /// The version of the refused snapshot.
        found: Version,
        /// The version of the last good snapshot.
        current: Version,
    },
    /// The snapshot has the version of the last good one, and other rules.
    #[error("the snapshot is {version}, as the last good one is, but has other rules: are there two publishers?")]
    Conflict {
        /// The version of both.
        version: Version,
    },
    /// The publication time is too far ahead of the local clock.
    #[error("the snapshot was published {ahead:?} ahead of the local clock: one of the two clocks is wrong")]
    FromTheFuture {
        /// By how much the publisher's clock is ahead.
        ahead: Duration,
    },
    /// The check of the target refused the rules.
    #[error("the check refused the rules")]
    Check(#[source] ConfigError),
    /// The code of the rule type or of the target panicked.
    #[error("user code panicked in {during}")]
    Panicked {
        /// The step: `"decode"`, `"check"` or `"build"`.
        during: &'static str,
    },
}

impl Refusal {
    /// All values of [`kind`](Self::kind).
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

    /// Returns a stable name for a counter's label: one of [`KINDS`](Self::KINDS).
    pub fn kind(&self) -> &'static str {
        Self::KINDS[self.index()]
    }

    /// Returns the index of the kind in [`KINDS`](Self::KINDS).
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
