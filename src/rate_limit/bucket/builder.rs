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

    /// The most tokens that are saved up, and so the most that one call may cost.
    ///
    /// Default: the count, so that a caller which was quiet for a period may use a period's worth at once.
    pub fn burst(self, burst: u64) -> Self {
        Self { quota: self.quota.with_burst(burst), ..self }
    }

    /// The time in which the rate grows, evenly, from a third to the whole: when the bucket is new, and when it was
    /// left full for as long. Such a bucket is cold and holds one token. For what stands behind it: a cache that is
    /// empty, a pool that has to be filled.
    ///
    /// The rate is linear in time, whatever is taken meanwhile: after a share `x` of the warm-up it is `(1 + 2x) / 3`
    /// of the whole, and the tokens of `x (1 + x) / 3` warm-ups at the whole rate have been minted. A bucket of 10 per
    /// second that warms up for 10 s has minted 25 tokens after 5.0 s and 50 after 8.23 s. Guava's `SmoothWarmingUp`
    /// begins at a third too, but there the rate follows the tokens that are taken. Default: none. A bucket with a
    /// warm-up takes its lock with each call.
    pub fn warm_up(self, warm_up: Duration) -> Self {
        Self { warm_up, ..self }
    }

    /// The longest that [`acquire`](TokenBucket::acquire) waits, and so also how many can wait: no more than are minted
    /// in that time.
    ///
    /// Default: a second, which a caller may not notice; one that would wait longer had better be
    /// refused, and come back.
    pub fn max_wait(self, max_wait: Duration) -> Self {
        Self { max_wait: Some(max_wait), ..self }
    }

    /// The bucket, full; or cold, if it has a warm-up.
    ///
    /// # Errors
    ///
    /// The count must be from 1 to one per nanosecond; the period longer than zero and at most 366 days; the burst at
    /// least 1, at most 2^55, and such that it fills within a hundred years; the warm-up at most ten minutes; the
    /// longest wait at most 366 days.
    pub fn build(self) -> Result<TokenBucket, ConfigError> {
        let Self { quota, warm_up, max_wait } = self;
        quota.check()?;
        if warm_up > LONGEST_WARM_UP {
            return Err(ConfigError::new("rate_limit.warm_up", warm_up, "must be at most ten minutes"));
        }
        let max_wait = max_wait.unwrap_or(Duration::from_secs(1));
        if max_wait > crate::error::LONGEST {
            return Err(ConfigError::new("rate_limit.max_wait", max_wait, "must be at most 366 days"));
        }
        let third = third_of(warm_up);
        let (schedule, word) = if third > Nanos::ZERO {
            let cold = RefillSchedule::new(quota, Nanos::ZERO).warming_up(Nanos::ZERO, third);
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
                    third,
                    cold_at: schedule.cold_after(Subtokens(word & SPENT), third),
                    queue: WaitQueue::new(),
                    is_closed: false,
                }),
            }),
        })
    }
}
