use super::{Breaker, rules::parts};
use crate::{
    error::{ConfigError, LONGEST, check_duration},
    random::Random,
};
use std::{fmt, time::Duration};

const SHORTEST_WINDOW: Duration = Duration::from_micros(1);

/// Configures a [`Breaker`] when it is [built](Self::build), or [while calls pass](Breaker::configure).
///
/// Plain data: two builders are equal if their settings are.
#[derive(Clone, Debug, PartialEq)]
#[must_use]
pub struct BreakerBuilder {
    pub(crate) consecutive_failures: Option<u32>,
    /// The rate, and the length of the window.
    pub(crate) failure_rate: Option<(f64, Duration)>,
    /// The rate, and the threshold from which a call is slow.
    pub(crate) slow_call_rate: Option<(f64, Duration)>,
    pub(crate) minimum_calls: u32,
    pub(crate) open_for: Duration,
    pub(crate) max_open_for: Option<Duration>,
    pub(crate) probes: u32,
    pub(crate) probe_timeout: Duration,
    /// The setting of [`cancelled_is_failure_after`](Self::cancelled_is_failure_after).
    pub(crate) cancelled_after: Option<Duration>,
    pub(crate) overload_is_failure: bool,
    pub(crate) random: Generator,
}

/// The source of the random open times. It is no setting: builders that differ only in it are equal.
#[derive(Clone, Debug, Default)]
pub(crate) struct Generator(Option<Random>);

impl PartialEq for Generator {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Generator {
    /// Returns the generator. Creates it at the first use.
    pub(super) fn get(&mut self) -> Random {
        self.0.get_or_insert_default().clone()
    }

    /// Takes over the generator `earlier`, unless this builder has one already.
    pub(super) fn keep(&mut self, earlier: &Self) {
        if self.0.is_none() {
            self.0.clone_from(&earlier.0);
        }
    }
}

impl Default for BreakerBuilder {
    fn default() -> Self {
        Self {
            consecutive_failures: None,
            failure_rate: None,
            slow_call_rate: None,
            minimum_calls: 20,
            open_for: Duration::from_secs(5),
            max_open_for: None,
            probes: 3,
            probe_timeout: Duration::from_secs(30),
            cancelled_after: None,
            overload_is_failure: false,
            random: Generator::default(),
        }
    }
}

impl BreakerBuilder {
    /// Opens after this number of failures in a row. This switches the default failure rate off. To have both, also set
    /// [`failure_rate`](Self::failure_rate): the first limit that is reached opens the circuit.
    pub fn consecutive_failures(self, failures: u32) -> Self {
        Self { consecutive_failures: Some(failures), ..self }
    }

    /// Opens when at least this share of the calls in the last `window` failed: 0.5 is one half. The rate is exact to 1
    /// in a million, and the window slides in sixteenths.
    ///
    /// The breaker checks the rate after each call that counts, once there are the [minimum of
    /// calls](Self::minimum_calls). A success that completes the minimum can therefore open the circuit too. For
    /// example, take a limit of one half of at least five calls: three failures and then two successes open the
    /// circuit. If two calls end at the same moment, each may be judged without the other.
    ///
    /// Default, if neither this nor [`consecutive_failures`](Self::consecutive_failures) is set: one half over ten
    /// seconds.
    #[doc(alias("failure_rate_threshold", "success_rate_over_time_window"))]
    pub fn failure_rate(self, rate: f64, window: Duration) -> Self {
        Self { failure_rate: Some((rate, window)), ..self }
    }

