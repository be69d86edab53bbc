use std::fmt;
use thiserror::Error as ThisError;

/// The reason why a store did not answer a batch. The store may have counted a part of the batch. The limit reports the
/// spends of the batch again, and the store counts each of them once.
#[derive(Clone, Debug, PartialEq, Eq, ThisError)]
#[error("the rate limit store {kind}: {detail}")]
pub struct StoreError {
    kind: StoreErrorKind,
    detail: String,
}

/// The kind of a [`StoreError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StoreErrorKind {
    /// The store does not answer, or not in time.
    Unreachable,
    /// The store answers that it cannot serve, for example because it is loading, full, or read-only.
    Refused,
    /// The answer is not one that a store of this kind gives, or the store panicked.
    Incomprehensible,
}

impl StoreError {
    /// Makes an error of this kind. `detail` is the text of the store.
    pub fn new(kind: StoreErrorKind, detail: impl fmt::Display) -> Self {
        Self { kind, detail: detail.to_string() }
    }

    /// Returns the kind of this error.
    pub fn kind(&self) -> StoreErrorKind {
        self.kind
    }
}

impl fmt::Display for StoreErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unreachable => "does not answer",
            Self::Refused => "refuses",
            Self::Incomprehensible => "gave an invalid answer",
        })
    }
}
