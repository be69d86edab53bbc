use std::fmt;
use thiserror::Error as ThisError;

/// Why a store did not answer a batch. It may have counted a part of it, so the limit sends all of it again.
#[derive(Clone, Debug, PartialEq, Eq, ThisError)]
#[error("the store of rate limits {kind}: {detail}")]
pub struct StoreError {
    kind: StoreErrorKind,
    detail: String,
}

/// The kind of a [`StoreError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StoreErrorKind {
    /// It does not answer, or not in time.
    Unreachable,
    /// It answers that it cannot: it is loading, full, or may only be read.
    Refused,
    /// It answers what no such store would.
    Incomprehensible,
}

impl StoreError {
    /// An error of this kind, with the store's own words.
    pub fn new(kind: StoreErrorKind, detail: impl fmt::Display) -> Self {
        Self { kind, detail: detail.to_string() }
    }

    /// The kind of this error.
    pub fn kind(&self) -> StoreErrorKind {
        self.kind
    }
}

impl fmt::Display for StoreErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unreachable => "does not answer",
            Self::Refused => "refuses",
            Self::Incomprehensible => "is not understood",
        })
    }
}
