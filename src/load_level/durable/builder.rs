use super::{
    DurableQueue,
    core::{Core, Keys, Limits},
};
use crate::{
    error::{ConfigError, check_duration},
    random::Random,
    redis::{Connection, RedisError, RedisOptions, Server, Target, target_settings},
};
use std::{fmt, sync::Arc, time::Duration};

/// Configures a [`DurableQueue`].
#[derive(Clone)]
#[must_use]
pub struct DurableQueueBuilder {
    target: Target,
    name: String,
    prefix: String,
    connect_timeout: Duration,
    limits: Limits,
    random: Random,
}

/// The largest integer that a script counts exactly.
const MOST: u64 = 1 << 53;

/// The longest value that Redis takes.
const LONGEST_MESSAGE: usize = 512 << 20;

impl DurableQueueBuilder {
    pub(super) fn new(url: &str, name: &str) -> Self {
        let limits = Limits {
            depth: 100_000,
            dedup_for: Duration::from_secs(600),
            dead_letters: 10_000,
            message_bytes: 1 << 20,
            on_the_way: 10_000,
            bytes_on_the_way: 64 << 20,
            batch: 512,
            batch_bytes: 1 << 20,
            answer_timeout: Duration::from_secs(1),
        };
        let (prefix, connect_timeout) = ("steadfast:q:".to_owned(), Duration::from_secs(1));
        Self { target: Target::of(url), name: name.to_owned(), prefix, connect_timeout, limits, random: Random::new() }
    }

    /// Sets the prefix of all keys in Redis, before the name. Default: `steadfast:q:`.
    pub fn prefix(self, prefix: impl Into<String>) -> Self {
        Self { prefix: prefix.into(), ..self }
    }

    /// Sets the most messages that may be in the queue: waiting, in progress, and waiting for another try. Default:
    /// 100,000.
    ///
    /// Each process applies the depth of its own builder: give all processes the same. A message that is put back or
    /// taken over counts once. From 1 to 2^53.
    pub fn depth(mut self, depth: u64) -> Self {
        self.limits.depth = depth;
        self
    }

    /// Sets how long Redis remembers the [key](super::Message::once) of a message. Default: 10 minutes, longer than any
    /// caller retries. From a millisecond to 366 days.
    ///
    /// Each key costs Redis about 150 bytes for that time, in addition to its own length.
    pub fn dedup_for(mut self, time: Duration) -> Self {
        self.limits.dedup_for = time;
        self
    }

    /// Sets the most dead letters to keep. The oldest are removed first, and counted. Default: 10,000. From 1 to 2^53.
    pub fn dead_letters(mut self, count: u64) -> Self {
        self.limits.dead_letters = count;
        self
    }

    /// Sets the longest message in bytes, its key included. A longer one is refused. Default: 1 MiB, at most 512 MiB.
    pub fn longest_message(mut self, bytes: usize) -> Self {
        self.limits.message_bytes = bytes;
        self
    }

    /// Bounds the memory of the appends of this process. `messages` bounds the messages that wait to be sent to Redis.
    /// `bytes` bounds the bytes of these messages and of the two batches in flight. A message beyond either bound is
    /// refused. While no other message is on the way, a message may be longer than the bound of the bytes. Default:
    /// 10,000 messages and 64 MiB. From 1 to 2^24 messages, and from 1 to 2^53 bytes.
    pub fn on_the_way(mut self, messages: usize, bytes: usize) -> Self {
        (self.limits.on_the_way, self.limits.bytes_on_the_way) = (messages, bytes);
        self
    }

    /// Sets the most messages that one call of Redis appends. Default: 512, which occupies the server for about 1 ms. A
    /// batch also ends with the message that brings it to 1 MiB. From 1 to 4096.
    pub fn batch(mut self, messages: usize) -> Self {
        self.limits.batch = messages;
        self
    }

    target_settings!();

    /// Sets the time to make a connection and check the server. Default: 1 s.
    ///
    /// [`connect`](Self::connect) waits for the connection. The first calls wait for it, too, if
    /// [`connect_lazily`](Self::connect_lazily) was called outside of a runtime, or if the [runtime](super#runtimes) of
    /// the last connection has ended. No other call waits.
    pub fn connect_timeout(self, timeout: Duration) -> Self {
        Self { connect_timeout: timeout, ..self }
    }

