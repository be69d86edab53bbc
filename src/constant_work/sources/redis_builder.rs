use super::redis::{Kept, RedisSink, RedisSource};
use crate::{
    error::check_duration,
    random::Random,
    redis::{Connection, RedisError, RedisOptions, Server, Target, target_settings},
};
use std::{fmt, marker::PhantomData, sync::Arc, time::Duration};

/// Configures a [`RedisSource`] or a [`RedisSink`].
#[must_use]
pub struct RedisBuilder<End> {
    target: Target,
    key: Arc<[u8]>,
    options: RedisOptions,
    random: Random,
    end: PhantomData<fn() -> End>,
}

impl<End> RedisBuilder<End> {
    pub(super) fn new(url: &str, key: &[u8]) -> Self {
        let second = Duration::from_secs(1);
        let options = RedisOptions { connect_timeout: second, answer_timeout: second, cluster: false };
        Self { target: Target::of(url), key: key.into(), options, random: Random::new(), end: PhantomData }
    }

    target_settings!();

    /// Sets the time limit for connecting and checking the server. Default: 1 s.
    ///
    /// The following calls connect and wait for the connection, at most for this limit. Calls that come meanwhile wait
    /// with them:
    ///
    /// - [`connect`](RedisBuilder::<RedisSource>::connect);
    /// - the first call after the runtime of the connection has ended or stalled;
    /// - the first call of all, if [`connect_lazily`](RedisBuilder::<RedisSource>::connect_lazily) ran outside of a
    ///   runtime.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.options.connect_timeout = timeout;
        self
    }

    /// Sets the time limit of an answer. Default: 1 s, in which a typical network transfers the largest snapshot.
    ///
    /// The limit must suffice for all bytes of a snapshot. If three answers in a row do not arrive in time, the source
    /// or sink sends a `PING`. If the server does not answer the `PING` either, the connection is replaced.
    pub fn answer_timeout(mut self, timeout: Duration) -> Self {
        self.options.answer_timeout = timeout;
        self
    }

    /// Draws the jitter of the waits between attempts to connect from this generator.
    pub fn random(self, random: Random) -> Self {
        Self { random, ..self }
    }

    async fn open(self) -> Result<Kept, RedisError> {
        let server = self.check()?;
        let connection = Connection::open(server, self.random).await?;
        Ok(Kept { key: self.key, connection, answer_timeout: self.options.answer_timeout })
    }

    fn open_lazily(self) -> Result<Kept, RedisError> {
        let server = self.check()?;
        let connection = Connection::open_lazily(server, self.random);
        Ok(Kept { key: self.key, connection, answer_timeout: self.options.answer_timeout })
    }

    fn check(&self) -> Result<Server, RedisError> {
        check_duration("constant_work.redis.connect_timeout", self.options.connect_timeout)?;
        check_duration("constant_work.redis.answer_timeout", self.options.answer_timeout)?;
        Server::of(&self.target, self.options)
    }
}

/// `connect` and `connect_lazily` for both types. A sealed trait would be longer.
macro_rules! connects {
    ($end:ident) => {
        impl RedisBuilder<$end> {
            /// Connects, and checks the server. If the future is dropped before it completes, no connection stays open.
            ///
            /// If the process must be able to start without its configuration, use
            /// [`connect_lazily`](Self::connect_lazily).
            ///
            /// # Errors
            ///
            /// A [`RedisError`]: a setting is invalid, the URL is invalid, there is no tokio runtime, or the server
            /// does not answer, is too old, refuses, or is part of a cluster.
            pub async fn connect(self) -> Result<$end, RedisError> {
                self.open().await.map($end::of)
            }

            /// Connects in the background. Until the connection is open, every call fails at once with the error of the
            /// last attempt.
            ///
            /// Outside a tokio runtime, the first call connects and waits for the connection.
            ///
            /// # Errors
            ///
            /// [`RedisError::Config`] and [`RedisError::Url`].
            pub fn connect_lazily(self) -> Result<$end, RedisError> {
                self.open_lazily().map($end::of)
            }
        }
    };
}

connects!(RedisSource);
connects!(RedisSink);

impl<End> fmt::Debug for RedisBuilder<End> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = self.key.escape_ascii().to_string();
        let mut debug = f.debug_struct("RedisBuilder");
        debug.field("url", &self.target.to_string()).field("key", &key).field("options", &self.options);
        debug.finish_non_exhaustive()
    }
}
