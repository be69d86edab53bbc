//! The contenders: each decides about one token of a key.

use crate::contexts::contexts;
use limitador::{
    AsyncRateLimiter,
    limit::{Limit as LimitadorLimit, Namespace},
    storage::redis::{AsyncRedisStorage, CachedRedisStorageBuilder},
};
use redis::{Script, aio::MultiplexedConnection};
use std::{
    error::Error,
    sync::{Arc, LazyLock},
    time::Duration,
};
use steadfast::rate_limit::{Quota, distributed};
use trypema::{
    RateLimit, RateLimitDecision, RateLimiterBuilder, WindowSize,
    hybrid::HybridRateLimiterProvider,
    redis::{RedisKey, RedisRateLimiterProvider},
};

pub const KEYS: usize = 10_000;

/// The names of the keys, made once, because naming costs the same for all contenders.
pub static NAMES: LazyLock<Vec<String>> = LazyLock::new(|| (0..KEYS).map(|key| format!("tenant {key:05}")).collect());

pub type Opened<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// The quota: a number of tokens per key in a window of whole seconds.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Terms {
    pub tokens: u64,
    pub seconds: u64,
}

impl Terms {
    fn window(self) -> Duration {
        Duration::from_secs(self.seconds)
    }

    fn quota(self) -> Quota {
        Quota::new(self.tokens, self.window()).with_burst(self.tokens)
    }
}

/// A limit over Redis.
pub trait Limit: Sized + Send + Sync + 'static {
    fn open(url: &str, terms: Terms) -> impl Future<Output = Opened<Self>> + Send;

    /// Returns whether a token of this key may be spent.
    fn decide(&self, key: usize) -> impl Future<Output = bool> + Send;
}

async fn store(url: &str) -> Opened<distributed::Redis> {
    Ok(distributed::Redis::builder(url).connect().await?)
}

pub struct Exact(distributed::Exact);

impl Limit for Exact {
    async fn open(url: &str, terms: Terms) -> Opened<Self> {
        // Long enough for the store to make every decision, as for the other limiters, which wait without a bound.
        let deadline = Duration::from_millis(250);
        let (limit, flusher) =
            distributed::Exact::builder(store(url).await?, terms.quota()).deadline(deadline).build()?;
        tokio::spawn(flusher.run());
        Ok(Self(limit))
    }

    async fn decide(&self, key: usize) -> bool {
        self.0.acquire(NAMES[key].as_bytes(), 1).await.is_ok()
    }
}

pub struct Leased(pub distributed::Leased);

impl Limit for Leased {
    async fn open(url: &str, terms: Terms) -> Opened<Self> {
        let (limit, flusher) = distributed::Leased::builder(store(url).await?, terms.tokens, terms.window()).build()?;
        tokio::spawn(flusher.run());
        Ok(Self(limit))
    }

    async fn decide(&self, key: usize) -> bool {
        self.0.acquire(NAMES[key].as_bytes(), 1).await.is_ok()
    }
}

pub struct WriteBehind(distributed::WriteBehind);

impl Limit for WriteBehind {
    async fn open(url: &str, terms: Terms) -> Opened<Self> {
        let (limit, flusher) = distributed::WriteBehind::builder(store(url).await?, terms.quota(), 1).build()?;
        tokio::spawn(flusher.run());
        Ok(Self(limit))
    }

    async fn decide(&self, key: usize) -> bool {
        self.0.try_acquire(NAMES[key].as_bytes(), 1).is_ok()
    }
}

/// One script for each decision, on one connection that pipelines concurrent requests.
pub struct Plain {
    script: Script,
    connection: MultiplexedConnection,
    emission_micros: f64,
    tolerance_micros: f64,
}

impl Limit for Plain {
    async fn open(url: &str, terms: Terms) -> Opened<Self> {
        Ok(Self {
            script: Script::new(include_str!("gcra.lua")),
            connection: redis::Client::open(url)?.get_multiplexed_async_connection().await?,
            emission_micros: terms.window().as_secs_f64() * 1e6 / terms.tokens as f64,
            tolerance_micros: terms.window().as_secs_f64() * 1e6,
        })
    }

