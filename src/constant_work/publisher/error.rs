use crate::constant_work::{EncodeError, Refusal, SourceError, Version};
use std::{error::Error, fmt, sync::Arc};

/// The reason why rules were not published. The previous snapshot stays published, and readers keep it. Only after
/// [`Sink`](Self::Sink), the new snapshot may be published nevertheless.
///
/// The text covers this error alone; [`chain`](crate::error::chain) adds the texts of the causes. `source()` returns
/// the error in the variant, if there is one.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum PublishError {
    /// The rules cannot be encoded as a snapshot: there are more rules than slots, or a rule is longer than its slot,
    /// is invalid or cannot be serialized. [`fill`](crate::constant_work::PublisherReadings::fill) shows early that the
    /// slots run out.
    Encode(EncodeError),
    /// A reader would refuse the snapshot: the [check](crate::constant_work::PublisherBuilder::check) of all rules
    /// refused them or panicked, or a rule's `Deserialize` cannot read the output of its `Serialize`.
    Unreadable(Refusal),
    /// Another publisher has published a later version. If that version has the epoch of this publisher, restart this
    /// publisher: it then continues from that version. If that version has a later epoch, configure this publisher with
    /// the later epoch or a still later one.
    Overtaken {
        /// The published version.
        found: Version,
        /// The last version of this publisher, or version 0 of its epoch if it has not published yet.
        own: Version,
    },
    /// Another publisher has published other rules under this publisher's last version.
    Conflict {
        /// The version of both.
        version: Version,
    },
    /// The published bytes are not a snapshot that this publisher understands. A publisher that has published before
    /// overwrites damaged bytes. One that has just started does not, because it does not know the last version. No
    /// publisher overwrites a snapshot that has a later format and a correct checksum. Remove the bytes and publish
    /// with a higher [`epoch`](crate::constant_work::PublisherBuilder::epoch).
    Unknown(Refusal),
    /// All versions of this epoch are used up.
    OutOfVersions,
    /// The sink failed to read the published bytes or to write the new ones. A failed write may nevertheless have
    /// published the whole snapshot.
    Sink(SourceError),
    /// The function that [`run`](crate::constant_work::Publisher::run) calls for the rules failed.
    Rules(Arc<dyn Error + Send + Sync>),
    /// The function that [`run`](crate::constant_work::Publisher::run) calls for the rules did not return in time.
    RulesTimedOut,
}

impl PublishError {
    /// All values of [`kind`](Self::kind).
    pub const KINDS: [&'static str; 12] = [
        "fill",
        "slot_too_long",
        "rule",
        "encoding",
        "unreadable",
        "overtaken",
        "conflict",
        "unknown",
        "out_of_versions",
        "sink",
        "rules",
        "rules_timed_out",
    ];

    /// Returns a stable name for counters: one of [`KINDS`](Self::KINDS).
    pub fn kind(&self) -> &'static str {
        Self::KINDS[self.index()]
    }

    /// Returns the index of the kind in [`KINDS`](Self::KINDS).
    fn index(&self) -> usize {
        match self {
            Self::Encode(EncodeError::Fill { .. }) => 0,
            Self::Encode(EncodeError::SlotTooLong { .. }) => 1,
            Self::Encode(EncodeError::Rule { .. }) => 2,
            Self::Encode(EncodeError::Encoding { .. }) => 3,
            Self::Unreadable(_) => 4,
            Self::Overtaken { .. } => 5,
            Self::Conflict { .. } => 6,
            Self::Unknown(_) => 7,
            Self::OutOfVersions => 8,
            Self::Sink(_) => 9,
            Self::Rules(_) => 10,
            Self::RulesTimedOut => 11,
        }
    }
}

impl fmt::Display for PublishError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let another = "is there another publisher?";
        match self {
            Self::Encode(_) => f.write_str("the rules cannot be encoded"),
            Self::Unreadable(_) => f.write_str("a reader would refuse the snapshot"),
            Self::Overtaken { found, own } => {
                write!(f, "{found} is published, and this publisher is at {own}: {another}")
            }
            Self::Conflict { version } => {
                write!(f, "{version} is published with other rules than those of this publisher: {another}")
            }
            Self::Unknown(_) => {
                f.write_str("the published bytes cannot be read: remove them, and publish with a higher epoch")
            }
            Self::OutOfVersions => f.write_str("all versions of this epoch are used up: publish with a higher epoch"),
            Self::Sink(_) => f.write_str("the sink failed"),
            Self::Rules(_) => f.write_str("the rules to publish could not be obtained"),
            Self::RulesTimedOut => f.write_str("the rules to publish did not arrive in time"),
        }
    }
}

impl Error for PublishError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Encode(error) => Some(error),
            Self::Unreadable(refusal) | Self::Unknown(refusal) => Some(refusal),
            Self::Sink(error) => Some(error),
            // Dereferences the `Arc`, whose own type is an error too.
            Self::Rules(error) => Some(&**error),
            _ => None,
        }
    }
}

impl From<SourceError> for PublishError {
    fn from(error: SourceError) -> Self {
        Self::Sink(error)
    }
}

impl From<EncodeError> for PublishError {
    fn from(error: EncodeError) -> Self {
        Self::Encode(error)
    }
}
