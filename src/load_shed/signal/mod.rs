//! Signals of overload other than the calls in flight.

mod cap;
mod cgroup;
mod hysteresis;
mod lag;
mod signals;

pub use cgroup::{CgroupPressure, CgroupPressureBuilder};
pub use hysteresis::Hysteresis;
pub use lag::RuntimeLag;
pub(super) use signals::{Signals, Watched};
use tokio::time::Instant;

/// A signal of overload other than the calls in flight: [`RuntimeLag`], [`CgroupPressure`], or a function of your own.
///
/// ```
/// use std::sync::atomic::{AtomicU64, Ordering};
/// use steadfast::load_shed::Signal;
/// use tokio::time::Instant;
///
/// static USED: AtomicU64 = AtomicU64::new(15);
/// let pool = || USED.load(Ordering::Relaxed) as f64 / 20.0;
/// assert_eq!(pool.level(Instant::now()), Some(0.75));
/// ```
pub trait Signal: Send + Sync {
    /// Returns the level at this instant: 0 for no load, 1 at the bound of overload. `None` if it is unknown, which
    /// never counts as overload.
    ///
    /// A limiter reads the level at most every 10 ms, in an arriving call, under no lock. This method must return at
    /// once and do no I/O: measure an expensive signal in a task and publish it in an atomic. A panic and NaN count as
    /// unknown. Levels below 0 count as 0, and levels above 1 as 1.
    fn level(&self, now: Instant) -> Option<f64>;
}

/// A function that returns the level.
impl<F: Fn() -> f64 + Send + Sync> Signal for F {
    fn level(&self, _now: Instant) -> Option<f64> {
        Some(self())
    }
}
