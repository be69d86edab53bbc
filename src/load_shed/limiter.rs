use crate::{
    error::{ConfigError, Overloaded},
    sync::{AtomicUsize, Ordering},
};
use std::{fmt, sync::Arc};

/// A limit on the calls in flight, with an exact count of them.
///
/// It never counts more than the limit and never refuses while there is room, however many threads ask: a call that is
/// refused is not counted for a moment first. Clones share the count and the limit.
///
/// ```
/// use steadfast::load_shed::Limiter;
///
/// # fn main() -> Result<(), steadfast::ConfigError> {
/// let limiter = Limiter::fixed(1)?;
/// let permit = limiter.try_acquire().unwrap();
/// assert!(limiter.try_acquire().is_err());
/// drop(permit);
/// assert_eq!(limiter.in_flight(), 0);
/// # Ok(())
/// # }
/// ```
///
/// # Cost
///
/// One compare-and-swap to admit, one subtraction to give back; to refuse, one load. No clock, no allocation.
#[derive(Clone)]
pub struct Limiter {
    shared: Arc<Shared>,
}

struct Shared {
    /// Relaxed throughout: the count guards no other memory, and each change is one atomic step.
    in_flight: AtomicUsize,
    limit: AtomicUsize,
}

impl Limiter {
    /// At most `limit` calls at once.
    ///
    /// # Errors
    ///
    /// The limit must be at least 1.
    pub fn fixed(limit: usize) -> Result<Self, ConfigError> {
        check(limit)?;
        Ok(Self { shared: Arc::new(Shared { in_flight: AtomicUsize::new(0), limit: AtomicUsize::new(limit) }) })
    }

    /// Takes one place until the permit is dropped.
    ///
    /// # Errors
    ///
    /// [`Overloaded`] where all places are taken.
    #[inline]
    pub fn try_acquire(&self) -> Result<Permit<'_>, Overloaded> {
        self.enter()?;
        Ok(Permit { limiter: self })
    }

    /// The calls in flight.
    pub fn in_flight(&self) -> usize {
        self.shared.in_flight.load(Ordering::Relaxed)
    }

    /// The most calls that may be in flight.
    pub fn limit(&self) -> usize {
        self.shared.limit.load(Ordering::Relaxed)
    }

    /// Changes the limit while calls are in flight. Where more are than it now allows, nobody is interrupted: calls are
    /// refused until enough have ended.
    ///
    /// # Errors
    ///
    /// The limit must be at least 1; otherwise the old one stays.
    pub fn set_limit(&self, limit: usize) -> Result<(), ConfigError> {
        check(limit)?;
        self.shared.limit.store(limit, Ordering::Relaxed);
        Ok(())
    }

    /// Takes one place, to be given back by [`leave`](Self::leave).
    #[inline]
    pub(super) fn enter(&self) -> Result<(), Overloaded> {
        let limit = self.limit();
        let mut in_flight = self.in_flight();
        loop {
            if in_flight >= limit {
                return Err(Overloaded::new(limit, None));
            }
            match self.shared.in_flight.compare_exchange_weak(
                in_flight,
                in_flight + 1,
                Ordering::Relaxed,
                Ordering::Relaxed,
            ) {
                Ok(_) => return Ok(()),
                Err(newer) => in_flight = newer,
            }
        }
    }

    /// Gives one place back. Exactly once for each [`enter`](Self::enter).
    #[inline]
    pub(super) fn leave(&self) {
        self.shared.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

fn check(limit: usize) -> Result<(), ConfigError> {
    if limit == 0 {
        return Err(ConfigError::new("load_shed.limit", limit, "must be at least 1"));
    }
    Ok(())
}

impl fmt::Debug for Limiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Limiter").field("limit", &self.limit()).field("in_flight", &self.in_flight()).finish()
    }
}

/// One place among the calls in flight, given back when dropped.
#[derive(Debug)]
#[must_use = "a permit that is dropped at once limits nothing"]
pub struct Permit<'limiter> {
    limiter: &'limiter Limiter,
}

impl Drop for Permit<'_> {
    #[inline]
    fn drop(&mut self) {
        self.limiter.leave();
    }
}