    /// Sets the time in which Redis must answer. Default: 1 s.
    ///
    /// It must be enough to transfer the whole answer. If its concurrency and prefetch allow, a worker takes up to 250
    /// messages at once, and takes over up to a thousand. The messages of an answer that comes too late are delivered
    /// again.
    pub fn answer_timeout(mut self, timeout: Duration) -> Self {
        self.limits.answer_timeout = timeout;
        self
    }

    /// Draws jitter from this generator.
    pub fn random(self, random: Random) -> Self {
        Self { random, ..self }
    }

    /// Connects and checks the server at once. Dropping the future before its end leaves nothing behind.
    ///
    /// # Errors
    ///
    /// A [`RedisError`]: a setting or the URL is invalid, or there is no tokio runtime. Or the server does not answer,
    /// is too old, refuses the connection, or is part of a cluster.
    pub async fn connect(self) -> Result<DurableQueue, RedisError> {
        let server = self.check()?;
        let connection = Connection::open(server.clone(), self.random.clone()).await?;
        Ok(self.queue(server, connection))
    }

    /// Connects in the background. Until the connection is made, appends are refused with the error of the last
    /// attempt, and workers wait.
    ///
    /// Outside of a tokio runtime, the first append or worker connects and waits for the connection.
    ///
    /// # Errors
    ///
    /// [`RedisError::Config`] and [`RedisError::Url`].
    pub fn connect_lazily(self) -> Result<DurableQueue, RedisError> {
        let server = self.check()?;
        let connection = Connection::open_lazily(server.clone(), self.random.clone());
        Ok(self.queue(server, connection))
    }

    fn queue(self, server: Server, connection: Connection) -> DurableQueue {
        DurableQueue {
            core: Arc::new(Core {
                connection,
                server,
                random: self.random,
                keys: Keys::of(&self.prefix, &self.name),
                limits: self.limits,
                consumption: Default::default(),
                send_queue: Default::default(),
                bytes_on_the_way: Default::default(),
            }),
        }
    }

    fn check(&self) -> Result<Server, RedisError> {
        let Self { limits, .. } = self;
        // Braces delimit the hash tag, which is the name.
        let braces = |text: &str| text.contains(['{', '}']);
        if self.name.is_empty() || self.name.len() > 512 || braces(&self.name) {
            let rule = "must have 1 to 512 bytes, and neither { nor }";
            return Err(ConfigError::new("durable.name", &self.name, rule).into());
        }
        if self.prefix.len() > 512 || braces(&self.prefix) {
            let rule = "must have at most 512 bytes, and neither { nor }";
            return Err(ConfigError::new("durable.prefix", &self.prefix, rule).into());
        }
        let numbers = [
            ("durable.depth", limits.depth, MOST),
            ("durable.dead_letters", limits.dead_letters, MOST),
            ("durable.longest_message", limits.message_bytes as u64, LONGEST_MESSAGE as u64),
            ("durable.on_the_way.messages", limits.on_the_way as u64, 1 << 24),
            ("durable.on_the_way.bytes", limits.bytes_on_the_way as u64, MOST),
            ("durable.batch", limits.batch as u64, 4096),
        ];
        for (field, number, most) in numbers {
            if number == 0 || number > most {
                return Err(ConfigError::new(field, number, rule_of(most)).into());
            }
        }
        check_duration("durable.dedup_for", limits.dedup_for)?;
        if limits.dedup_for < Duration::from_millis(1) {
            let rule = "must be at least 1 ms";
            return Err(ConfigError::new("durable.dedup_for", limits.dedup_for, rule).into());
        }
        check_duration("durable.connect_timeout", self.connect_timeout)?;
        check_duration("durable.answer_timeout", limits.answer_timeout)?;
        let options = RedisOptions {
            connect_timeout: self.connect_timeout,
            answer_timeout: limits.answer_timeout,
            cluster: false,
        };
        Server::of(&self.target, options)
    }
}

fn rule_of(most: u64) -> &'static str {
    match most {
        4096 => "must be from 1 to 4096",
        MOST => "must be from 1 to 2^53",
        0x100_0000 => "must be from 1 to 2^24",
        _ => "must be from 1 byte to 512 MiB",
    }
}

impl fmt::Debug for DurableQueueBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("DurableQueueBuilder");
        debug.field("url", &self.target.to_string()).field("name", &self.name).field("prefix", &self.prefix);
        debug.field("limits", &self.limits).finish_non_exhaustive()
    }
}
