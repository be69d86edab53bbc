//! The interface of an algorithm that adapts a limit. The limit depends only on the windows that the algorithm has
//! seen.

use std::{fmt, time::Duration};

/// Adapts a limit on the calls in flight to the observed calls.
///
/// A [`Limiter`](crate::load_shed::Limiter) divides the time in which calls are in flight into windows. At the end of
/// each window it passes a [`Window`] to the algorithm and applies the [`Limit`] that the algorithm returns. The
/// algorithm reads no clock and draws no random number, so it can be tested as a plain function.
///
/// One caller runs the algorithm at a time, under a lock that no other caller waits for. The algorithm must not block.
///
/// ```
/// use std::time::Duration;
/// use steadfast::load_shed::{Algorithm, Limit, Limiter, Window};
///
/// /// One call less after a window with a late answer; otherwise one more, if at least half of the limit was in use.
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
    /// Returns the limit before the first window.
    fn first(&mut self) -> Limit;

    /// Learns from a window. Returns the limit from now on.
    fn learn(&mut self, window: &Window) -> Limit;

    /// Returns the length of a window, for callers with this deadline. A length above the deadline counts as the
    /// deadline. Default: the deadline.
    ///
    /// A window in which fewer than four calls were answered lasts longer. It ends with the fourth answer, or when it
    /// is as long as the deadline. While the limit is below four, one answer suffices.
    fn window(&self, deadline: Duration) -> Duration {
        deadline
    }

    /// Returns whether the latency of every call is measured, which reads the clock at the end of each call. Otherwise
    /// about one call in sixteen is measured, and each call that is admitted near the limit or below a limit of 32.
    /// Default: `true`.
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
    /// The number of calls that end at this rate within `share` of a call's remaining deadline. By Little's law a call
    /// admitted within the limit ends within that share of its deadline.
    Rate {
        /// The calls that end per second.
        per_second: f64,
        /// The share of the remaining deadline.
        share: f64,
    },
    /// The [initial](crate::load_shed::LimiterBuilder::initial) limit: too few calls have ended.
    Unknown,
}

/// The observed calls of one window of time.
///
/// Excludes the time without a call in flight. Unless the limit is below four, [`busy`](Self::busy) and
/// [`completed`](Self::completed) also exclude calls that were alone in flight from start to end. The measured calls
/// can include such calls.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Window {
    /// The time in which calls were in flight.
    pub busy: Duration,
    /// The calls that were answered, or whose service panicked. A refusal by the service or by an inner layer does not
    /// count.
    pub completed: u64,
    /// The measured calls that a timeout or their caller ended after they had reached the service, and after 85% of
    /// their time. The work on them may go on.
    pub given_up: u64,
    /// The calls whose latency was measured.
    pub measured: u64,
    /// The mean latency of the measured calls, from admission to end. Zero if there are none.
    pub mean_latency: Duration,
    /// The measured calls that took less than three fifths of their remaining time at admission.
    pub early: u64,
    /// The measured calls that took more than 85% of their remaining time at admission.
    pub late: u64,
    /// The calls in flight at the end of the window.
    pub in_flight: usize,
    /// The most calls that were in flight at once.
    pub most_in_flight: usize,
    /// The remaining time of calls at admission, smoothed over several windows.
    pub deadline: Duration,
}
