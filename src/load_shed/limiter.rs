use super::{
    adaptive::Adaptive,
    builder::LimiterBuilder,
    permit::{Permit, Ticket},
    places::{InFlight, Places},
    rule::Rule,
    terms::{Ask, Terms},
};
use crate::{
    context::{CallContext, Criticality},
    error::{ConfigError, Overloaded},
    held::{Held, is_held},
    stripes::Counter,
    sync::{AtomicU64, Ordering},
};
use std::{hash::Hash, sync::Arc};
use tokio::time::Instant;

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
    pub(super) shared: Arc<Shared>,
}

pub(super) struct Shared {
    pub(super) places: Places,
    /// A [`Rule`], read once by each call that comes. Relaxed, as the counts.
    rule: AtomicU64,
    /// The calls beyond the limit that were let in.
    pub(super) would_have_refused: AtomicU64,
    /// The refusals where there are no `terms`, which count their own. Striped: threads whose calls are refused do not
    /// contend for one cache line.
    refused: Counter,
    /// What a fixed limit that is the same for all calls does not need.
    pub(super) terms: Option<Box<Terms>>,
}

impl Limiter {
    /// At most `limit` calls at once.
    ///
    /// # Errors
    ///
    /// The limit must be at least 1.
    pub fn fixed(limit: usize) -> Result<Self, ConfigError> {
        check(limit)?;
        Ok(Self::of(limit, None))
    }

    /// Configures a limit of at most `limit` calls at once, of which classes of calls see different shares.
    pub fn at_most(limit: usize) -> LimiterBuilder {
        LimiterBuilder::fixed(limit)
    }

    /// Configures a limit that finds itself. By default it refuses a call that would not end within 70% of its
    /// remaining deadline, by Little's law.
    ///
    /// ```
    /// use std::time::Duration;
    /// use steadfast::load_shed::Limiter;
    ///
    /// # fn main() -> Result<(), steadfast::ConfigError> {
    /// // For calls that state no deadline. The others state theirs in their context.
    /// let limiter = Limiter::adaptive().deadline(Duration::from_millis(300)).build()?;
    /// // Nothing is known before the first calls have ended.
    /// assert_eq!(limiter.limit(), 100);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// See the [module](crate::load_shed#a-limit-that-finds-itself).
    pub fn adaptive() -> LimiterBuilder {
        LimiterBuilder::adaptive()
    }