    /// Opens when at least this share of the calls took at least the `threshold`. The breaker thus notices a hanging
    /// service before the calls to it fail. The failure rate stays in force. Default: the duration of a call does not
    /// count.
    ///
    /// Keep the threshold below the attempt timeout: a call that a timeout ends before the threshold is never slow.
    ///
    /// - The window is that of the [failure rate](Self::failure_rate), or ten seconds if there is none. The [minimum of
    ///   calls](Self::minimum_calls) is the same. The rate is exact to 1 in a million.
    /// - A call that is still in flight at the threshold counts as slow at once. Its end adds no slow call, and counts
    ///   as a success or a failure as usual. A slow success is no failure.
    /// - The time begins when the call is admitted. If the call had to wait for its turn or for the service's
    ///   readiness, the time begins when the call reaches the service. Without tower, the time of a
    ///   [`Permit`](super::Permit) begins when it is taken; its page describes calls in flight.
    /// - A call that was abandoned is slow if it had reached the threshold. If it had not, the rate counts it only if
    ///   it is a failure by [`cancelled_is_failure_after`](Self::cancelled_is_failure_after), and then as not slow.
    /// - A probe that reaches the threshold has failed, and opens the circuit at once.
    ///
    /// In this example, 1,000 calls begin per second, and the service has stopped answering. The circuit opens when the
    /// 20th call reaches the threshold, 19 ms after the first one:
    ///
    /// ```
    /// use std::time::Duration;
    /// use steadfast::circuit_breaker::{Breaker, BreakerState};
    /// use tokio::time::Instant;
    ///
    /// # fn main() -> Result<(), steadfast::ConfigError> {
    /// let threshold = Duration::from_secs(1);
    /// let breaker = Breaker::builder().slow_call_rate(0.5, threshold).minimum_calls(20).build()?;
    /// let begin = Instant::now();
    /// let call = |at: u64| breaker.try_acquire_at(begin + Duration::from_millis(at));
    /// let mut calls: Vec<_> = (0..1000).map(|at| call(at).unwrap()).collect();
    ///
    /// // A layer makes this report for each call.
    /// for (at, call) in (0..).zip(&mut calls).take(20) {
    ///     assert_eq!(breaker.state(), BreakerState::Closed);
    ///     call.under_way_at(begin + threshold + Duration::from_millis(at));
    /// }
    /// assert_eq!(breaker.state(), BreakerState::Open);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Cost
    ///
    /// One clock reading when a call is admitted, and one when it ends. Until the call counts as slow, also one for
    /// each poll of the service that ends pending. One compare-and-swap for each call that counts. A layer wakes a
    /// pending call once, at the threshold, with the one timer that a call has. The breaker allocates a second window
    /// once.
    #[doc(alias("slow_call_rate_threshold", "slow_call_duration_threshold"))]
    pub fn slow_call_rate(self, rate: f64, threshold: Duration) -> Self {
        Self { slow_call_rate: Some((rate, threshold)), ..self }
    }

    /// Sets the fewest calls in the window for a rate to count. Default: 20, because the rate of fewer calls is chance.
    #[doc(alias = "minimum_number_of_calls")]
    pub fn minimum_calls(self, calls: u32) -> Self {
        Self { minimum_calls: calls, ..self }
    }

    /// Sets the time that the circuit stays open before it lets probes through: exactly this time at first, and longer
    /// after [failed probes](Self::max_open_for). Default: 5 s.
    #[doc(alias = "wait_duration_in_open")]
    pub fn open_for(self, duration: Duration) -> Self {
        Self { open_for: duration, ..self }
    }

    /// Sets the longest open time. Default: a minute, or [`open_for`](Self::open_for) if that is longer.
    ///
    /// Each failed probe doubles the open time, up to this limit: a service that is down for long gets fewer and fewer
    /// probes. The time is also multiplied by a random number from 0.75 to 1.25, so that the probes of many clients
    /// spread out. The longest time has no random part. If the probes bring neither success nor failure [in
    /// time](Self::probe_timeout), that counts as one failed probe.
    ///
    /// A circuit that closes, and stays closed for at least its last open time, next opens for `open_for` again. If it
    /// opens earlier, it uses its last open time again. After a [reset](Breaker::reset) or a forced state, it also next
    /// opens for `open_for`.
    ///
    /// `.open_for(duration).max_open_for(duration)` switches the growth off.
    pub fn max_open_for(self, duration: Duration) -> Self {
        Self { max_open_for: Some(duration), ..self }
    }

    /// Draws the random open times from this generator, for tests. Default: a generator that differs in every process
    /// and every breaker. [`Breaker::configure`] keeps the breaker's generator unless another is given. Builders that
    /// differ only in their generator are equal.
    pub fn random(self, random: Random) -> Self {
        Self { random: Generator(Some(random)), ..self }
    }

    /// Sets how many calls a half-open circuit lets through, and how many of them must succeed to close it. Default: 3.
    #[doc(alias("permitted_calls_in_half_open", "half-open"))]
    pub fn probes(self, probes: u32) -> Self {
        Self { probes, ..self }
    }

    /// Sets the time without a success or a failure after which the breaker gives up the probes. The next call then
    /// opens the circuit again. The time starts with the first probe, and again at each success. A call that arrives
    /// while no probe is in flight becomes a probe, and starts the time again instead of opening the circuit. There is
    /// one exception. After a probe that reached the service is abandoned, such a call does not start the time again
    /// for half of the probe timeout. Otherwise callers that abandon their probes early could keep the circuit
    /// half-open forever.
    ///
    /// Default: 30 s. A shorter timeout in an inner layer ends a probe earlier.
    pub fn probe_timeout(self, duration: Duration) -> Self {
        Self { probe_timeout: duration, ..self }
    }

