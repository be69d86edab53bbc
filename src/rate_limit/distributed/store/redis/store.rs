use super::{
    builder::RedisBuilder,
    cluster::Cluster,
    codec::{pack_charge, pack_demand, unpack_charged, unpack_settled},
    memory::Memory,
    script::{CHARGE, Call, SETTLE, ScriptKey, answers},
};
use crate::{
    rate_limit::distributed::store::{Answering, Charge, Charged, Demand, Settled, Store, StoreError},
    redis::{Connection, LONGEST_PAUSE, Script},
};
use std::{fmt, sync::Arc, time::Duration};
use tokio::runtime::Handle;

/// A store in Redis or Valkey, for many processes.
///
/// A batch is one call of a script, which runs atomically and by the server's clock. In a cluster a batch is one call
/// for each slot that has some of its keys, all at the same time. Limits are as exact as those of
/// [`Embedded`](crate::rate_limit::distributed::Embedded), except for rounding to microseconds and to about a millionth
/// of a token. Numbers above 2^53 count as 2^53. A key without state expires within a second.
///
/// All calls share one connection to a server. Clones are the same store. A broken connection is replaced in the
/// background. A connection on which three calls in a row were given up is replaced, too, unless it then answers a
/// `PING`. While there is no connection, calls fail at once, except as [Runtimes](#runtimes) describes. After the
/// server is back, calls are answered again within a second. After the first answer, each process still decides by
/// itself for 600 ms, in which other processes reconnect, plus some periods of the limit. See [the
/// failures](crate::rate_limit::distributed#when-something-fails).
///
/// The store needs Redis 6.2 or later, or any Valkey. It uses the commands `EVALSHA`, `EVAL`, `GET`, `MGET`, `SET`,
/// `TIME` and `PING`. In a cluster it also uses `CLUSTER SLOTS` and `ASKING`. The store reads `INFO` if it may, to
/// check the server and its policy for eviction. For `rediss://` enable the feature `redis-tls`.
///
/// ```no_run
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use std::time::Duration;
/// use steadfast::rate_limit::distributed::{Leased, Redis};
///
/// let store = Redis::builder("redis://127.0.0.1:6379").connect().await?;
/// let (limit, flusher) = Leased::builder(store, 1000, Duration::from_secs(10)).build()?;
/// tokio::spawn(flusher.run());
///
/// assert!(limit.acquire(b"tenant 7", 1).await.is_ok());
/// # Ok(())
/// # }
/// ```
///
/// # Runtimes
///
/// Calls need a tokio runtime, but a store belongs to none. A program may make the store in a static, in a runtime that
/// ends, or outside of any runtime. Many runtimes may use it at the same time. The connection is driven by the runtime
/// of the call that made it. When that runtime ends, the calls in flight on the connection fail. The next call
/// reconnects in its own runtime. All calls then wait for this first attempt, at most for the
/// [`connect_timeout`](RedisBuilder::connect_timeout). After a failed attempt calls fail at once.
///
/// A runtime can stop running without being dropped, such as a current-thread runtime after its `block_on`. A
/// connection that it drives does not answer. The connection is replaced after three calls were given up.
///
/// # Keys
///
/// A bucket is stored under `steadfast:b:` and its key, a window under `steadfast:w:` and its key. Another
/// [prefix](RedisBuilder::prefix) takes the place of `steadfast:`. Keys with the same hash tag, such as `{tenant
/// 7}reads` and `{tenant 7}writes`, are on one server of a cluster. If they are in one batch, they are in one call. The
/// store never overwrites a value that this crate has not written: every batch with that key fails, and the error names
/// the key.
///
/// # Eviction
///
/// All three kinds of limits need `maxmemory-policy noeviction`. Each key has an expiry, so under any other policy the
/// server may evict keys when its memory reaches `maxmemory`. An evicted bucket continues from the level that the next
/// process to ask still knows. An evicted window starts empty. Once a process that had used it asks, the store notices
/// the loss and grants nothing for a window.
///
/// The store asks the server once for its policy, with `INFO memory`; in a cluster, it asks only the configured server.
/// If the server may evict keys, [`StoreHealth::concern`](crate::rate_limit::distributed::StoreHealth::concern) reports
/// that for the lifetime of the store. After a change of the policy, make a new store to check it again.
///
/// # Memory
///
/// A bucket is a string of 41 bytes, and 16 more for each of the up to 64 processes that reported spends. A window is a
/// string of 57 bytes, and 40 more for each process. Each of the up to 41 parts of the window in which something was
/// spent adds 16 bytes.
#[derive(Clone)]
pub struct Redis {
    inner: Arc<Inner>,
}

