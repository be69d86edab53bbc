use std::{error::Error, fmt, future::Future, io, sync::Arc, time::Duration};

/// Where a poller reads snapshots from.
///
/// It is asked once in every tick, changed or not, and answers with all that is there: no conditional requests, no
/// deltas, no retries of its own. [`Poller`](super::Poller) limits the time of a fetch.
///
/// # Which one
///
/// | source | for | published by |
/// |---|---|---|
/// | [`FileSource`](super::FileSource) | what the platform brings to the machine: a mounted config map, a synchronized folder | [`FileSink`](super::FileSink), or whatever makes the config map |
/// | `HttpSource` (feature `http`) | object stores and servers of static files, which many can read at once | [`FileSink`](super::FileSink) behind the server, or a sink of your own |
/// | `RedisSource` (feature `redis`) | fleets that have a Redis already, of some hundreds of readers | `RedisSink` |
/// | [`FixedSource`](super::FixedSource) | tests, and what is part of the program | [`Snapshot::encode`](super::Snapshot::encode) |
///
/// A fleet reads its length times its members in every period, always: 1,000 readers of 64 KiB each 10 s are 6.6 MB/s.
/// Choose what carries that on its worst day, since it is the same on the best.
pub trait Source: Send {
    /// Reads what is there into the buffer, which it clears first, but no more than `at_most` bytes: one more than a
    /// snapshot has, so that one that is too long is seen to be. The buffer's capacity should be reused.
    ///
    /// Dropped at any point, it must leave the source usable; what is then in the buffer does not matter.
    fn fetch(&mut self, into: &mut Vec<u8>, at_most: usize) -> impl Future<Output = Result<(), SourceError>> + Send;
}

/// Why a source or a sink failed.
///
/// The text says how it failed. The cause is `source()`, and in the text of [`chain`](crate::error::chain).
#[derive(Clone, Debug)]
pub struct SourceError {
    failure: SourceFailure,
    cause: Option<Arc<dyn Error + Send + Sync>>,
}

/// How a source or a sink failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SourceFailure {
    /// There was no answer, or the connection broke.
    Unreachable,
    /// It answered that there is no snapshot.
    NotFound,
    /// It had not answered after this time.
    TimedOut(Duration),
    /// It answered with what is no snapshot: an error, with its status where it has one.
    BadAnswer {
        /// The status, where the protocol has one.
        status: Option<u16>,
    },
    /// An earlier read or write that was given up still goes on.
    Busy,
    /// The code of the source panicked.
    Panicked,
}

impl SourceError {
    /// An error of this kind, without a cause.
    pub const fn new(failure: SourceFailure) -> Self {
        Self { failure, cause: None }
    }

    /// The same, with what `source()` will tell.
    #[must_use]
    pub fn because(mut self, cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.cause = Some(Arc::from(cause.into()));
        self
    }

    /// How it failed.
    pub fn failure(&self) -> SourceFailure {
        self.failure
    }
}

impl fmt::Display for SourceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.failure {
            SourceFailure::Unreachable => f.write_str("it cannot be reached"),
            SourceFailure::NotFound => f.write_str("there is no snapshot"),
            SourceFailure::TimedOut(after) => write!(f, "no answer after {after:?}"),
            SourceFailure::BadAnswer { status: Some(status) } => write!(f, "it answered with status {status}"),
            SourceFailure::BadAnswer { status: None } => f.write_str("it answered with an error"),
            SourceFailure::Busy => f.write_str("an earlier operation still goes on"),
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
