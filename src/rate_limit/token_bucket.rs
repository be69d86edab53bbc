use crate::{
    clock::Origin,
    error::{ConfigError, RateLimited, check_duration},
    random::Random,
    sync::{AtomicU64, Ordering},
};
use rand::RngExt;
use std::{fmt, sync::Arc, time::Duration};
use tokio::time::Instant;

/// A rate with a burst: tokens are minted at a steady rate, at most a burst of them is saved up, each call costs some.
///
/// In every interval of length t at most `burst + rate * t` tokens are admitted, and a token that is there is not refused:
/// exactly for most rates in use, to within two nanoseconds for the others (see below). A clock that stands still mints
/// nothing, one that jumps ahead mints at most a burst, and asking often loses nothing.
///
/// ```
/// use std::time::Duration;
/// use steadfast::rate_limit::TokenBucket;
/// use tokio::time::Instant;
///
/// # fn main() -> Result<(), steadfast::ConfigError> {
/// let bucket = TokenBucket::builder(100, Duration::from_secs(1)).burst(2).build()?;
/// let now = Instant::now();
/// assert!(bucket.try_acquire_at(2, now).is_ok());
/// let refused = bucket.try_acquire_at(1, now).unwrap_err();
/// let wait = refused.retry_after().unwrap();
/// assert_eq!(wait, Duration::from_millis(10));
/// assert!(bucket.try_acquire_at(1, now + wait).is_ok());
/// # Ok(())
/// # }
/// ```
///
/// # How it counts
///
/// The bucket is the generic cell rate algorithm (ITU-T I.371), turned from time into tokens: instead of the
/// theoretical arrival time of the next call it keeps the number of tokens spent since the beginning, and compares it
/// with the number minted by now, `rate * now`. So there is no interval to be cut to whole nanoseconds, and no error adds
/// up.
///
/// A token is divided into parts. Where the rate in lowest terms is `k` tokens in some nanoseconds with `k` up to 16 (100
/// per second is 1 in 10,000,000; 3 per second 3 in 1,000,000,000), `k` parts are minted per nanosecond and everything is
/// exact. For all other rates a part is minted every one to two nanoseconds, by a 63-bit fixed-point rate, and a token may
/// come by less than one part too early, which does not add up.
///
/// # Cost
///
/// One load and one compare-and-swap to admit, one load to refuse; no allocation, no lock. Clones share the bucket.
#[derive(Clone)]
pub struct TokenBucket {
    shared: Arc<Shared>,
}

struct Shared {
    /// The parts spent so far, or forfeited because the bucket was full. Relaxed throughout: it guards no other memory,
    /// and each change is one atomic step.
    spent: AtomicU64,
    origin: Origin,
    scale: Scale,
    parts_per_token: u64,
    /// The parts of a burst: at most 2^62.
    full: u64,
    burst: u64,
    count: u64,
    period: Duration,
}

/// How nanoseconds become parts of a token.
#[derive(Clone, Copy)]
enum Scale {
    /// A whole number of parts is minted per nanosecond, from 1 to [`MOST_EXACT`].
    Exact { parts_per_nano: u64 },
    /// From one half to one part is minted per nanosecond.
    Rounded {
        /// As a fraction of 2^63, rounded up.
        parts_per_nano: u64,
        /// The inverse as a fraction of 2^62, rounded up.
        nanos_per_part: u64,
    },
}

impl TokenBucket {
    /// A bucket with `count` new tokens every `period`, minted evenly over it.
    pub fn builder(count: u64, period: Duration) -> TokenBucketBuilder {
        TokenBucketBuilder { count, period, burst: None }
    }

    /// Takes `tokens` now, by tokio's clock. See [`try_acquire_at`](Self::try_acquire_at).
    ///
    /// # Errors
    ///
    /// As there.
    #[inline]
    pub fn try_acquire(&self, tokens: u64) -> Result<(), RateLimited> {
        self.try_acquire_at(tokens, Instant::now())
    }

    /// Takes `tokens` at `now`, all or none. Zero tokens are always there.
    ///
    /// An instant before the bucket was built counts as that one.
    ///
    /// # Errors
    ///
    /// [`RateLimited`] with the time until there are enough, or with none where the cost is above the burst: such a call
    /// is refused for ever.
    #[inline]
    pub fn try_acquire_at(&self, tokens: u64, now: Instant) -> Result<(), RateLimited> {
        let shared = &*self.shared;
        if tokens == 0 {
            return Ok(());
        }
        if tokens > shared.burst {
            return Err(RateLimited::new(None));
        }
        let cost = tokens * shared.parts_per_token;
        let minted = shared.minted(now);
        let forfeited = minted - shared.full;
        let mut spent = shared.spent.load(Ordering::Relaxed);
        loop {
            let after = spent.max(forfeited) + cost;
            if after > minted {
                return Err(RateLimited::new(Some(shared.scale.time_to_mint(after - minted))));
            }
            match shared.spent.compare_exchange_weak(spent, after, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return Ok(()),
                Err(newer) => spent = newer,
            }
        }
    }

    /// Gives `tokens` back that were taken for a call which then was not made. Never more than a burst is kept.
    #[inline]
    pub fn refund(&self, tokens: u64) {
        let parts = tokens.min(self.shared.burst) * self.shared.parts_per_token;
        let refunded = |spent: u64| Some(spent.saturating_sub(parts));
        // The closure never answers with `None`, so the update cannot fail.
        let _ = self.shared.spent.fetch_update(Ordering::Relaxed, Ordering::Relaxed, refunded);
    }

