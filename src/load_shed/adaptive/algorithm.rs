//! What finds a limit: a pure function of what was seen and of time.

use std::{fmt, time::Duration};

/// Finds a limit on the calls in flight from what was seen of them.
///
/// A [`Limiter`](crate::load_shed::Limiter) cuts the time in which calls are in flight into windows. At the end of each
/// it hands a [`Window`] over and follows the [`Limit`] that comes back until the next one. The algorithm reads no
/// clock and draws no random number, so it can be tested as a plain function.
///
/// One caller runs it at a time, under a lock that no other caller waits for. It must not block.
///
/// ```
/// use std::time::Duration;
/// use steadfast::load_shed::{Algorithm, Limit, Limiter, Window};
///
/// /// One call more after each window in which all answers were early, one less otherwise.
/// #[derive(Debug)]
/// struct OneByOne(usize);
///
/// impl Algorithm for OneByOne {
///     fn first(&mut self) -> Limit {
///         Limit::Calls(self.0)
///     }
///
///     fn learn(&mut self, window: &Window) -> Limit {
///         let is_used = 2 * window.most_in_flight >= self.0;
///         self.0 = if window.late > 0 { (self.0 - 1).max(1) } else { self.0 + usize::from(is_used) };
///         Limit::Calls(self.0)
///     }
/// }
///
/// # fn main() -> Result<(), steadfast::ConfigError> {
/// let limiter = Limiter::adaptive().algorithm(OneByOne(10)).deadline(Duration::from_millis(500)).build()?;
/// assert_eq!(limiter.limit(), 10);
/// # Ok(())
/// # }
/// ```
pub trait Algorithm: fmt::Debug + Send + 'static {
    /// The limit before anything was seen.
    fn first(&mut self) -> Limit;

    /// Takes in a window. Returns the limit from now on.
    fn learn(&mut self, window: &Window) -> Limit;

    /// How long a window lasts where callers wait this long. Default: the deadline.
    ///
    /// A window lasts longer where fewer than four calls ended in it, up to the deadline.
    fn window(&self, deadline: Duration) -> Duration {
        deadline
    }

    /// Whether the latency of every call is measured, which costs a reading of the clock at its end. Otherwise one call
    /// of sixteen is, and each that is admitted close to the limit or below a limit of 32. Default: `true`.
    fn measures_all(&self) -> bool {
        true
    }
}

/// A limit on the calls in flight.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Limit {
    /// This number of calls.
    Calls(usize),
    /// As many calls as end within the time that a call may wait: its remaining deadline times `share`, at this rate.
    /// By Little's law a call that is admitted within the limit ends within that share of its deadline.
    Rate {
        /// The calls that end per second.
        per_second: f64,
        /// The share of the remaining deadline.
        share: f64,
    },
    /// The [initial](crate::load_shed::LimiterBuilder::initial) limit: nothing is known yet.
    Unknown,
}

/// What was seen of the calls in one window of time.
///
/// Time without a call in flight is left out, and so are calls that were alone in flight from their beginning to their
/// end, unless the limit is below four.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Window {
    /// The time in which calls were in flight.
    pub busy: Duration,
    /// The calls that ended and were answered. A refusal by the service or by a layer further in does not count.
    pub completed: u64,
    /// The calls that were given up after they had reached the service: by a timeout, or by their callers. The work on
    /// them may go on.
    pub given_up: u64,
    /// The calls whose latency was measured.
    pub measured: u64,
    /// The mean latency of these, from their admission to their end. Zero where there are none.
    pub mean_latency: Duration,
    /// Of these, the calls that took less than three fifths of the time that they had.
    pub early: u64,
    /// Of these, the calls that took more than 85% of the time that they had, or had not ended by then.
    pub late: u64,
    /// The calls in flight now.
    pub in_flight: usize,
    /// The most calls that were seen in flight.
    pub most_in_flight: usize,
    /// How long callers wait: the remaining deadline at admission, smoothed over some windows.
    pub deadline: Duration,
}