    async fn decide(&self, key: usize) -> bool {
        let mut invocation = self.script.key(&NAMES[key]);
        invocation.arg(self.emission_micros).arg(self.tolerance_micros);
        let admitted: u64 = invocation.invoke_async(&mut self.connection.clone()).await.expect("a server that answers");
        admitted == 1
    }
}

/// A fixed window: two scripts for each admission.
pub struct Limitador(AsyncRateLimiter, Namespace);

/// A fixed window, counted in this process and flushed to the server each second.
pub struct LimitadorCached(Limitador);

impl Limitador {
    fn with(limiter: AsyncRateLimiter, terms: Terms) -> Opened<Self> {
        limiter.add_limit(LimitadorLimit::new("bench", terms.tokens, terms.seconds, vec![], vec!["key".try_into()?]));
        Ok(Self(limiter, "bench".into()))
    }
}

impl Limit for Limitador {
    async fn open(url: &str, terms: Terms) -> Opened<Self> {
        let storage = AsyncRedisStorage::new(url).await?;
        Self::with(AsyncRateLimiter::new_with_storage(Box::new(storage)), terms)
    }

    async fn decide(&self, key: usize) -> bool {
        let checked = self.0.check_rate_limited_and_update(&self.1, &contexts()[key], 1).await;
        !checked.expect("a server that answers").limited
    }
}

impl Limit for LimitadorCached {
    async fn open(url: &str, terms: Terms) -> Opened<Self> {
        // Room for all keys, for which the default is slightly too small.
        let storage = CachedRedisStorageBuilder::new(url).max_cached_counters(2 * KEYS).build().await?;
        Limitador::with(AsyncRateLimiter::new_with_storage(Box::new(storage)), terms).map(Self)
    }

    fn decide(&self, key: usize) -> impl Future<Output = bool> + Send {
        self.0.decide(key)
    }
}

static TRYPEMA_KEYS: LazyLock<Vec<RedisKey>> = LazyLock::new(|| {
    let key = |name: &String| RedisKey::try_from(name.replace(' ', "_")).expect("a name without spaces is a key");
    NAMES.iter().map(key).collect()
});

fn trypema_rate(terms: Terms) -> Opened<RateLimit> {
    Ok(RateLimit::per_second(terms.tokens as f64 / terms.seconds as f64)?)
}

/// A sliding window: one script for each decision.
pub struct Trypema(Arc<RedisRateLimiterProvider>, RateLimit);

impl Limit for Trypema {
    async fn open(url: &str, terms: Terms) -> Opened<Self> {
        let connection = redis::Client::open(url)?.get_connection_manager().await?;
        let window = WindowSize::seconds(terms.seconds as _)?;
        let provider = RedisRateLimiterProvider::builder(connection).window_size(window).build()?;
        Ok(Self(provider, trypema_rate(terms)?))
    }

    async fn decide(&self, key: usize) -> bool {
        let decision = self.0.absolute().inc(&TRYPEMA_KEYS[key], &self.1, 1).await;
        matches!(decision.expect("a server that answers"), RateLimitDecision::Allowed)
    }
}

/// A sliding window, counted in this process and flushed to the server each 10 ms.
pub struct TrypemaHybrid(Arc<HybridRateLimiterProvider>, RateLimit);

impl Limit for TrypemaHybrid {
    async fn open(url: &str, terms: Terms) -> Opened<Self> {
        let connection = redis::Client::open(url)?.get_connection_manager().await?;
        let window = WindowSize::seconds(terms.seconds as _)?;
        let provider = HybridRateLimiterProvider::builder(connection).window_size(window).build()?;
        Ok(Self(provider, trypema_rate(terms)?))
    }

    async fn decide(&self, key: usize) -> bool {
        let decision = self.0.absolute().inc(&TRYPEMA_KEYS[key], &self.1, 1).await;
        matches!(decision.expect("a server that answers"), RateLimitDecision::Allowed)
    }
}