    /// Spends a random part of a token of a new bucket.
    pub(crate) fn spend_a_fraction(&self, random: &Random) {
        let parts = random.with(|random| random.random_range(1..=self.shared.parts_per_token));
        self.shared.spent.store(parts, Ordering::Relaxed);
    }

    /// The whole tokens that are there at `now`.
    pub fn available_at(&self, now: Instant) -> u64 {
        let shared = &*self.shared;
        let unspent = shared.minted(now).saturating_sub(shared.spent.load(Ordering::Relaxed));
        (unspent / shared.parts_per_token).min(shared.burst)
    }

    /// The most tokens that are saved up.
    pub fn burst(&self) -> u64 {
        self.shared.burst
    }

    /// The new tokens, and the period in which they are minted.
    pub fn rate(&self) -> (u64, Duration) {
        (self.shared.count, self.shared.period)
    }
}

impl Shared {
    /// The parts minted by `now`, rounded down, a burst to start with included.
    #[inline]
    fn minted(&self, now: Instant) -> u64 {
        self.full + self.scale.minted(self.origin.nanos_to(now))
    }
}

impl Scale {
    /// The parts minted in so many nanoseconds, rounded down: at most 2^62, which takes nine years at the least.
    #[inline]
    fn minted(self, nanos: u64) -> u64 {
        const MOST: u64 = 1 << 62;
        match self {
            Self::Exact { parts_per_nano } => nanos.saturating_mul(parts_per_nano).min(MOST),
            Self::Rounded { parts_per_nano, .. } => {
                ((u128::from(nanos.min(MOST)) * u128::from(parts_per_nano)) >> 63) as u64
            }
        }
    }

    /// The time in which so many parts are minted, rounded up.
    fn time_to_mint(self, parts: u64) -> Duration {
        Duration::from_nanos(match self {
            Self::Exact { parts_per_nano } => parts.div_ceil(parts_per_nano),
            Self::Rounded { nanos_per_part, .. } => {
                let nanos = (u128::from(parts) * u128::from(nanos_per_part)) >> 62;
                u64::try_from(nanos).unwrap_or(u64::MAX).saturating_add(1)
            }
        })
    }
}

impl fmt::Debug for TokenBucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Shared { count, period, burst, .. } = &*self.shared;
        f.debug_struct("TokenBucket").field("count", count).field("period", period).field("burst", burst).finish()
    }
}

/// Configures a [`TokenBucket`].
#[derive(Clone, Debug)]
#[must_use]
pub struct TokenBucketBuilder {
    count: u64,
    period: Duration,
    burst: Option<u64>,
}

impl TokenBucketBuilder {
    /// The most tokens that are saved up, and so the most that one call may cost.
    ///
    /// Default: the count, so that whoever was quiet for a period may use a period's worth at once.
    pub fn burst(self, burst: u64) -> Self {
        Self { burst: Some(burst), ..self }
    }

    /// The bucket, full.
    ///
    /// # Errors
    ///
    /// The count must be from 1 to one per nanosecond; the period longer than zero and at most 366 days; the burst at
    /// least 1 and such that it fills within a hundred years.
    pub fn build(self) -> Result<TokenBucket, ConfigError> {
        let Self { count, period, burst } = self;
        check_duration("rate_limit.period", period)?;
        let period_nanos = period.as_nanos();
        if count == 0 || u128::from(count) > period_nanos {
            return Err(ConfigError::new(
                "rate_limit.count",
                count,
                "must be at least 1, and at most one per nanosecond",
            ));
        }
        let burst = burst.unwrap_or(count);
        let time_to_fill = u128::from(burst) * period_nanos.div_ceil(u128::from(count));
        if burst == 0 || time_to_fill > LONGEST_TO_FILL.as_nanos() {
            return Err(ConfigError::new(
                "rate_limit.burst",
                burst,
                "must be at least 1, and fill within a hundred years",
            ));
        }
        let (scale, parts_per_token) = scale(count, period_nanos, burst);
        Ok(TokenBucket {
            shared: Arc::new(Shared {
                spent: AtomicU64::new(0),
                origin: Origin::at(Instant::now()),
                scale,
                parts_per_token,
                full: burst * parts_per_token,
                burst,
                count,
                period,
            }),
        })
    }
}

/// Divides a token into parts: how many are minted per nanosecond, and how many make a token.
///
/// The count is from 1 to the period, the period has fewer than 56 bits, and the burst fills within 2^62 ns.
fn scale(count: u64, period_nanos: u128, burst: u64) -> (Scale, u64) {
    let divisor = greatest_common_divisor(u128::from(count), period_nanos);
    let (parts_per_nano, parts_per_token) = (u128::from(count) / divisor, period_nanos / divisor);
    if parts_per_nano <= MOST_EXACT && u128::from(burst) * parts_per_token <= 1 << 62 {
        return (Scale::Exact { parts_per_nano: parts_per_nano as u64 }, parts_per_token as u64);
    }
    let shift = (period_nanos / u128::from(count)).ilog2();
    let parts_per_nano = (u128::from(count) << shift << 63).div_ceil(period_nanos);
    let nanos_per_part = (1u128 << 125).div_ceil(parts_per_nano);
    (Scale::Rounded { parts_per_nano: parts_per_nano as u64, nanos_per_part: nanos_per_part as u64 }, 1 << shift)
}

fn greatest_common_divisor(mut a: u128, mut b: u128) -> u128 {
    while b > 0 {
        (a, b) = (b, a % b);
    }
    a
}

/// The most parts per nanosecond that are counted exactly. With more of them 2^62 parts would be minted too soon.
const MOST_EXACT: u128 = 16;

const LONGEST_TO_FILL: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);
