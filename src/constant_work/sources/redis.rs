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
/// [`NotFound`](SourceFailure::NotFound) where there is no such key, [`TimedOut`](SourceFailure::TimedOut) where the
/// answer did not come within the builder's [`answer_timeout`](RedisBuilder::answer_timeout),
/// [`Unreachable`](SourceFailure::Unreachable) where there is no connection (at once, with what was wrong in the last
/// attempt: one is made in the background), and [`BadAnswer`](SourceFailure::BadAnswer) where the server refuses, or
/// the key holds no string.
///
/// # Cancellation
///
/// The answer is thrown away when it comes.
///
/// # Runtimes
///
/// Calls need a tokio runtime, and it may be another one each time. Where the runtime that drives the connection has
/// ended, the next call connects in its own and waits for that.
///
/// # Costs
///
/// One round trip for two commands (`GETRANGE`, `EXISTS`). Of a value of any size the server sends no more than the
/// reader asks for. A connection of its own.
pub struct RedisSource(Kept);

/// Keeps a snapshot in a string in Redis.
///
/// One `SET` replaces the published snapshot, so that a reader sees the old bytes or the new ones. It never expires: a
/// server that evicts keys must not evict this one (`volatile-lru` and the like do not).
///
/// An answer that does not come leaves open whether the server has the new bytes, or will have them once it gets to
/// them. A [`Publisher`](crate::constant_work::Publisher) looks before it writes again. Two publishers that look at
/// the same time and then both write find out with their next publication. How much of what was written a server has
/// after a crash is up to its persistence: see [`Publisher`](crate::constant_work::Publisher) for what happens when
/// it comes back with an old snapshot.
///
/// Errors, runtimes and costs are those of [`RedisSource`]; a publication is one round trip and one copy of the bytes.
pub struct RedisSink(Kept);

/// A key and the connection to its server.
pub(super) struct Kept {
    pub(super) key: Arc<[u8]>,
    pub(super) connection: Connection,
    pub(super) answer_timeout: Duration,
}

impl RedisSource {
    /// Configures one that reads the string of this key, on the server of this URL:
    /// `redis://user:password@host:6379/0`.
    pub fn builder(url: impl AsRef<str>, key: impl AsRef<[u8]>) -> RedisBuilder<Self> {
        RedisBuilder::new(url.as_ref(), key.as_ref())
    }

    pub(super) fn of(kept: Kept) -> Self {
        Self(kept)
    }
}

impl RedisSink {
    /// Configures one that writes the string of this key, on the server of this URL:
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
    /// Reads at most `at_most` bytes. `false` where there is no such key.
    async fn read(&self, into: &mut Vec<u8>, at_most: usize) -> Result<bool, SourceError> {
        into.clear();
        // The end is included, and -1 would be that of the string.
        let last = at_most.saturating_sub(1);
        let mut both = pipe();
        both.cmd("GETRANGE").arg(&*self.key).arg(0).arg(last).cmd("EXISTS").arg(&*self.key);
        let answer = self.connection.ask(async |connection| both.query_async::<Value>(connection).await).await;
        let answer = match answer.map_err(|failure| self.error_of(failure))? {
            Value::Array(answers) => <[Value; 2]>::try_from(answers).map_err(|_| nonsense())?,
            _ => return Err(nonsense()),
        };
        match answer {
            // Between the two commands it may have come to be there.
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
    SourceError::new(SourceFailure::BadAnswer { status: None }).because("what answers is no Redis server")
}
