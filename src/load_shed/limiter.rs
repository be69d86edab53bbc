use crate::{
    error::{ConfigError, Overloaded},
    held::{Held, is_held},
    stripes::Counter,
    sync::{AtomicU64, AtomicUsize, Ordering},
};
use std::{fmt, sync::Arc};

/// A limit on the calls in flight, with an exact count of them.
///
/// It never admits more than the limit and never refuses while there is room, however many threads ask: a call that is
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
/// # Shadow mode
///
/// A limiter in [shadow](Self::set_shadow) refuses no call: one beyond the limit is let in, is counted in flight like
/// any other, and adds one to [`would_have_refused`](Self::would_have_refused). So a limit can be tried on live traffic
/// before it takes effect. It is a little too strict: a call that it would have refused takes a place, as it would not
/// have otherwise.
///
/// ```
/// use steadfast::load_shed::Limiter;
///
/// # fn main() -> Result<(), steadfast::ConfigError> {
/// let limiter = Limiter::fixed(1)?;
/// limiter.set_shadow(true);
/// let permits = [limiter.try_acquire().unwrap(), limiter.try_acquire().unwrap()];
/// assert_eq!((limiter.in_flight(), limiter.would_have_refused()), (2, 1));
///
/// limiter.set_shadow(false);
/// assert!(limiter.try_acquire().is_err());
/// drop(permits);
/// assert!(limiter.try_acquire().is_ok());
/// # Ok(())
/// # }
/// ```
///
/// # Cost
///
/// Two loads and one compare-and-swap to admit, and one subtraction to give back. Two loads and one addition to refuse:
/// the addition counts the refusal in a striped counter. No clock, no allocation. In shadow one addition more for a
/// call beyond the limit.
#[derive(Clone)]
pub struct Limiter {
    shared: Arc<Shared>,
}

struct Shared {
    /// Relaxed throughout, as those below: none guards other memory, and each change is one atomic step.
    in_flight: AtomicUsize,
    /// A [`Rule`], read once by each call that comes.
    rule: AtomicU64,
    /// The calls beyond the limit that were let in.
    would_have_refused: AtomicU64,
    /// Striped: calls that are refused do not wait for each other.
    refused: Counter,
}

/// The limit, and in the lowest bit whether it is in shadow: one word, so that no thread sees the limit of one
/// configuration with the mode of another.
#[derive(Clone, Copy)]
struct Rule(u64);

impl Rule {
    const SHADOW: u64 = 1;
    const NO_LIMIT: u64 = u64::MAX >> 1;

    fn new(limit: usize, shadow: bool) -> Self {
        let limit = u64::try_from(limit).unwrap_or(u64::MAX).min(Self::NO_LIMIT);
        Self(limit << 1 | u64::from(shadow))
    }

    #[inline]
    fn has_room_beside(self, in_flight: usize) -> bool {
        (in_flight as u64) < self.0 >> 1
    }

    fn limit(self) -> usize {
        match self.0 >> 1 {
            Self::NO_LIMIT => usize::MAX,
            limit => usize::try_from(limit).unwrap_or(usize::MAX),
        }
    }

    #[inline]
    fn is_shadow(self) -> bool {
        self.0 & Self::SHADOW != 0
    }
}

impl Limiter {
    /// At most `limit` calls at once.
    ///
    /// # Errors
    ///
    /// The limit must be at least 1.
    pub fn fixed(limit: usize) -> Result<Self, ConfigError> {
        check(limit)?;
        Ok(Self {
            shared: Arc::new(Shared {
                in_flight: AtomicUsize::new(0),
                rule: AtomicU64::new(Rule::new(limit, false).0),
                would_have_refused: AtomicU64::new(0),
                refused: Counter::default(),
            }),
        })
    }

