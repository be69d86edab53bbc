use thiserror::Error;

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
        "the request body is larger than the cap of {cap} bytes on what is kept for further attempts, and another \
         attempt sends the rest: a higher cap lets both send all of it"
    )]
    TooLarge {
        /// The most bytes that are kept.
        cap: usize,
    },
    /// The body failed, or panicked, when another attempt read it.
    #[error("the request body failed when another attempt read it")]
    FailedElsewhere,
}
