use super::{
    cluster::Cluster,
    store::{Redis, Servers},
};
use crate::{
    random::Random,
    redis::{Connection, RedisError, RedisOptions, Server, Target, target_settings},
};
use std::{fmt, time::Duration};

/// Configures a [`Redis`] store.
#[derive(Clone)]
#[must_use]
pub struct RedisBuilder {
    target: Target,
    prefix: Vec<u8>,
    options: RedisOptions,
    random: Random,
}

impl RedisBuilder {
    pub(super) fn new(url: &str) -> Self {
        let (connect_timeout, answer_timeout) = (Duration::from_secs(1), Duration::from_millis(500));
        let options = RedisOptions { connect_timeout, answer_timeout, cluster: false };
        Self { target: Target::of(url), prefix: b"steadfast:".to_vec(), options, random: Random::new() }
    }

    /// Sets the prefix of all keys in Redis. Stores with the same prefix share their limits. Default: `steadfast:`.
    ///
    /// A prefix with a hash tag puts all keys on one server of a cluster.
    pub fn prefix(self, prefix: impl AsRef<[u8]>) -> Self {
        Self { prefix: prefix.as_ref().to_vec(), ..self }
    }

    target_settings!();

    /// Sets the time limit for a new connection and the check of its server. Default: 1 s.
    ///
    /// [`connect`](Self::connect) waits for a connection. A call waits for one only in two cases. Either the
    /// [runtime](Redis#runtimes) of the last connection has ended or no longer runs. Or
    /// [`connect_lazily`](Self::connect_lazily) was called outside of a runtime.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.options.connect_timeout = timeout;
        self
    }

    /// Sets the time limit for an answer, for calls that their caller does not give up earlier. Default: 500 ms.
    pub fn answer_timeout(mut self, timeout: Duration) -> Self {
        self.options.answer_timeout = timeout;
        self
    }

    /// Sets whether the server is part of a cluster. The store then finds the other servers through it. Default:
    /// `false`.
    pub fn cluster(mut self, cluster: bool) -> Self {
        self.options.cluster = cluster;
        self
    }

    /// Draws the jitter of the pauses between connection attempts from this generator.
    pub fn random(self, random: Random) -> Self {
        Self { random, ..self }
    }

    /// Connects and checks the server. If the future is dropped early, nothing is left behind.
    ///
    /// # Errors
    ///
    /// A [`RedisError`] if the URL is invalid, or if there is no tokio runtime. Also if the server does not answer
    /// within [`connect_timeout`](Self::connect_timeout), is too old, refuses the connection, or does not match
    /// [`cluster`](Self::cluster).
    pub async fn connect(self) -> Result<Redis, RedisError> {
        let server = Server::of(&self.target, self.options)?;
        let servers = match self.options.cluster {
            false => Servers::One(Connection::open(server, self.random).await?),
            true => Servers::Cluster(Cluster::open(server, self.random).await?),
        };
        Ok(Redis::of(self.prefix, servers))
    }

    /// Connects in the background. Until the connection is there, each call fails at once. Its error is that of the
    /// last attempt. In a cluster, it may only say that no server is known yet.
    ///
    /// If this method runs outside of a tokio runtime, it does not connect. The first call of the store then connects,
    /// and waits for the connection.
    ///
    /// # Errors
    ///
    /// [`RedisError::Url`].
    pub fn connect_lazily(self) -> Result<Redis, RedisError> {
        let server = Server::of(&self.target, self.options)?;
        let servers = match self.options.cluster {
            false => Servers::One(Connection::open_lazily(server, self.random)),
            true => Servers::Cluster(Cluster::open_lazily(server, self.random)),
        };
        Ok(Redis::of(self.prefix, servers))
    }
}

impl fmt::Debug for RedisBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let prefix = self.prefix.escape_ascii().to_string();
        let mut debug = f.debug_struct("RedisBuilder");
        debug.field("url", &self.target.to_string()).field("prefix", &prefix).field("options", &self.options);
        debug.finish_non_exhaustive()
    }
}
