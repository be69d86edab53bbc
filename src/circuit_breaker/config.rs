//! The serializable configuration of a breaker, which can change while calls pass.

use super::{breaker::Breaker, builder::BreakerBuilder, state::CircuitState, word::BreakerState};
use crate::{
    error::ConfigError,
    shell::{Course, Reconfigure},
};
use std::time::Duration;

/// When a circuit opens, and for how long. [`BreakerBuilder`](crate::circuit_breaker::BreakerBuilder) documents the
/// defaults and the bounds.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(default, deny_unknown_fields))]
pub struct BreakerConfig {
    /// Opens after this number of failures in a row.
    pub consecutive_failures: Option<u32>,
    /// Opens at this share of failures. Default, if neither this nor `consecutive_failures` is given: one half in ten
    /// seconds.
    pub failure_rate: Option<FailureRate>,
    /// Opens at this share of slow calls. Default: the duration of a call does not count.
    pub slow_call_rate: Option<SlowCallRate>,
    /// The fewest calls in the window for a share to count. The window is that of `failure_rate`, or ten seconds
    /// without one.
    pub minimum_calls: u32,
    /// The first open time. A change does not move the end of an open time that has already begun.
    #[cfg_attr(feature = "serde", serde(with = "crate::durations::open_for"))]
    pub open_for: Duration,
    /// The longest open time, after failed probes. Default: a minute, or `open_for` if that is longer.
    #[cfg_attr(feature = "serde", serde(with = "crate::durations::max_open_for"))]
    pub max_open_for: Option<Duration>,
    /// The number of probes that must succeed.
    pub probes: u32,
    /// The time without a success or a failure of any probe after which the breaker gives up the probes. The next call
    /// then opens the circuit again.
    /// [`BreakerBuilder::probe_timeout`](crate::circuit_breaker::BreakerBuilder::probe_timeout) says when the time
    /// starts.
    #[cfg_attr(feature = "serde", serde(with = "crate::durations::probe_timeout"))]
    pub probe_timeout: Duration,
    /// A call that reached the service counts as a failure if its caller drops it after at least this time. Default: a
    /// dropped call does not count.
    #[cfg_attr(feature = "serde", serde(with = "crate::durations::cancelled_is_failure_after"))]
    pub cancelled_is_failure_after: Option<Duration>,
    /// Whether [`Outcome::Overloaded`](crate::Outcome::Overloaded), and `Outcome::Unprocessed` with a hint, count as a
    /// failure.
    pub overload_is_failure: bool,
    /// Forces the circuit open (`"open"`) or closed (`"closed"`). `None` ends a forced state, even one that was forced
    /// by hand.
    pub forced: Option<Forced>,
}

/// The share of failures at which a circuit opens.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(deny_unknown_fields))]
pub struct FailureRate {
    /// Above 0 and at most 1.
    pub rate: f64,
    /// The time over which calls are counted.
    #[cfg_attr(feature = "serde", serde(with = "crate::durations::failure_rate_window"))]
    pub window: Duration,
}

/// The share of slow calls at which a circuit opens.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(deny_unknown_fields))]
pub struct SlowCallRate {
    /// Above 0 and at most 1.
    pub rate: f64,
    /// A call that takes at least this time is slow.
    #[cfg_attr(feature = "serde", serde(with = "crate::durations::slow_call_threshold"))]
    pub threshold: Duration,
}

/// A forced state, in which results do not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
pub enum Forced {
    /// No call passes.
    Open,
    /// All calls pass.
    Closed,
}

impl Default for BreakerConfig {
    fn default() -> Self {
        Self::of(&Breaker::builder())
    }
}

impl BreakerConfig {
    /// Returns the configuration of a builder.
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

    /// Returns the builder of this configuration.
    pub(crate) fn builder(&self) -> BreakerBuilder {
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

impl Reconfigure for Breaker {
    type Config = BreakerConfig;

    fn read(&self) -> BreakerConfig {
        let forced = match self.state() {
            BreakerState::ForcedOpen => Some(Forced::Open),
            BreakerState::ForcedClosed => Some(Forced::Closed),
            BreakerState::Closed | BreakerState::Open | BreakerState::HalfOpen => None,
        };
        BreakerConfig { forced, ..BreakerConfig::of(&self.configuration()) }
    }

    fn check(&self, config: &BreakerConfig) -> Result<(), ConfigError> {
        config.builder().check()
    }

    fn course(&self, now: &BreakerConfig, to: &BreakerConfig) -> Course<BreakerConfig> {
        // A configuration that forces the circuit open refuses every call. It is therefore the strictest, whatever its
        // other settings are.
        if to.forced == Some(Forced::Open) {
            return Course::Strictest(to.clone());
        }
        if now.forced == Some(Forced::Open) {
            return Course::Strictest(now.clone());
        }
        // The result of an admission depends only on these settings: the forced state and the number of probes decide
        // whether the call passes, and its ticket gets the two times. A change of the other settings takes effect
        // later: when a result is recorded, or at the next opening or series of probes.
        let seen = |config: &BreakerConfig| {
            let slow_after = config.slow_call_rate.map(|slow| slow.threshold);
            (config.forced, config.probes, config.cancelled_is_failure_after, slow_after)
        };
        if seen(now) == seen(to) { Course::Unseen } else { Course::AtOnce }
    }

    fn apply(&self, config: &BreakerConfig) {
        // Forces the circuit open first: no call may pass while only a part of the new configuration is in force.
        if config.forced == Some(Forced::Open) && self.state() != BreakerState::ForcedOpen {
            self.force_quietly(CircuitState::ForcedOpen);
        }
        self.configure_quietly(config.builder());
        match (config.forced, self.state()) {
            (Some(Forced::Open), _) | (Some(Forced::Closed), BreakerState::ForcedClosed) => {}
            (Some(Forced::Closed), _) => self.force_quietly(CircuitState::ForcedClosed),
            (None, BreakerState::ForcedOpen | BreakerState::ForcedClosed) => self.force_quietly(CircuitState::Closed),
            (None, BreakerState::Closed | BreakerState::Open | BreakerState::HalfOpen) => {}
        }
    }

    fn settle(&self) {
        self.deliver_transitions();
    }
}
