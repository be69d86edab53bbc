use std::{convert::Infallible, fmt};
use thiserror::Error;
use tower::BoxError;

/// A number of bytes, for people.
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
/// A body type that wraps a `ReplayBody`, such as an enum around hyper's `Incoming`, handles this error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ReplayError<E> {
    /// The body itself failed.
    #[error(transparent)]
    Body(E),
    /// The body exceeds the cap, and the newest attempt alone sends the rest.
    #[error(
        "the request body exceeds its replay cap of {}, and another attempt sends the rest: with a higher cap, all \
         attempts can send it",
        ByteCount(*cap)
    )]
    TooLarge {
        /// The cap in bytes.
        cap: usize,
    },
    /// The body failed or panicked when another attempt read it.
    #[error("the request body failed when another attempt read it")]
    FailedElsewhere,
}

impl<E: Into<BoxError>> ReplayError<E> {
    /// Boxes the error, for body types with a boxed error: `body.map_err(ReplayError::into_boxed)`. Also works if `E`
    /// is a `BoxError`, which does not implement `Error` itself.
    pub fn into_boxed(self) -> BoxError {
        match self {
            Self::Body(error) => error.into(),
            Self::TooLarge { cap } => ReplayError::<Infallible>::TooLarge { cap }.into(),
            Self::FailedElsewhere => ReplayError::<Infallible>::FailedElsewhere.into(),
        }
    }
}