struct Inner {
    prefix: Vec<u8>,
    servers: Servers,
    memory: Memory,
}

pub(super) enum Servers {
    One(Connection),
    Cluster(Cluster),
}

impl Redis {
    /// Starts to configure a store on the server of this URL: `redis://user:password@host:6379/0`, of which only the
    /// host is required, or `redis+unix:///path`.
    pub fn builder(url: impl AsRef<str>) -> RedisBuilder {
        RedisBuilder::new(url.as_ref())
    }

    pub(super) fn of(prefix: Vec<u8>, servers: Servers) -> Self {
        Self { inner: Arc::new(Inner { prefix, servers, memory: Memory::default() }) }
    }

    fn key(&self, kind: &[u8], key: &[u8]) -> Vec<u8> {
        [&self.inner.prefix, kind, key].concat()
    }

    /// Asks the server once whether it may evict keys: in the background, if there is a runtime. In a cluster, asks
    /// only the configured server.
    fn look_at_the_memory(&self) {
        if !self.inner.memory.is_open() {
            return;
        }
        let Ok(runtime) = Handle::try_current() else { return };
        if self.inner.memory.begin() {
            let inner = self.inner.clone();
            runtime.spawn(async move {
                let connection = match &inner.servers {
                    Servers::One(connection) => connection,
                    Servers::Cluster(cluster) => cluster.seed(),
                };
                inner.memory.ask(connection).await;
            });
        }
    }

    /// Calls a script for these keys.
    async fn call(&self, script: &'static Script, keys: Vec<ScriptKey>) -> Result<Vec<Vec<u8>>, StoreError> {
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        self.look_at_the_memory();
        match &self.inner.servers {
            Servers::One(connection) => {
                let call = Call::new(script, keys);
                answers(&call, call.send(connection).await)
            }
            Servers::Cluster(cluster) => cluster.call(script, keys).await,
        }
    }
}

impl Store for Redis {
    fn charge<'a>(&'a self, charges: &'a [Charge]) -> Answering<'a, Charged> {
        Box::pin(async move {
            let entry =
                |charge: &Charge| ScriptKey { key: self.key(b"b:", &charge.key), argument: pack_charge(charge) };
            let answers = self.call(&CHARGE, charges.iter().map(entry).collect()).await?;
            charges.iter().zip(answers).map(|(charge, answer)| unpack_charged(charge, &answer)).collect()
        })
    }

    fn settle<'a>(&'a self, demands: &'a [Demand]) -> Answering<'a, Settled> {
        Box::pin(async move {
            let entry =
                |demand: &Demand| ScriptKey { key: self.key(b"w:", &demand.key), argument: pack_demand(demand) };
            let answers = self.call(&SETTLE, demands.iter().map(entry).collect()).await?;
            demands.iter().zip(answers).map(|(demand, answer)| unpack_settled(demand, &answer)).collect()
        })
    }

    /// Returns the longest pause between two attempts to connect, and a fifth of it for the attempt.
    fn returns_within(&self) -> Duration {
        LONGEST_PAUSE + LONGEST_PAUSE / 5
    }

    /// Returns a sentence if the server may evict keys. The store asks the server with its first call, and again only
    /// if the server did not answer.
    fn concern(&self) -> Option<String> {
        self.inner.memory.concern().map(str::to_owned)
    }
}

impl fmt::Debug for Redis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { prefix, servers, .. } = &*self.inner;
        let (server, cluster) = match servers {
            Servers::One(connection) => (connection, false),
            Servers::Cluster(cluster) => (cluster.seed(), true),
        };
        f.debug_struct("Redis")
            .field("server", &server.server().address())
            .field("cluster", &cluster)
            .field("prefix", &prefix.escape_ascii().to_string())
            .finish()
    }
}
