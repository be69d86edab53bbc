use std::{convert::Infallible, fmt};
use thiserror::Error;
use tower::BoxError;

/// A number of bytes as people read it.
struct ByteCount(usize);

impl fmt::Display for ByteCount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            1 => f.write_str("1 byte"),
            bytes => write!(f, "{bytes} bytes"),
        }
    }
}

/// Why a [`ReplayBody`](super::ReplayBody) cannot be read to its end.
///
/// A body type that wraps a `ReplayBody`, such as an enum around hyper's `Incoming`, names it as its error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ReplayError<E> {
    /// The body itself failed.
    #[error(transparent)]
    Body(E),
    /// The body is larger than what is kept of it, and the newest attempt sends the rest alone.
    #[error(
        "the request body is larger than its replay cap of {}, and another attempt sends the rest: with a higher cap \
         both send all of it",
        ByteCount(*cap)
    )]
    TooLarge {
        /// The most bytes that are kept.
        cap: usize,
    },
    /// The body failed, or panicked, when another attempt read it.
    #[error("the request body failed when another attempt read it")]
    FailedElsewhere,
}

impl<E: Into<BoxError>> ReplayError<E> {
    /// The error in a box, for body types whose error is one: `body.map_err(ReplayError::into_boxed)`. Also where `E`
    /// is a `BoxError`, which is no error itself.
    pub fn into_boxed(self) -> BoxError {
        match self {
            Self::Body(error) => error.into(),
            Self::TooLarge { cap } => ReplayError::<Infallible>::TooLarge { cap }.into(),
            Self::FailedElsewhere => ReplayError::<Infallible>::FailedElsewhere.into(),
        }
    }
}