    /// Counts a call as a failure if it reached the service and its caller dropped it after at least this time.
    /// Default: a dropped call does not count.
    ///
    /// The time begins when the call is admitted. If the call had to wait for its turn or for the service's readiness,
    /// the time begins when the call reaches the service. Costs one clock reading when a call is admitted, and one when
    /// a call that had to wait reaches the service. Without a failure rate, the end of a call costs one too.
    pub fn cancelled_is_failure_after(self, duration: Duration) -> Self {
        Self { cancelled_after: Some(duration), ..self }
    }

    /// Counts [`Outcome::Overloaded`](crate::Outcome::Overloaded), and `Outcome::Unprocessed` with a hint, as a
    /// failure.
    ///
    /// Default: no. A service that sheds some calls works at its capacity. Not calling it at all would turn an overload
    /// into an outage.
    pub fn overload_is_failure(self, is_failure: bool) -> Self {
        Self { overload_is_failure: is_failure, ..self }
    }

    /// Builds the breaker. It is closed.
    ///
    /// # Errors
    ///
    /// A rate must be above 0 and at most 1. The window must be at least a microsecond and at most 366 days. Failures
    /// in a row, minimum calls and probes must be from 1 to 1,000,000. Other durations must be above zero and at most
    /// 366 days. `max_open_for` must be at least `open_for`.
    pub fn build(self) -> Result<Breaker, ConfigError> {
        self.check()?;
        Ok(Breaker::new(self))
    }

    /// Checks all settings.
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
        if let Some(longest) = self.max_open_for {
            check_duration("circuit_breaker.max_open_for", longest)?;
            if longest < self.open_for {
                let rule = format!("must be at least circuit_breaker.open_for of {:?}, or left out", self.open_for);
                return Err(ConfigError::new("circuit_breaker.max_open_for", longest, rule));
            }
        }
        if let Some((rate, length)) = self.failure_rate {
            if length < SHORTEST_WINDOW || length > LONGEST {
                let rule = "must be at least a microsecond and at most 366 days";
                return Err(ConfigError::new("circuit_breaker.failure_rate.window", length, rule));
            }
            check_rate("circuit_breaker.failure_rate.rate", rate)?;
        }
        if let Some((rate, threshold)) = self.slow_call_rate {
            check_duration("circuit_breaker.slow_call_rate.threshold", threshold)?;
            check_rate("circuit_breaker.slow_call_rate.rate", rate)?;
        }
        Ok(())
    }

    /// Returns the longest open time.
    pub(super) fn longest_open(&self) -> Duration {
        self.max_open_for.unwrap_or(Duration::from_secs(60).max(self.open_for))
    }

    /// Returns the limit of the failure rate, if there is one, and the length of its window.
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
            match failures {
                1 => f.write_str("the first failure")?,
                failures => write!(f, "{failures} failures in a row")?,
            }
        }
        if let Some((rate, window)) = self.rate_and_window() {
            let or = if self.consecutive_failures.is_some() { " or at " } else { "" };
            let (percent, minimum) = (f64::from(parts(rate)) / 1e4, self.minimum_calls);
            write!(f, "{or}{percent}% failures of at least {minimum} calls in {window:?}")?;
        }
        if let Some((rate, threshold)) = self.slow_call_rate {
            let (percent, minimum) = (f64::from(parts(rate)) / 1e4, self.minimum_calls);
            write!(f, " or when {percent}% of at least {minimum} calls take at least {threshold:?}")?;
        }
        write!(f, ", for {:?}", self.open_for)?;
        if self.longest_open() > self.open_for {
            write!(f, " growing to {:?}", self.longest_open())?;
        }
        write!(f, ", then {} probe{}", self.probes, if self.probes == 1 { "" } else { "s" })
    }
}

fn check_count(field: &'static str, count: u32) -> Result<(), ConfigError> {
    if !(1..=1_000_000).contains(&count) {
        return Err(ConfigError::new(field, count, "must be from 1 to 1000000"));
    }
    Ok(())
}

fn check_rate(field: &'static str, rate: f64) -> Result<(), ConfigError> {
    if !(rate > 0.0 && rate <= 1.0) {
        return Err(ConfigError::new(field, rate, "must be a number above 0 and at most 1"));
    }
    Ok(())
}
