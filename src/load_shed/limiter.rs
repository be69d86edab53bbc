use super::{
    adaptive::Adaptive,
    builder::LimiterBuilder,
    permit::Permit,
    places::Places,
    rule::Rule,
    terms::{AdmissionTerms, Ask},
};
use crate::{
    context::CallContext,
    error::{ConfigError, Overloaded},
    held::{Held, is_held},
    stripes::Counter,
    sync::{AtomicU64, Ordering},
};
use std::{hash::Hash, sync::Arc};
use tokio::time::Instant;

/// A limit on the calls in flight, with an exact count of them.
///
/// However many threads call at once, an enforced limiter admits only [exempt](super::LoadShed::exempt) calls beyond
/// its limit. It refuses a call only if there is no room for that call. [Fair shares](LimiterBuilder::fair_share) have
/// two rare exceptions, in which a call can be refused although there is room: a race between calls of one tenant, and
/// a tenant that is counted as larger than it is. A refused call never counts as in flight, not even briefly. Clones
/// share the count and the limit.
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
/// A limiter in [shadow](Self::set_shadow) refuses no call. It admits each call and counts it in flight. If an
/// enforced limit would have refused the call beside the present calls in flight, the limiter adds one to
/// [`would_have_refused`](Self::would_have_refused).
/// A limit can thus be tried on live traffic before it is enforced. The count is an upper estimate: a call that would
/// have been refused takes a place, which it would not do with an enforced limit.
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
/// A [plain fixed limit](super#classes-tenants-signals) takes two loads and one compare-and-swap to admit, and one
/// subtraction to release. A refusal takes two loads and one addition to a striped counter. No clock reading, no
/// allocation. In shadow mode a call over the limit takes one more addition. See the [module](super#cost) for adaptive
/// limits.
#[doc(alias(
    "bulkhead",
    "concurrency limit",
    "ConcurrencyLimit",
    "semaphore",
    "adaptive concurrency",
    "admission control"
))]
#[derive(Clone)]
pub struct Limiter {
    pub(super) shared: Arc<LimiterShared>,
}

pub(super) struct LimiterShared {
    pub(super) places: Places,
    /// A [`Rule`], read once by each arriving call. Relaxed: it guards no other memory.
    rule: AtomicU64,
    /// The calls that were admitted in shadow mode and would have been refused.
    pub(super) would_have_refused: AtomicU64,
    /// The refusals of a plain fixed limit. With `terms`, the refusals are counted there instead. Striped, so that few
    /// of the threads whose calls are refused contend for one cache line.
    pub(super) refused: Counter,
    /// `None` for a plain fixed limit.
    pub(super) terms: Option<Box<AdmissionTerms>>,
}

impl Limiter {
    /// Makes a limiter that admits at most `limit` calls at once.
    ///
    /// # Errors
    ///
    /// The limit must be at least 1.
    pub fn fixed(limit: usize) -> Result<Self, ConfigError> {
        check(limit)?;
        Ok(Self::of(limit, None))
    }

    /// Configures a fixed limit of `limit` calls at once, with classes, tenants or signals.
    pub fn at_most(limit: usize) -> LimiterBuilder {
        LimiterBuilder::fixed(limit)
    }

    /// Configures an adaptive limit. By default it estimates the duration of each call by Little's law. It refuses a
    /// call that would take more than 70% of the time left until its deadline.
    ///
    /// ```
    /// use std::time::Duration;
    /// use steadfast::load_shed::Limiter;
    ///
    /// # fn main() -> Result<(), steadfast::ConfigError> {
    /// // For calls without a deadline in their context.
    /// let limiter = Limiter::adaptive().deadline(Duration::from_millis(300)).build()?;
    /// // The initial limit, until the first calls have ended.
    /// assert_eq!(limiter.limit(), 100);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// See the [module](crate::load_shed#a-limit-that-finds-itself).
    pub fn adaptive() -> LimiterBuilder {
        LimiterBuilder::adaptive()
    }

    pub(super) fn of(limit: usize, terms: Option<AdmissionTerms>) -> Self {
        let by_class = terms.as_ref().is_some_and(|terms| terms.classes.guarantees());
        Self {
            shared: Arc::new(LimiterShared {
                places: Places::new(by_class),
                rule: AtomicU64::new(Rule::new(limit, false).0),
                would_have_refused: AtomicU64::new(0),
                refused: Counter::default(),
                terms: terms.map(Box::new),
            }),
        }
    }

