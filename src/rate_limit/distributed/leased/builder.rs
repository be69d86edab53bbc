use super::limit::Leased;
use crate::{
    error::{ConfigError, check_duration},
    random::Random,
    rate_limit::{
        distributed::{
            outage::OnOutage,
            settings::{Settings, common_settings},
            store::{Store, namespace::Namespace},
            sync::{
                flusher::Flusher,
                lease::synchronizer::{LeaseParts, LeaseSync},
                synchronizer::Handle,
            },
        },
        tokens::Tokens,
    },
};
use std::{fmt, time::Duration};

/// Configures a [`Leased`] limit.
#[must_use]
pub struct LeasedBuilder {
    settings: Settings,
    limit: u64,
    window: Duration,
    period: Option<Duration>,
    deadline: Option<Duration>,
    processes: Option<u64>,
}

impl LeasedBuilder {
    pub(super) fn new(store: impl Store, limit: u64, window: Duration) -> Self {
        Self { settings: Settings::new(store), limit, window, period: None, deadline: None, processes: None }
    }

    /// Sets how often the process reports its spends to the store and adjusts its leases. Default: a tenth of the
    /// window, at most a second.
    pub fn flush_every(self, period: Duration) -> Self {
        Self { period: Some(period), ..self }
    }

    /// Sets how long the store has to answer. Default: half of the period.
    pub fn deadline(self, deadline: Duration) -> Self {
        Self { deadline: Some(deadline), ..self }
    }

    /// Sets the largest number of processes. It matters if the first call for a key in a process comes while the store
    /// does not answer. With this number, the process takes the limit divided by the number. Without it, the process
    /// refuses. Processes that used the key before keep all of their tokens. With this number, the total may therefore
    /// exceed the limit. Default: not set, so that new keys add nothing to the total.
    pub fn processes(self, processes: u64) -> Self {
        Self { processes: Some(processes), ..self }
    }

    /// Sets how this process decides while the store is down. Default: [`OnOutage::FairShare`]. The share is the tokens
    /// that this process held, and those that it had spent in a window. All shares together are at most the limit,
    /// unless [`processes`](Self::processes) is set. [`OnOutage::LastKnown`] does the same. With [`OnOutage::Open`] and
    /// [`OnOutage::Local`] the processes may exceed the limit in the outage. They report the spends to the store
    /// afterwards.
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
    /// - The limit must be from 1 to 2^52.
    /// - Window and period must be longer than zero and at most 366 days.
    /// - The period must be at most half of the window.
    /// - The deadline must be longer than zero and at most the period.
    /// - Processes and keys must be at least 1.
    /// - A local quota for outages must be valid: see [`Quota`](crate::rate_limit::Quota).
    /// - The namespace must be at most 64 bytes long.
    pub fn build(self) -> Result<(Leased, Flusher), ConfigError> {
        let Self { settings, limit, window, period, deadline, processes } = self;
        if limit == 0 || limit > 1 << 52 {
            return Err(ConfigError::new("rate_limit.limit", limit, "must be at least 1 and at most 2^52"));
        }
        settings.check(processes)?;
        check_duration("rate_limit.window", window)?;
        let period = period.unwrap_or((window / 10).min(Duration::from_secs(1)));
        check_duration("rate_limit.flush_every", period)?;
        if period > window / 2 {
            return Err(ConfigError::new("rate_limit.flush_every", period, "must be at most half of the window"));
        }
        let deadline = deadline.unwrap_or(period / 2);
        if deadline.is_zero() || deadline > period {
            return Err(ConfigError::new(
                "rate_limit.deadline",
                deadline,
                "must be longer than zero and at most the period",
            ));
        }
        let limit = Tokens(limit);
        let parts = LeaseParts { settings, limit, window, period, deadline, processes };
        let (handle, flusher) = Handle::new(LeaseSync::new(parts));
        Ok((Leased { handle }, flusher))
    }
}

impl fmt::Debug for LeasedBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LeasedBuilder")
            .field("limit", &self.limit)
            .field("window", &self.window)
            .finish_non_exhaustive()
    }
}
