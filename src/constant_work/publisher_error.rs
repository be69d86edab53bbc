use super::{Refusal, SourceError};
use crate::ConfigError;
use std::{error::Error, fmt, sync::Arc};

/// Why rules were not published. What was published before stays, and readers have it.
///
/// `source()` is what is in the variant, where that is an error.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum PublishError {
    /// There are more rules than slots. See [`fill`](super::PublisherReadings::fill), which shows it long before.
    Fill {
        /// The rules.
        used: usize,
        /// The slots of the shape.
        slots: u32,
    },
    /// A rule is longer than its slot, or an inert rule is.
    SlotTooLong {
        /// Where.
        slot: u32,
        /// The bytes that it takes.
        length: usize,
        /// The bytes of a slot.
        slot_length: u32,
    },
    /// A rule, or an inert one, cannot be serialized.
    Encoding {
        /// Where.
        slot: u32,
    },
    /// A rule cannot be put into force, by its own [`validate`](super::Rule::validate).
    Rule {
        /// Where.
        slot: u32,
        /// Why.
        error: ConfigError,
    },
    /// A reader would refuse what the rules were encoded to: what serializes a rule is not what deserializes it.
    Unreadable(Refusal),
    /// Somebody has published something later: another publisher. One that is started again takes over from there.
    Overtaken {
        /// Epoch and version of what is published.
        found: (u64, u64),
        /// Those of this publisher, or its epoch and 0 where it has not published yet.
        own: (u64, u64),
    },
    /// Somebody has published other rules by the version that this publisher gave its own: another publisher.
    Conflict {
        /// Epoch and version.
        version: (u64, u64),
    },
    /// What is published cannot be read, and a publisher that has just started does not know which version it was; or it is of
    /// a later version of this crate. Remove it and publish with a higher [`epoch`](super::PublisherBuilder::epoch).
    Unknown(Refusal),
    /// All versions of this epoch are used up.
    OutOfVersions,
    /// What is published could not be read, or the snapshot not written: it may be published all the same, whole.
    Sink(SourceError),
    /// The rules that [`run`](super::Publisher::run) was to publish did not come.
    Rules(Arc<dyn Error + Send + Sync>),
    /// They did not come in time.
    RulesTimedOut,
}

impl PublishError {
    /// A name for counters, which stays what it is.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Fill { .. } => "fill",
            Self::SlotTooLong { .. } => "slot_too_long",
            Self::Encoding { .. } => "encoding",
            Self::Rule { .. } => "rule",
            Self::Unreadable(_) => "unreadable",
            Self::Overtaken { .. } => "overtaken",
            Self::Conflict { .. } => "conflict",
            Self::Unknown(_) => "unknown",
            Self::OutOfVersions => "out_of_versions",
            Self::Sink(_) => "sink",
            Self::Rules(_) => "rules",
            Self::RulesTimedOut => "rules_timed_out",
        }
    }

    /// It and all that it comes from, in one line.
    pub(super) fn in_full(&self) -> String {
        let mut text = self.to_string();
        let mut cause = self.source();
        while let Some(error) = cause {
            text = format!("{text}: {error}");
            cause = error.source();
        }
        text
    }
}

impl fmt::Display for PublishError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fill { used, slots } => write!(f, "{used} rules do not fit into {slots} slots"),
            Self::SlotTooLong { slot, length, slot_length } => {
                write!(f, "the rule of slot {slot} takes {length} bytes, and a slot has {slot_length}")
            }
            Self::Encoding { slot } => write!(f, "the rule of slot {slot} cannot be serialized"),
            Self::Rule { slot, .. } => write!(f, "the rule of slot {slot} cannot be put into force"),
            Self::Unreadable(_) => f.write_str("no reader would take the snapshot"),
            Self::Overtaken { found, own } => write!(
                f,
                "epoch {} version {} is published, and this publisher is at epoch {} version {}: is there another one?",
                found.0, found.1, own.0, own.1
            ),
            Self::Conflict { version: (epoch, version) } => write!(
                f,
                "other rules are published as epoch {epoch} version {version}, which are this publisher's: is there another one?"
            ),
            Self::Unknown(_) => f.write_str(
                "nobody knows which version is published: remove what is there, and publish with a higher epoch",
            ),
            Self::OutOfVersions => f.write_str("all versions of this epoch are used up: publish with a higher one"),
            Self::Sink(_) => f.write_str("the snapshot could not be published"),
            Self::Rules(_) => f.write_str("there are no rules to publish"),
            Self::RulesTimedOut => f.write_str("the rules to publish did not come in time"),
        }
    }
}

impl Error for PublishError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Rule { error, .. } => Some(error),
            Self::Unreadable(refusal) | Self::Unknown(refusal) => Some(refusal),
            Self::Sink(error) => Some(error),
            // What is in the `Arc`, which is an error of its own type.
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