    /// Takes one place until the permit is dropped.
    ///
    /// A limiter that is adaptive, or has classes, judges the call by the deadline and the criticality in the [current
    /// context](CallContext::current).
    ///
    /// # Errors
    ///
    /// [`Overloaded`] if no place is free for this call. Its [cause](crate::error::OverloadedCause) says why. For
    /// example, the free places may be reserved for more critical calls.
    #[inline]
    pub fn try_acquire(&self) -> Result<Permit<'_>, Overloaded> {
        let ticket = self.enter_now()?;
        Ok(Permit::new(Held::Borrowed(self), ticket))
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
    /// One clone of an `Arc` more than [`try_acquire`](Self::try_acquire).
    pub fn try_acquire_owned(&self) -> Result<Permit<'static>, Overloaded> {
        let ticket = self.enter_now()?;
        Ok(Permit::new(Held::Owned(self.clone()), ticket))
    }

    /// Takes one place for a call with this context. `now` is an instant of tokio's clock.
    ///
    /// # Errors
    ///
    /// As [`try_acquire`](Self::try_acquire).
    #[inline]
    pub fn try_acquire_at(&self, context: &CallContext, now: Instant) -> Result<Permit<'_>, Overloaded> {
        let ticket = self.enter(&Ask::of(context), || now)?;
        Ok(Permit::new(Held::Borrowed(self), ticket))
    }

    /// Takes one place for a call of this tenant. With a [fair share](LimiterBuilder::fair_share) no tenant fills the
    /// places of the others. Without a fair share the limiter ignores the tenant, and the method does the same as
    /// [`try_acquire_at`](Self::try_acquire_at).
    ///
    /// ```
    /// use steadfast::{CallContext, load_shed::Limiter};
    /// use tokio::time::Instant;
    ///
    /// # fn main() -> Result<(), steadfast::ConfigError> {
    /// let limiter = Limiter::at_most(10).fair_share(1.0).build()?;
    /// let acquire = |tenant| limiter.try_acquire_for(&tenant, &CallContext::new(), Instant::now());
    /// let permits: Vec<_> = (0..10).filter_map(|_| acquire("large").ok()).collect();
    /// // With a share of 1 a tenant holds at most as many places as remain free. Here it holds 5, and 5 remain free.
    /// assert_eq!(permits.len(), 5);
    /// assert!(acquire("small").is_ok());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`try_acquire`](Self::try_acquire). The cause is
    /// [`OverloadedCause::Tenant`](crate::error::OverloadedCause::Tenant) if the tenant has its share, while a call
    /// without a tenant would be admitted.
    pub fn try_acquire_for(
        &self,
        tenant: &impl Hash,
        context: &CallContext,
        now: Instant,
    ) -> Result<Permit<'_>, Overloaded> {
        let ask = Ask { tenant: self.hash_of(tenant), ..Ask::of(context) };
        let ticket = self.enter(&ask, || now)?;
        Ok(Permit::new(Held::Borrowed(self), ticket))
    }

    /// Returns the number of calls refused since the limiter was made. It wraps around.
    pub fn refused(&self) -> u64 {
        match &self.shared.terms {
            Some(terms) => terms.refusals.total(),
            None => self.shared.refused.get(),
        }
    }

    /// Returns the number of calls in flight.
    pub fn in_flight(&self) -> usize {
        usize::try_from(self.shared.places.in_flight().total()).unwrap_or(usize::MAX)
    }

    /// Returns the most calls that may be in flight. A limit of 2^63 - 1 or more is returned as `usize::MAX`.
    ///
    /// The limit bounds the calls of all classes together; a class can see a lower one. For an adaptive limiter it is
    /// the present limit for a call with the usual remaining time, which is
    /// [`Readings::deadline`](super::Readings::deadline). While a signal lowers the limit, this is the lowered limit.
    pub fn limit(&self) -> usize {
        let rule = self.rule();
        let Some(terms) = self.shared.terms.as_deref() else { return rule.limit() };
        let found = terms.adaptive.as_ref().map_or(u64::MAX, |adaptive| adaptive.usual_limit().max(terms.floor));
        let limit = terms.capped(found.min(rule.word_limit()));
        if limit == rule.word_limit() { rule.limit() } else { usize::try_from(limit).unwrap_or(usize::MAX) }
    }

    /// Returns whether the limiter is in [shadow mode](Self#shadow-mode).
    pub fn is_shadow(&self) -> bool {
        self.rule().is_shadow()
    }

    /// Returns the limit and whether the limiter is in [shadow](Self::is_shadow), both at one instant, as
    /// [`configure`](Self::configure) sets them. For an adaptive limiter the limit is its ceiling.
    pub fn configuration(&self) -> (usize, bool) {
        let rule = self.rule();
        (rule.limit(), rule.is_shadow())
    }

    /// Returns the number of calls admitted in shadow mode that would have been refused, since the limiter was made.
    /// Exempt calls do not count. It wraps around.
    pub fn would_have_refused(&self) -> u64 {
        self.shared.would_have_refused.load(Ordering::Relaxed)
    }

    /// Changes the limit while calls are in flight, and keeps the mode. If more calls are in flight than the new limit
    /// allows, none is interrupted: new calls are refused until enough have ended. For an adaptive limiter this sets
    /// the ceiling.
    ///
    /// # Errors
    ///
    /// The limit must be at least 1, at least the floor of an adaptive limiter, and with a guarantee at most 65,535.
    /// Otherwise the old limit stays.
    pub fn set_limit(&self, limit: usize) -> Result<(), ConfigError> {
        self.check(limit)?;
        let change = |word| Some(Rule::new(limit, Rule(word).is_shadow()).0);
        // The function always returns `Some`, so the update succeeds.
        let _ = self.shared.rule.fetch_update(Ordering::Relaxed, Ordering::Relaxed, change);
        Ok(())
    }

    /// Turns shadow mode on or off while calls are in flight, and keeps the limit. Default: off. If more calls are in
    /// flight than allowed when it is turned off, none is interrupted: new calls are refused until enough have ended.
    pub fn set_shadow(&self, shadow: bool) {
        if shadow {
            self.shared.rule.fetch_or(Rule::SHADOW, Ordering::Relaxed);
        } else {
            self.shared.rule.fetch_and(!Rule::SHADOW, Ordering::Relaxed);
        }
    }

    /// Changes the limit and the mode in one step. Each call is judged by the old limit and the old mode, or by the new
    /// limit and the new mode. Otherwise as [`set_limit`](Self::set_limit) and [`set_shadow`](Self::set_shadow).
    ///
    /// # Errors
    ///
    /// As [`set_limit`](Self::set_limit). On an error the old limit and the old mode stay.
    pub fn configure(&self, limit: usize, shadow: bool) -> Result<(), ConfigError> {
        self.check(limit)?;
        self.shared.rule.store(Rule::new(limit, shadow).0, Ordering::Relaxed);
        Ok(())
    }

    /// Returns the address of the state that all handles of this limiter share.
    pub(crate) fn address(&self) -> usize {
        crate::held::address(&self.shared)
    }

    /// Returns whether another handle of this limiter exists.
    pub(crate) fn is_shared(&self) -> bool {
        is_held(&self.shared)
    }

    /// Returns whether admission may run a user's signal.
    #[inline]
    pub(super) fn has_signals(&self) -> bool {
        self.shared.terms.as_ref().is_some_and(|terms| terms.signals.is_some())
    }

    #[inline]
    pub(super) fn rule(&self) -> Rule {
        Rule(self.shared.rule.load(Ordering::Relaxed))
    }

    /// Returns whether the limit is adaptive and its first window has ended.
    pub(crate) fn has_learned(&self) -> bool {
        self.adapts().is_some_and(Adaptive::has_learned)
    }

    pub(super) fn adapts(&self) -> Option<&Adaptive> {
        self.shared.terms.as_ref()?.adaptive.as_ref()
    }

    /// Returns whether the limit is a plain fixed limit.
    #[inline]
    pub(super) fn is_plain(&self) -> bool {
        self.shared.terms.is_none()
    }

    pub(super) fn check(&self, limit: usize) -> Result<(), ConfigError> {
        check(limit)?;
        match &self.shared.terms {
            Some(terms) => terms.check(limit),
            None => Ok(()),
        }
    }

    /// Returns whether [`enter`](Self::enter) would refuse the call, which the caller never passes as exempt. Ignores
    /// tenants, and does not read the signals again.
    pub(super) fn is_full(&self, ask: &Ask, now: impl FnOnce() -> Instant) -> bool {
        let rule = self.rule();
        let in_flight = self.shared.places.in_flight();
        if rule.is_shadow() {
            return false;
        }
        match &self.shared.terms {
            None => !rule.has_room_beside(in_flight.total()),
            Some(terms) => {
                let limit = terms.limit_for(rule, ask.deadline, now);
                !ask.is_exempt && terms.classes.room(ask.class, limit, in_flight).is_err()
            }
        }
    }
}

pub(crate) fn check(limit: usize) -> Result<(), ConfigError> {
    if limit == 0 {
        return Err(ConfigError::new("load_shed.limit", limit, "must be at least 1"));
    }
    Ok(())
}
