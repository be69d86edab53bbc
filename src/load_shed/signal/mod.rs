//! Signs of overload beside the calls in flight.

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

/// A sign that a server has too much to do, beside its calls in flight: [`RuntimeLag`],
/// [`CgroupPressure`], or a function of your own.
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
    /// The level at this instant: 0 where there is nothing to do, 1 at the bound of what is bearable. `None` while it is
    /// unknown, which is never overload.
    ///
    /// A limiter asks at most every 10 ms, in a call that arrives, and under no lock. So this returns at once and does
    /// no I/O: a signal that takes work is measured elsewhere and published in an atomic. A panic counts as unknown, and
    /// so does what is not a number. Levels below 0 count as 0, and those above 1 as 1.
    fn level(&self, now: Instant) -> Option<f64>;
}

/// The level that the function returns.
impl<F: Fn() -> f64 + Send + Sync> Signal for F {
    fn level(&self, _now: Instant) -> Option<f64> {
        Some(self())
    }
}
