use crate::constant_work::{EncodeError, Refusal, SourceError, Version};
use std::{error::Error, fmt, sync::Arc};

/// Why rules were not published. The snapshot before stays published, and readers have it.
///
/// The text is this error's own part; [`chain`](crate::error::chain) has those of the causes as well. `source()` is the
/// error in the variant, where there is one.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum PublishError {
    /// The rules make no snapshot: there are more than slots, one is longer than its slot, or cannot work. See
    /// [`fill`](crate::constant_work::PublisherReadings::fill), which shows the first long before.
    Encode(EncodeError),
    /// A reader would refuse the snapshot: the [check](crate::constant_work::PublisherBuilder::check) of the rules
    /// together refused them, or what serializes a rule is not what deserializes it.
    Unreadable(Refusal),
    /// Another publisher has published a later version. A publisher that is started again takes over from there.
    Overtaken {
        /// The version that is published.
        found: Version,
        /// That of this publisher, or version 0 of its epoch where it has not published yet.
        own: Version,
    },
    /// Another publisher has published other rules under the version that this one gave its own.
    Conflict {
        /// That of both.
        version: Version,
    },
    /// What is published cannot be read, and a publisher that has just started does not know which version it was; or
    /// it is of a later version of this crate. Remove it and publish with a higher
    /// [`epoch`](crate::constant_work::PublisherBuilder::epoch).
    Unknown(Refusal),
    /// All versions of this epoch are used up.
    OutOfVersions,
    /// What is published could not be read, or the snapshot not written: it may be published all the same, whole.
    Sink(SourceError),
    /// The rules that [`run`](crate::constant_work::Publisher::run) was to publish did not come.
    Rules(Arc<dyn Error + Send + Sync>),
    /// They did not come in time.
    RulesTimedOut,
}

impl PublishError {
    /// All that [`kind`](Self::kind) can be.
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

    /// A name for counters, which stays what it is: one of [`KINDS`](Self::KINDS).
    pub fn kind(&self) -> &'static str {
        Self::KINDS[self.index()]
    }

    /// The place of the kind in [`KINDS`](Self::KINDS).
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
            Self::Encode(_) => f.write_str("the rules make no snapshot"),
            Self::Unreadable(_) => f.write_str("a reader would refuse the snapshot"),
            Self::Overtaken { found, own } => {
                write!(f, "{found} is published, and this publisher is at {own}: {another}")
            }
            Self::Conflict { version } => write!(f, "{version} is published with other rules than here: {another}"),
            Self::Unknown(_) => {
                f.write_str("the version that is published cannot be read: remove it, and publish with a higher epoch")
            }
            Self::OutOfVersions => f.write_str("all versions of this epoch are used up: publish with a higher one"),
            Self::Sink(_) => f.write_str("the sink failed"),
            Self::Rules(_) => f.write_str("there are no rules to publish"),
            Self::RulesTimedOut => f.write_str("the rules to publish did not come in time"),
        }
    }
}

impl Error for PublishError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Encode(error) => Some(error),
            Self::Unreadable(refusal) | Self::Unknown(refusal) => Some(refusal),
            Self::Sink(error) => Some(error),
            // The error in the `Arc`, which is an error of its own type.
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