    /// Takes one place until the permit is dropped.
    ///
    /// # Errors
    ///
    /// [`Overloaded`] where all places are taken.
    #[inline]
    pub fn try_acquire(&self) -> Result<Permit<'_>, Overloaded> {
        self.enter()?;
        Ok(Permit { limiter: Held::Borrowed(self) })
    }

    /// Takes one place until the permit is dropped, which may be in another task: the permit owns a clone of the
    /// limiter.
    ///
    /// ```
    /// use steadfast::load_shed::Limiter;
    ///
    /// # fn main() -> Result<(), steadfast::ConfigError> {
    /// let limiter = Limiter::fixed(1)?;
    /// let permit = limiter.try_acquire_owned().unwrap();
    /// let work = std::thread::spawn(move || drop(permit));
    /// # work.join().unwrap();
    /// # assert_eq!(limiter.in_flight(), 0);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`try_acquire`](Self::try_acquire).
    ///
    /// # Cost
    ///
    /// One clone of an `Arc` more.
    pub fn try_acquire_owned(&self) -> Result<Permit<'static>, Overloaded> {
        self.enter()?;
        Ok(Permit { limiter: Held::Owned(self.clone()) })
    }

    /// The calls that were refused since the limiter was made. It wraps around.
    pub fn refused(&self) -> u64 {
        self.shared.refused.get()
    }

    /// The calls in flight.
    pub fn in_flight(&self) -> usize {
        self.shared.in_flight.load(Ordering::Relaxed)
    }

    /// The most calls that may be in flight. A limit of 2^63 - 1 or more is returned as `usize::MAX`.
    pub fn limit(&self) -> usize {
        self.rule().limit()
    }

    /// Whether calls beyond the limit are let in and counted, and none is refused.
    pub fn is_shadow(&self) -> bool {
        self.rule().is_shadow()
    }

    /// The [limit](Self::limit) and whether it is in [shadow](Self::is_shadow), of one instant: what
    /// [`configure`](Self::configure) sets.
    pub fn configuration(&self) -> (usize, bool) {
        let rule = self.rule();
        (rule.limit(), rule.is_shadow())
    }

    /// The calls that were let in beyond the limit in shadow mode, since the limiter was made. It wraps around.
    pub fn would_have_refused(&self) -> u64 {
        self.shared.would_have_refused.load(Ordering::Relaxed)
    }

    /// Changes the limit while calls are in flight, and leaves the mode as it is. Where more are than it now allows, no
    /// call is interrupted: calls are refused until enough have ended.
    ///
    /// # Errors
    ///
    /// The limit must be at least 1; otherwise the old one stays.
    pub fn set_limit(&self, limit: usize) -> Result<(), ConfigError> {
        check(limit)?;
        let change = |word| Some(Rule::new(limit, Rule(word).is_shadow()).0);
        // It never refuses.
        let _ = self.shared.rule.fetch_update(Ordering::Relaxed, Ordering::Relaxed, change);
        Ok(())
    }

    /// Turns shadow mode on or off while calls are in flight, and leaves the limit as it is. Default: off. Where more
    /// are in flight than allowed when it is turned off, no call is interrupted: new ones are refused until enough have
    /// ended.
    pub fn set_shadow(&self, shadow: bool) {
        if shadow {
            self.shared.rule.fetch_or(Rule::SHADOW, Ordering::Relaxed);
        } else {
            self.shared.rule.fetch_and(!Rule::SHADOW, Ordering::Relaxed);
        }
    }

    /// Changes the limit and the mode in one step: no call is judged by a new limit and an old mode, or the other way
    /// round. Otherwise as [`set_limit`](Self::set_limit) and [`set_shadow`](Self::set_shadow). Setting what is set
    /// changes nothing.
    ///
    /// # Errors
    ///
    /// The limit must be at least 1; otherwise the old limit and the old mode stay.
    pub fn configure(&self, limit: usize, shadow: bool) -> Result<(), ConfigError> {
        check(limit)?;
        self.shared.rule.store(Rule::new(limit, shadow).0, Ordering::Relaxed);
        Ok(())
    }

    /// The address of what all its handles share.
    pub(crate) fn address(&self) -> usize {
        crate::held::address(&self.shared)
    }

    /// Whether there is another handle of it.
    pub(crate) fn is_shared(&self) -> bool {
        is_held(&self.shared)
    }

    #[inline]
    fn rule(&self) -> Rule {
        Rule(self.shared.rule.load(Ordering::Relaxed))
    }

    /// Whether [`enter`](Self::enter) refuses.
    pub(super) fn is_full(&self) -> bool {
        let rule = self.rule();
        !rule.is_shadow() && !rule.has_room_beside(self.in_flight())
    }

    /// Takes one place, to be given back by [`leave`](Self::leave).
    #[inline]
    pub(super) fn enter(&self) -> Result<(), Overloaded> {
        let rule = self.rule();
        let mut in_flight = self.in_flight();
        loop {
            let is_beyond = !rule.has_room_beside(in_flight);
            if is_beyond && !rule.is_shadow() {
                self.shared.refused.add_one();
                return Err(Overloaded::new(rule.limit(), None));
            }
            match self.shared.in_flight.compare_exchange_weak(
                in_flight,
                in_flight + 1,
                Ordering::Relaxed,
                Ordering::Relaxed,
            ) {
                Ok(_) => {
                    if is_beyond {
                        self.shared.would_have_refused.fetch_add(1, Ordering::Relaxed);
                    }
                    return Ok(());
                }
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

pub(crate) fn check(limit: usize) -> Result<(), ConfigError> {
    if limit == 0 {
        return Err(ConfigError::new("load_shed.limit", limit, "must be at least 1"));
    }
    Ok(())
}

impl fmt::Debug for Limiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (limit, shadow) = self.configuration();
        let mut debug = f.debug_struct("Limiter");
        debug.field("limit", &limit).field("shadow", &shadow).field("in_flight", &self.in_flight()).finish()
    }
}

/// One place among the calls in flight, given back when dropped. One that owns its limiter is a `Permit<'static>`.
#[derive(Debug)]
#[must_use = "a permit that is dropped at once limits nothing"]
pub struct Permit<'limiter> {
    limiter: Held<'limiter, Limiter>,
}

impl Drop for Permit<'_> {
    #[inline]
    fn drop(&mut self) {
        self.limiter.leave();
    }
}
