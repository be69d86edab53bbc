use std::{error::Error, fmt, future::Future, io, sync::Arc, time::Duration};

/// The place from which a poller reads snapshots.
///
/// Every tick fetches once, changed or not, and the source returns the whole snapshot. It makes no conditional
/// requests, sends no deltas and does not retry. [`Poller`](super::Poller) limits the time of a fetch.
///
/// # Choosing a source
///
/// | source | for | published by |
/// |---|---|---|
/// | [`FileSource`](super::FileSource) | snapshots that the platform copies to the machine: a mounted config map, a synchronized folder | [`FileSink`](super::FileSink), or the tool that creates the config map |
/// | `HttpSource` (feature `http`) | object stores and static file servers, which can serve many readers at once | [`FileSink`](super::FileSink) behind the server, or a sink of your own |
/// | `RedisSource` (feature `redis`) | fleets of some hundreds of readers that already have a Redis | `RedisSink` |
/// | [`FixedSource`](super::FixedSource) | tests, and snapshots that are part of the program | [`Snapshot::encode`](super::Snapshot::encode) |
///
/// In every period, the readers together transfer the snapshot's length times their number: 1,000 readers that each
/// fetch 64 KiB every 10 s transfer 6.6 MB/s. Choose a source that can carry this load at all times, since it never
/// varies.
pub trait Source: Send {
    /// Reads the snapshot into the buffer, up to `at_most` bytes. Clears the buffer first, and should reuse its
    /// capacity. `at_most` is one byte more than a snapshot has, so that the poller can detect a longer one.
    ///
    /// If the future is dropped at any point, the source must stay usable. The contents of the buffer then do not
    /// matter.
    fn fetch(&mut self, into: &mut Vec<u8>, at_most: usize) -> impl Future<Output = Result<(), SourceError>> + Send;
}

/// The error of a source or a sink.
///
/// The text covers this error alone. `source()` returns the cause, and [`chain`](crate::error::chain) adds its text.
#[derive(Clone, Debug)]
pub struct SourceError {
    failure: SourceFailure,
    cause: Option<Arc<dyn Error + Send + Sync>>,
}

/// How a source or a sink failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SourceFailure {
    /// There was no answer, the connection failed, or a file could not be read or written.
    Unreachable,
    /// There is no snapshot, or a file or its folder is missing.
    NotFound,
    /// There was no answer within this time.
    TimedOut(Duration),
    /// The answer is no snapshot but an error, with its status if it has one.
    BadAnswer {
        /// The status, if the protocol has one.
        status: Option<u16>,
    },
    /// An earlier read or write was abandoned and is still running.
    Busy,
    /// The code of the source panicked.
    Panicked,
}

impl SourceError {
    /// Returns an error of this kind, without a cause.
    pub const fn new(failure: SourceFailure) -> Self {
        Self { failure, cause: None }
    }

    /// Sets the cause that `source()` returns.
    #[must_use]
    pub fn because(mut self, cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.cause = Some(Arc::from(cause.into()));
        self
    }

    /// Returns the kind of the failure.
    pub fn failure(&self) -> SourceFailure {
        self.failure
    }
}

impl fmt::Display for SourceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.failure {
            SourceFailure::Unreachable => f.write_str("it cannot be reached or used"),
            SourceFailure::NotFound => f.write_str("there is no snapshot, or its folder is missing"),
            SourceFailure::TimedOut(after) => write!(f, "no answer after {after:?}"),
            SourceFailure::BadAnswer { status: Some(status) } => write!(f, "it answered with status {status}"),
            SourceFailure::BadAnswer { status: None } => f.write_str("it answered with an error"),
            SourceFailure::Busy => f.write_str("an earlier operation is still running"),
            SourceFailure::Panicked => f.write_str("its code panicked"),
        }
    }
}

impl Error for SourceError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.cause.as_ref().map(|cause| &**cause as _)
    }
}

/// A missing file is [`NotFound`](SourceFailure::NotFound), every other error
/// [`Unreachable`](SourceFailure::Unreachable).
impl From<io::Error> for SourceError {
    fn from(error: io::Error) -> Self {
        let failure = match error.kind() {
            io::ErrorKind::NotFound => SourceFailure::NotFound,
            _ => SourceFailure::Unreachable,
        };
        Self::new(failure).because(error)
    }
}
