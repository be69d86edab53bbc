//! The mechanisms that are gates or have no stage of their own, and their parts of a configuration.

#[cfg(feature = "constant-work")]
use super::LoadLevelConfig;
use super::{
    BreakerConfig, BudgetConfig, Configure, FailureRate, Forced, LoadShedConfig, Pace, RetryConfig, SlowCallRate,
    StackConfig,
};
use crate::{
    circuit_breaker::{Breaker, BreakerBuilder, BreakerState},
    error::ConfigError,
    load_shed::{self, Limiter},
    retry::{RetryBudget, RetryBudgetBuilder, check_attempts, check_max_hint},
};

#[cfg(feature = "constant-work")]
use {crate::error::check_duration, std::time::Duration};

impl Default for BreakerConfig {
    fn default() -> Self {
        Self::of(&Breaker::builder())
    }
}

impl BreakerConfig {
    /// What a breaker is built by.
    fn of(builder: &BreakerBuilder) -> Self {
        let failure_rate = builder.failure_rate.map(|(rate, window)| FailureRate { rate, window });
        let slow_call_rate = builder.slow_call_rate.map(|(rate, threshold)| SlowCallRate { rate, threshold });
        Self {
            consecutive_failures: builder.consecutive_failures,
            failure_rate,
            slow_call_rate,
            minimum_calls: builder.minimum_calls,
            open_for: builder.open_for,
            max_open_for: builder.max_open_for,
            probes: builder.probes,
            probe_timeout: builder.probe_timeout,
            cancelled_is_failure_after: builder.cancelled_after,
            overload_is_failure: builder.overload_is_failure,
            forced: None,
        }
    }

    fn builder(&self) -> BreakerBuilder {
        let failure_rate = self.failure_rate.map(|FailureRate { rate, window }| (rate, window));
        BreakerBuilder {
            consecutive_failures: self.consecutive_failures,
            failure_rate,
            slow_call_rate: self.slow_call_rate.map(|SlowCallRate { rate, threshold }| (rate, threshold)),
            minimum_calls: self.minimum_calls,
            open_for: self.open_for,
            max_open_for: self.max_open_for,
            probes: self.probes,
            probe_timeout: self.probe_timeout,
            cancelled_after: self.cancelled_is_failure_after,
            overload_is_failure: self.overload_is_failure,
            ..BreakerBuilder::default()
        }
    }
}

impl StackConfig {
    /// Whether each value is one that some stack could have.
    #[cfg(feature = "constant-work")]
    pub(crate) fn check_values(&self) -> Result<(), ConfigError> {
        let Self { timeout, attempt_timeout, retry, circuit_breaker, rate_limit, load_shed, load_level, .. } = self;
        let checked_duration =
            |field, limit: &Option<Duration>| limit.map_or(Ok(()), |limit| check_duration(field, limit));
        checked_duration("timeout", timeout)?;
        checked_duration("attempt_timeout", attempt_timeout)?;
        retry.as_ref().map_or(Ok(()), RetryConfig::check)?;
        circuit_breaker.as_ref().map_or(Ok(()), |config| config.builder().check())?;
        rate_limit.iter().flat_map(|limit| &limit.quotas).try_for_each(|quota| quota.check())?;
        load_shed.map_or(Ok(()), |config| load_shed::check(config.limit))?;
        load_level.as_ref().map_or(Ok(()), LoadLevelConfig::check)
    }
}

impl RetryConfig {
    /// Whether some retry, with a budget if one is given, can go by this.
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        check_attempts(self.attempts)?;
        check_max_hint(self.max_hint)?;
        self.backoff.check()?;
        self.budget.as_ref().map_or(Ok(()), |budget| budget.builder().check().map(drop))
    }
}

impl Configure for Breaker {
    fn read(&self, config: &mut StackConfig) {
        let forced = match self.state() {
            BreakerState::ForcedOpen => Some(Forced::Open),
            BreakerState::ForcedClosed => Some(Forced::Closed),
            BreakerState::Closed | BreakerState::Open | BreakerState::HalfOpen => None,
        };
        config.circuit_breaker = Some(BreakerConfig { forced, ..BreakerConfig::of(&self.configuration()) });
    }

    fn check(&self, config: &StackConfig) -> Result<(), ConfigError> {
        config.circuit_breaker.as_ref().map_or(Ok(()), |config| config.builder().check())
    }

    fn apply(&self, config: &StackConfig) {
        let Some(config) = &config.circuit_breaker else { return };
        // It was checked.
        let _ = self.configure(config.builder());
        match (config.forced, self.state()) {
            (Some(Forced::Open), BreakerState::ForcedOpen) | (Some(Forced::Closed), BreakerState::ForcedClosed) => {}
            (Some(Forced::Open), _) => self.force_open(),
            (Some(Forced::Closed), _) => self.force_closed(),
            (None, BreakerState::ForcedOpen | BreakerState::ForcedClosed) => self.reset(),
            (None, BreakerState::Closed | BreakerState::Open | BreakerState::HalfOpen) => {}
        }
    }
}

impl Configure for Limiter {
    fn read(&self, config: &mut StackConfig) {
        let (limit, shadow) = self.configuration();
        config.load_shed = Some(LoadShedConfig { limit, shadow });
    }

    fn check(&self, config: &StackConfig) -> Result<(), ConfigError> {
        config.load_shed.map_or(Ok(()), |config| load_shed::check(config.limit))
    }

    fn apply(&self, config: &StackConfig) {
        if let Some(LoadShedConfig { limit, shadow }) = config.load_shed {
            // It was checked.
            let _ = self.configure(limit, shadow);
        }
    }
}

impl Default for BudgetConfig {
    fn default() -> Self {
        Self::of(&RetryBudget::builder())
    }
}

impl BudgetConfig {
    /// What a budget is built by.
    pub(crate) fn of(builder: &RetryBudgetBuilder) -> Self {
        let floor = builder.floor.map(|(count, period)| Pace { count, period });
        Self { ratio: builder.ratio, cap: builder.cap, floor }
    }

    fn builder(&self) -> RetryBudgetBuilder {
        let builder = RetryBudget::builder().ratio(self.ratio).cap(self.cap);
        match self.floor {
            Some(Pace { count, period }) => builder.floor(count, period),
            None => builder.no_floor(),
        }
    }

    /// Has the budget go by this, which was checked.
    pub(crate) fn apply(&self, budget: &RetryBudget) {
        let _ = budget.configure(self.builder());
    }
}
