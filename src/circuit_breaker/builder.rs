use super::{Breaker, rules::parts};
use crate::error::{ConfigError, check_duration};
use std::{fmt, time::Duration};

/// Configures a [`Breaker`], when it is [built](Self::build) or [while calls pass](Breaker::configure).
///
/// Plain data. Two are equal if the same was set.
#[derive(Clone, Debug, PartialEq)]
#[must_use]
pub struct BreakerBuilder {
    pub(crate) consecutive_failures: Option<u32>,
    pub(crate) failure_rate: Option<(f64, Duration)>,
    pub(crate) minimum_calls: u32,
    pub(crate) open_for: Duration,
    pub(crate) probes: u32,
    pub(crate) probe_timeout: Duration,
    pub(crate) cancelled_after: Option<Duration>,
    pub(crate) overload_is_failure: bool,
}

impl Default for BreakerBuilder {
    fn default() -> Self {
        Self {
            consecutive_failures: None,
            failure_rate: None,
            minimum_calls: 20,
            open_for: Duration::from_secs(5),
            probes: 3,
            probe_timeout: Duration::from_secs(30),
            cancelled_after: None,
            overload_is_failure: false,
        }
    }
}

impl BreakerBuilder {
    /// Opens after this many failures in a row. May be combined with a failure rate: the first to be reached opens.
    pub fn consecutive_failures(self, failures: u32) -> Self {
        Self { consecutive_failures: Some(failures), ..self }
    }

    /// Opens when this share of the calls of the last `window` failed: 0.5 is one half. Exact to 1 in a million; the
    /// window slides in sixteenths.
    ///
    /// Default, where neither this nor [`consecutive_failures`](Self::consecutive_failures) is set: one half over ten
    /// seconds.
    pub fn failure_rate(self, rate: f64, window: Duration) -> Self {
        Self { failure_rate: Some((rate, window)), ..self }
    }

    /// The fewest calls in the window for the failure rate to count. Default 20: the rate of fewer is chance.
    pub fn minimum_calls(self, calls: u32) -> Self {
        Self { minimum_calls: calls, ..self }
    }

    /// How long the circuit stays open before it lets probes through. Default 5 s.
    pub fn open_for(self, duration: Duration) -> Self {
        Self { open_for: duration, ..self }
    }

    /// How many calls a half-open circuit lets through, and must see succeed, to close. Default 3.
    pub fn probes(self, probes: u32) -> Self {
        Self { probes, ..self }
    }

    /// After how long without a success or a failure the probes are given up and the circuit opens again, when the next
    /// call asks. It counts from the first probe, and anew from each success. Default 30 s; a timeout inside the breaker
    /// ends a probe earlier.
    pub fn probe_timeout(self, duration: Duration) -> Self {
        Self { probe_timeout: duration, ..self }
    }

    /// Takes a call that reached the service and was dropped by its caller after at least this long for a failure. Default:
    /// a dropped call says nothing, however long it took. Costs a reading of the clock per call.
    pub fn cancelled_is_failure_after(self, duration: Duration) -> Self {
        Self { cancelled_after: Some(duration), ..self }
    }

    /// Takes [`Outcome::Overloaded`](crate::Outcome::Overloaded) for a failure.
    ///
    /// Default: no. A service that refuses some calls works at its capacity; not calling it at all turns an overload
    /// into an outage.
    pub fn overload_is_failure(self, is_failure: bool) -> Self {
        Self { overload_is_failure: is_failure, ..self }
    }

    /// The breaker, closed.
    ///
    /// # Errors
    ///
    /// The rate must be above 0 and at most 1, the window at least a microsecond; failures in a row, minimum calls and
    /// probes at least 1 and at most a million; durations longer than zero and at most 366 days.
    pub fn build(self) -> Result<Breaker, ConfigError> {
        self.check()?;
        Ok(Breaker::new(self))
    }

    /// Whether a breaker can go by this.
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        if let Some(failures) = self.consecutive_failures {
            check_count("circuit_breaker.consecutive_failures", failures)?;
        }
        check_count("circuit_breaker.minimum_calls", self.minimum_calls)?;
        check_count("circuit_breaker.probes", self.probes)?;
        check_duration("circuit_breaker.open_for", self.open_for)?;
        check_duration("circuit_breaker.probe_timeout", self.probe_timeout)?;
        if let Some(duration) = self.cancelled_after {
            check_duration("circuit_breaker.cancelled_is_failure_after", duration)?;
        }
        if let Some((rate, length)) = self.failure_rate {
            check_duration("circuit_breaker.failure_rate.window", length)?;
            if length < Duration::from_micros(1) {
                let rule = "must be at least a microsecond";
                return Err(ConfigError::new("circuit_breaker.failure_rate.window", length, rule));
            }
            if !(rate > 0.0 && rate <= 1.0) {
                let rule = "must be a number above 0 and at most 1";
                return Err(ConfigError::new("circuit_breaker.failure_rate.rate", rate, rule));
            }
        }
        Ok(())
    }

    /// The rate that it opens at, if it goes by one, and the length of the window.
    pub(super) fn rate_and_window(&self) -> Option<(f64, Duration)> {
        match self.failure_rate {
            None if self.consecutive_failures.is_none() => Some((0.5, Duration::from_secs(10))),
            set => set,
        }
    }
}

impl fmt::Display for BreakerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("opens at ")?;
        if let Some(failures) = self.consecutive_failures {
            write!(f, "{failures} failures in a row")?;
        }
        if let Some((rate, window)) = self.rate_and_window() {
            let or = if self.consecutive_failures.is_some() { " or at " } else { "" };
            let (percent, minimum) = (f64::from(parts(rate)) / 1e4, self.minimum_calls);
            write!(f, "{or}{percent}% failures of at least {minimum} calls in {window:?}")?;
        }
        write!(f, ", for {:?}, then {} probes", self.open_for, self.probes)
    }
}

fn check_count(field: &'static str, count: u32) -> Result<(), ConfigError> {
    if !(1..=1_000_000).contains(&count) {
        return Err(ConfigError::new(field, count, "must be from 1 to 1000000"));
    }
    Ok(())
}