    pub(super) fn of(limit: usize, terms: Option<Terms>) -> Self {
        let by_class = terms.as_ref().is_some_and(|terms| terms.classes.guarantees());
        Self {
            shared: Arc::new(Shared {
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
    /// A limiter that is adaptive, or knows classes, judges the call by the [current context](CallContext::current).
    ///
    /// # Errors
    ///
    /// [`Overloaded`] where all places are taken.
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
    /// One clone of an `Arc` more.
    pub fn try_acquire_owned(&self) -> Result<Permit<'static>, Overloaded> {
        let ticket = self.enter_now()?;
        Ok(Permit::new(Held::Owned(self.clone()), ticket))
    }

    /// Takes one place for a call with this context, at this instant of tokio's clock.
    ///
    /// # Errors
    ///
    /// As [`try_acquire`](Self::try_acquire).
    #[inline]
    pub fn try_acquire_at(&self, context: &CallContext, now: Instant) -> Result<Permit<'_>, Overloaded> {
        let ticket = self.enter(&Ask::of(context), || now)?;
        Ok(Permit::new(Held::Borrowed(self), ticket))
    }

    /// Takes one place for a call of this tenant, at this instant of tokio's clock. With a
    /// [fair share](LimiterBuilder::fair_share) no tenant fills the places of the others. Otherwise as
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
    /// // It has as many as are left for others.
    /// assert_eq!(permits.len(), 5);
    /// assert!(acquire("small").is_ok());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`try_acquire`](Self::try_acquire); and [`OverloadedCause::Tenant`](crate::error::OverloadedCause::Tenant)
    /// where the tenant has its share.
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

    /// The calls that were refused since the limiter was made. It wraps around.
    pub fn refused(&self) -> u64 {
        match &self.shared.terms {
            Some(terms) => terms.refusals.total(),
            None => self.shared.refused.get(),
        }
    }

    /// The calls in flight.
    pub fn in_flight(&self) -> usize {
        usize::try_from(self.shared.places.in_flight().total()).unwrap_or(usize::MAX)
    }

    /// The most calls that may be in flight. A limit of 2^63 - 1 or more is returned as `usize::MAX`.
    ///
    /// Of an adaptive limiter, the limit at present for a call of the highest class with the usual time left.
    pub fn limit(&self) -> usize {
        let rule = self.rule();
        let Some(terms) = self.shared.terms.as_deref() else { return rule.limit() };
        let found = terms.adaptive.as_ref().map_or(u64::MAX, |adaptive| adaptive.usual_limit().max(terms.floor));
        let limit = terms.capped(found.min(rule.word_limit()));
        if limit == rule.word_limit() { rule.limit() } else { usize::try_from(limit).unwrap_or(usize::MAX) }
    }

    /// Whether calls beyond the limit are let in and counted, and none is refused.
    pub fn is_shadow(&self) -> bool {
        self.rule().is_shadow()
    }

    /// The limit and whether it is in [shadow](Self::is_shadow), of one instant: what [`configure`](Self::configure)
    /// sets. Of an adaptive limiter the limit is its ceiling.
    pub fn configuration(&self) -> (usize, bool) {
        let rule = self.rule();
        (rule.limit(), rule.is_shadow())
    }

    /// The calls that were let in beyond the limit in shadow mode, since the limiter was made. It wraps around.
    pub fn would_have_refused(&self) -> u64 {
        self.shared.would_have_refused.load(Ordering::Relaxed)
    }

    /// Changes the limit while calls are in flight, and leaves the mode as it is. Where more are than it now allows, no
    /// call is interrupted: calls are refused until enough have ended. Of an adaptive limiter it is the ceiling.
    ///
    /// # Errors
    ///
    /// The limit must be at least 1, and at least the floor of an adaptive one; otherwise the old one stays.
    pub fn set_limit(&self, limit: usize) -> Result<(), ConfigError> {
        self.check(limit)?;
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
    /// As [`set_limit`](Self::set_limit); otherwise the old limit and the old mode stay.
    pub fn configure(&self, limit: usize, shadow: bool) -> Result<(), ConfigError> {
        self.check(limit)?;
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

    /// Whether it runs functions of the user.
    #[inline]
    pub(super) fn has_signals(&self) -> bool {
        self.shared.terms.as_ref().is_some_and(|terms| terms.signals.is_some())
    }

    #[inline]
    pub(super) fn rule(&self) -> Rule {
        Rule(self.shared.rule.load(Ordering::Relaxed))
    }

    /// Whether its adaptive limit has learned from calls.
    pub(crate) fn has_learned(&self) -> bool {
        self.adapts().is_some_and(Adaptive::has_learned)
    }

    pub(super) fn adapts(&self) -> Option<&Adaptive> {
        self.shared.terms.as_ref()?.adaptive.as_ref()
    }

    /// Whether all calls see the same fixed limit.
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

    /// Whether [`enter`](Self::enter) would refuse.
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

    #[inline]
    fn enter_now(&self) -> Result<Ticket, Overloaded> {
        if self.is_plain() {
            self.enter_plain(false)
        } else {
            self.enter(&Ask::of(&CallContext::current()), Instant::now)
        }
    }

    /// Takes one place of a fixed limit that is the same for all calls.
    #[inline]
    pub(super) fn enter_plain(&self, is_exempt: bool) -> Result<Ticket, Overloaded> {
        let rule = self.rule();
        let is_shadow = rule.is_shadow();
        let has_room = |in_flight: InFlight| is_shadow || is_exempt || rule.has_room_beside(in_flight.total());
        match self.shared.places.enter(Criticality::default(), has_room) {
            Ok((others, _)) => {
                if is_shadow && !is_exempt && !rule.has_room_beside(others.total()) {
                    self.shared.would_have_refused.fetch_add(1, Ordering::Relaxed);
                }
                Ok(Ticket::PLAIN)
            }
            Err(_) => {
                self.shared.refused.add_one();
                Err(Overloaded::new(rule.limit(), None))
            }
        }
    }

    /// Takes one place, to be given back by [`leave`](Self::leave).
    #[inline]
    pub(super) fn enter(&self, ask: &Ask, now: impl FnOnce() -> Instant) -> Result<Ticket, Overloaded> {
        match &self.shared.terms {
            None => self.enter_plain(ask.is_exempt),
            Some(terms) => self.enter_by(terms, ask, now),
        }
    }
}

pub(crate) fn check(limit: usize) -> Result<(), ConfigError> {
    if limit == 0 {
        return Err(ConfigError::new("load_shed.limit", limit, "must be at least 1"));
    }
    Ok(())
}
