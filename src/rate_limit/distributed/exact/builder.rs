use super::limit::Exact;
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

/// Configures an [`Exact`] limit.
#[must_use]
pub struct ExactBuilder {
    settings: Settings,
    quota: Quota,
    deadline: Duration,
    probe: Duration,
    processes: u64,
    max_debt: Option<u64>,
}

impl ExactBuilder {
    pub(super) fn new(store: impl Store, quota: Quota) -> Self {
        Self {
            settings: Settings::new(store),
            quota,
            deadline: Duration::from_millis(5),
            probe: Duration::from_millis(100),
            processes: 8,
            max_debt: None,
        }
    }

    /// Sets how long a decision may take. After the deadline this process decides by itself. Default: 5 ms. That is
    /// about ten round trips within a data center, and short beside a call that needs a limit.
    pub fn deadline(self, deadline: Duration) -> Self {
        Self { deadline, ..self }
    }

    /// Sets the probe period: how often the flusher asks a store that is down whether it is back. Default: 100 ms.
    pub fn probe_every(self, period: Duration) -> Self {
        Self { probe: period, ..self }
    }

    /// Sets the approximate number of processes. In an outage, a process that does not know its [share](Exact::share)
    /// of a key takes one divided by this number as its share. By default that is an eighth. A number that is too low
    /// admits too much in an outage. Default: 8.
    pub fn processes(self, processes: u64) -> Self {
        Self { processes, ..self }
    }

    /// Sets the most tokens beyond the burst that a key may owe after an outage. The rest is forgiven. Default: a
    /// burst. An outage then slows a key for at most 2.5 times the time in which the rate gives a burst. The number
    /// must be at most 2^55.
    ///
    /// A debt arises if processes together admitted more in an outage than the rate allows. That happens if only some
    /// of them could reach the store, or with another policy than [`OnOutage::FairShare`]. With fair shares and a store
    /// that is down for all processes the debt is close to zero.
    ///
    /// While there is a debt, two fifths of the rate repay it and callers have the other three fifths. Any rate that
    /// callers do not use repays it as well. A debt of `n` tokens is therefore repaid after at most `2.5 * n / rate`.
    /// With a quota of 100 per second and the default, callers have 60 per second for at most 2.5 s. With a `max_debt`
    /// of zero, all tokens that do not fit below the burst are forgiven.
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
    /// - Deadline and probe period must be longer than zero and at most 366 days.
    /// - Processes and keys must be at least 1.
    /// - The debt must be at most 2^55.
    /// - The namespace must be at most 64 bytes long.
    pub fn build(self) -> Result<(Exact, Flusher), ConfigError> {
        let Self { settings, quota, deadline, probe, processes, max_debt } = self;
        check_duration("rate_limit.deadline", deadline)?;
        check_duration("rate_limit.probe_every", probe)?;
        let max_debt = max_debt.unwrap_or(quota.burst());
        let pace = Pace::AtOnce { probe };
        let parts = BucketParts { settings, quota, deadline, pace, max_debt, processes };
        parts.build().map(|(handle, flusher)| (Exact { handle }, flusher))
    }
}

impl fmt::Debug for ExactBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ExactBuilder").field("quota", &self.quota).finish_non_exhaustive()
    }
}
