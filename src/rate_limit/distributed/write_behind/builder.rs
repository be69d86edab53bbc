use super::limit::{WriteBehind, most_unflushed};
use crate::{
    error::{ConfigError, check_duration},
    random::Random,
    rate_limit::{
        Quota,
        distributed::{
            outage::OnOutage,
            settings::{Settings, common_settings},
            store::{Store, namespace::Namespace},
            sync::{
                bucket::synchronizer::{BucketParts, Pace},
                flusher::Flusher,
            },
        },
    },
};
use std::{fmt, time::Duration};

/// Configures a [`WriteBehind`] limit.
#[must_use]
pub struct WriteBehindBuilder {
    settings: Settings,
    quota: Quota,
    period: Duration,
    deadline: Option<Duration>,
    processes: u64,
    max_unflushed: Option<u64>,
    max_debt: Option<u64>,
}

impl WriteBehindBuilder {
    pub(super) fn new(store: impl Store, quota: Quota, processes: u64) -> Self {
        Self {
            settings: Settings::new(store),
            quota,
            period: Duration::from_millis(100),
            deadline: None,
            processes,
            max_unflushed: None,
            max_debt: None,
        }
    }

    /// Sets how often this process reports to the store. Default: 100 ms.
    pub fn flush_every(self, period: Duration) -> Self {
        Self { period, ..self }
    }

    /// Sets how long the store has to answer. Default: the period.
    pub fn deadline(self, deadline: Duration) -> Self {
        Self { deadline: Some(deadline), ..self }
    }

    /// Sets the most tokens of a key that one process may have admitted before the store confirms them. A number above
    /// the burst counts as the burst. If you set this number, the limit refuses every call that costs more.
    ///
    /// Default: the tokens that the rate gives in a period, rounded up, so that one process can use the whole rate.
    /// With the default, a call may cost more, up to the burst, if the store has confirmed all earlier spends of its
    /// key.
    pub fn max_unflushed(self, tokens: u64) -> Self {
        Self { max_unflushed: Some(tokens), ..self }
    }

    /// Sets the most tokens that a key may owe beyond the burst. All processes together can admit more than the bucket
    /// holds. The key owes the excess until the rate has repaid it. Tokens beyond this maximum are forgiven. Default: a
    /// burst, or the [overshoot bound](WriteBehind::overshoot_bound) if that is more, but at most 2^55.
    pub fn max_debt(self, tokens: u64) -> Self {
        Self { max_debt: Some(tokens), ..self }
    }

    /// Sets how this process decides while the store does not answer. Default: [`OnOutage::FairShare`]. With it, the
    /// sum of what all processes admit stays near the limit.
    pub fn on_outage(mut self, policy: OnOutage) -> Self {
        self.settings.on_outage = policy;
        self
    }

    common_settings!();

    /// Builds the limit and its flusher. Spawn [`Flusher::run`]: without it the limit never asks its store.
    ///
    /// # Errors
    ///
    /// A [`ConfigError`] names the field that cannot work:
    ///
    /// - The quota, and a local quota for outages, must be valid: see [`Quota`].
    /// - Period and deadline must be longer than zero and at most 366 days.
    /// - Processes, keys and unflushed tokens must be at least 1.
    /// - The debt must be at most 2^55.
    /// - The namespace must be at most 64 bytes long.
    pub fn build(self) -> Result<(WriteBehind, Flusher), ConfigError> {
        let Self { settings, quota, period, deadline, processes, max_unflushed, max_debt } = self;
        quota.check()?;
        check_duration("rate_limit.flush_every", period)?;
        let deadline = deadline.unwrap_or(period);
        check_duration("rate_limit.deadline", deadline)?;
        if max_unflushed == Some(0) {
            return Err(ConfigError::new("rate_limit.max_unflushed", 0, "must be at least 1"));
        }
        let most = most_unflushed(max_unflushed, &quota, period);
        let overshoot = processes.saturating_sub(1).saturating_mul(most.0);
        let max_debt = max_debt.unwrap_or(quota.burst().max(overshoot.min(1 << 55)));
        let pace = Pace::Each(period);
        let parts = BucketParts { settings, quota, deadline, pace, max_debt, processes };
        parts.build().map(|(handle, flusher)| (WriteBehind { handle, max_unflushed }, flusher))
    }
}

impl fmt::Debug for WriteBehindBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WriteBehindBuilder").field("quota", &self.quota).finish_non_exhaustive()
    }
}
