use super::redis_builder::RedisBuilder;
use crate::{
    constant_work::{Sink, Source, SourceError, SourceFailure},
    redis::{Connection, Failure, Fault, FaultKind},
};
use ::redis::{Value, cmd, pipe};
use std::{sync::Arc, time::Duration};

/// Reads a snapshot from a string in Redis.
///
/// ```no_run
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use steadfast::constant_work::RedisSource;
///
/// let source = RedisSource::builder("redis://127.0.0.1:6379", "limits").connect_lazily()?;
/// # drop(source);
/// # Ok(())
/// # }
/// ```
///
/// # Errors
///
/// [`NotFound`](SourceFailure::NotFound) if the key does not exist. [`TimedOut`](SourceFailure::TimedOut) if the answer
/// did not arrive within the builder's [`answer_timeout`](RedisBuilder::answer_timeout).
/// [`Unreachable`](SourceFailure::Unreachable) if there is no connection, or if it breaks. Connecting runs in the
/// background, so a call without a connection fails at once, with the error of the last attempt. The few calls that
/// wait for the connection are listed at [`connect_timeout`](RedisBuilder::connect_timeout).
/// [`BadAnswer`](SourceFailure::BadAnswer) if the server refuses the command or the connection, or if the value is not
/// a string.
///
/// # Cancellation
///
/// If a fetch is dropped, its answer is discarded when it arrives.
///
/// # Runtimes
///
/// Calls need a tokio runtime, which may be a different one each time. If the runtime that drives the connection has
/// ended, the next call connects in the runtime that it runs in, and waits for the connection.
///
/// # Costs
///
/// One round trip for two commands (`GETRANGE`, `EXISTS`). The server sends at most `at_most` bytes of the value,
/// however long the value is. Each source has its own connection.
pub struct RedisSource(Kept);

/// Writes a snapshot to a string in Redis.
///
/// One `SET` replaces the published snapshot, so a reader sees the old bytes or the new ones. The key has no expiry. If
/// the server evicts keys, its policy must spare this key, as `volatile-lru` and the like do.
///
/// If no answer arrives, the server may have stored the new bytes, or may store them later. A
/// [`Publisher`](crate::constant_work::Publisher) therefore reads before it writes again. If two publishers read at the
/// same time and then write different rules, the second write replaces the first. The next publication of the publisher
/// that wrote first detects that. After a crash, the server's persistence settings decide whether the last write
/// survives. See [`Publisher`](crate::constant_work::Publisher) for the effect of an old snapshot.
///
/// The errors and the runtimes are those of [`RedisSource`], and so are the costs of reading the published snapshot.
/// For a sink, a key that does not exist is no error. Writing a snapshot costs one round trip and one copy of the
/// bytes.
pub struct RedisSink(Kept);

/// A key, the connection to its server, and the time limit of an answer.
pub(super) struct Kept {
    pub(super) key: Arc<[u8]>,
    pub(super) connection: Connection,
    pub(super) answer_timeout: Duration,
}

impl RedisSource {
    /// Configures a source that reads the string at this key, on the server of this URL:
    /// `redis://user:password@host:6379/0`.
    pub fn builder(url: impl AsRef<str>, key: impl AsRef<[u8]>) -> RedisBuilder<Self> {
        RedisBuilder::new(url.as_ref(), key.as_ref())
    }

    pub(super) fn of(kept: Kept) -> Self {
        Self(kept)
    }
}

impl RedisSink {
    /// Configures a sink that writes the string at this key, on the server of this URL:
    /// `redis://user:password@host:6379/0`.
    pub fn builder(url: impl AsRef<str>, key: impl AsRef<[u8]>) -> RedisBuilder<Self> {
        RedisBuilder::new(url.as_ref(), key.as_ref())
    }

    pub(super) fn of(kept: Kept) -> Self {
        Self(kept)
    }
}

impl Source for RedisSource {
    async fn fetch(&mut self, into: &mut Vec<u8>, at_most: usize) -> Result<(), SourceError> {
        match self.0.read(into, at_most).await? {
            true => Ok(()),
            false => Err(SourceError::new(SourceFailure::NotFound)),
        }
    }
}

impl Sink for RedisSink {
    async fn published(&mut self, into: &mut Vec<u8>, at_most: usize) -> Result<bool, SourceError> {
        self.0.read(into, at_most).await
    }

    async fn publish(&mut self, snapshot: &[u8]) -> Result<(), SourceError> {
        let mut command = cmd("SET");
        command.arg(&*self.0.key).arg(snapshot);
        let answer = self.0.connection.ask(async |connection| command.query_async::<Value>(connection).await).await;
        match answer.map_err(|failure| self.0.error_of(failure))? {
            Value::Okay => Ok(()),
            _ => Err(nonsense()),
        }
    }
}

impl Kept {
    /// Reads at most `at_most` bytes. Returns `false` if the key does not exist.
    async fn read(&self, into: &mut Vec<u8>, at_most: usize) -> Result<bool, SourceError> {
        into.clear();
        // `GETRANGE` includes the end, and -1 would mean the end of the string.
        let last = at_most.saturating_sub(1);
        let mut both = pipe();
        both.cmd("GETRANGE").arg(&*self.key).arg(0).arg(last).cmd("EXISTS").arg(&*self.key);
        let answer = self.connection.ask(async |connection| both.query_async::<Value>(connection).await).await;
        let answer = match answer.map_err(|failure| self.error_of(failure))? {
            Value::Array(answers) => <[Value; 2]>::try_from(answers).map_err(|_| nonsense())?,
            _ => return Err(nonsense()),
        };
        match answer {
            // The result is `false` only if both commands found no key. If the key was deleted between them, the bytes
            // are still a snapshot. If it was created between them, the snapshot counts as empty, and its reader
            // refuses it.
            [Value::BulkString(bytes), Value::Int(exists)] if exists == 0 && bytes.is_empty() => Ok(false),
            [Value::BulkString(bytes), Value::Int(_)] => {
                into.extend_from_slice(&bytes[..bytes.len().min(at_most)]);
                Ok(true)
            }
            _ => Err(nonsense()),
        }
    }

    fn error_of(&self, failure: Failure) -> SourceError {
        let timed_out = SourceFailure::TimedOut(self.answer_timeout);
        let failure = match failure {
            Failure::Said(error) if error.is_timeout() => {
                return SourceError::new(timed_out).because(Fault::of(&error));
            }
            failure => Fault::from(failure),
        };
        let kind = match failure.kind {
            FaultKind::Unreachable => SourceFailure::Unreachable,
            FaultKind::Refused | FaultKind::Incomprehensible => SourceFailure::BadAnswer { status: None },
        };
        SourceError::new(kind).because(failure)
    }
}

fn nonsense() -> SourceError {
    SourceError::new(SourceFailure::BadAnswer { status: None }).because("the answer does not fit the command")
}
