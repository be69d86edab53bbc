use super::{
    refill_schedule::{LONGEST_WARM_UP, RefillSchedule, SharedRefillSchedule, third_of},
    state::{BucketShared, LockedBucket, NEEDS_LOCK, SPENT, Word},
    token_bucket::TokenBucket,
    wait_queue::WaitQueue,
};
use crate::{
    clock::{Nanos, Origin},
    error::ConfigError,
    rate_limit::{quota::Quota, tokens::Subtokens},
    sync::{AtomicU64, Mutex},
};
use std::{sync::Arc, time::Duration};
use tokio::time::Instant;

/// Configures a [`TokenBucket`].
#[derive(Clone, Debug)]
#[must_use]
pub struct TokenBucketBuilder {
    quota: Quota,
    warm_up: Duration,
    max_wait: Option<Duration>,
}

impl TokenBucketBuilder {
    pub(super) fn new(quota: Quota) -> Self {
        Self { quota, warm_up: Duration::ZERO, max_wait: None }
    }

    /// Sets the burst: the most tokens that the bucket holds, and so the most that one call may cost.
    ///
    /// Default: the count. A caller that was quiet for a period may use a period's tokens at once.
    pub fn burst(self, burst: u64) -> Self {
        Self { quota: self.quota.with_burst(burst), ..self }
    }

    /// Sets the time in which the rate grows evenly from a third to the full rate.
    ///
    /// A new bucket is cold, and warms up from the moment it is built. A bucket that stays full for the length of a
    /// warm-up is cold again. It warms up from the next call that takes tokens or begins to wait. A cold bucket holds
    /// one token. This protects a service that is slow at first: its cache is empty, or its connection pool has to
    /// fill.
    ///
    /// A refused call does not start the warm-up. A bucket that is cold again may therefore refuse every call: if each
    /// of them costs more than one token, and refused calls neither wait nor add to a debt.
    ///
    /// The rate is linear in time, and does not depend on the tokens taken. After a share `x` of the warm-up, the rate
    /// is `(1 + 2x) / 3` of the full rate. The bucket has then minted `n x (1 + x) / 3` tokens. Here `n` is the number
    /// of tokens that the full rate mints in the length of a warm-up. A bucket of 10 per second that warms up for 10 s
    /// has minted 25 tokens after 5.0 s, and 50 after 8.23 s. Guava's `SmoothWarmingUp` also begins at a third, but its
    /// rate follows the tokens taken.
    ///
    /// Default: no warm-up. A bucket with a warm-up takes its lock with each call.
    pub fn warm_up(self, warm_up: Duration) -> Self {
        Self { warm_up, ..self }
    }

    /// Sets the longest wait of [`acquire`](TokenBucket::acquire). It also bounds the wait queue: the waiters together
    /// wait for at most the tokens in the bucket and those minted in that time.
    ///
    /// Default: one second, a wait that many callers do not notice. A caller that would wait longer is refused, and can
    /// come back.
    pub fn max_wait(self, max_wait: Duration) -> Self {
        Self { max_wait: Some(max_wait), ..self }
    }

    /// Builds the bucket. It is full, or cold if it has a warm-up.
    ///
    /// # Errors
    ///
    /// - The count must be at least 1, and at most one per nanosecond.
    /// - The period must be longer than zero, and at most 366 days.
    /// - The burst must be at least 1 and at most 2^55, and an empty bucket must fill within a hundred years.
    /// - The warm-up must be at most ten minutes, and the longest wait at most 366 days.
    pub fn build(self) -> Result<TokenBucket, ConfigError> {
        let Self { quota, warm_up, max_wait } = self;
        quota.check()?;
        if warm_up > LONGEST_WARM_UP {
            return Err(ConfigError::new("rate_limit.warm_up", warm_up, "must be at most 10 minutes"));
        }
        let max_wait = max_wait.unwrap_or(Duration::from_secs(1));
        if max_wait > crate::error::LONGEST {
            return Err(ConfigError::new("rate_limit.max_wait", max_wait, "must be at most 366 days"));
        }
        let warm_up_third = third_of(warm_up);
        let (schedule, word) = if warm_up_third > Nanos::ZERO {
            let cold = RefillSchedule::new(quota, Nanos::ZERO).warming_up(Nanos::ZERO, warm_up_third);
            (cold, NEEDS_LOCK | cold.spent_when_cold().0)
        } else {
            (RefillSchedule::new(quota, Nanos::ZERO), 0)
        };
        Ok(TokenBucket {
            shared: Arc::new(BucketShared {
                word: Word(AtomicU64::new(word)),
                schedules: [SharedRefillSchedule::new(&schedule), SharedRefillSchedule::new(&schedule)],
                origin: Origin::at(Instant::now()),
                max_wait,
                locked: Mutex::new(LockedBucket {
                    quota,
                    warm_up_third,
                    cold_at: schedule.cold_after(Subtokens(word & SPENT), warm_up_third),
                    queue: WaitQueue::new(),
                    is_closed: false,
                }),
            }),
        })
    }
}
