use super::{
    Limiter,
    adaptive::{Adaptive, Algorithm, Little},
    classes::Classes,
    fair::{Share, Tenants},
    limiter::check,
    signal::{Hysteresis, Signal, Signals, Watched},
    terms::AdmissionTerms,
};
use crate::{
    context::Criticality,
    error::{ConfigError, check_duration},
};
use std::time::Duration;
use tokio::time::Instant;

/// The default ceiling. It bounds the memory of the calls in flight if the algorithm returns a very high limit.
const CEILING: usize = 10_000;
/// The default limit until the limiter has learned. Most services have fewer calls in flight when they start, and
/// finish this number soon.
const INITIAL: usize = 100;
/// The default share of the remaining deadline. The limit varies by up to 2.5 standard deviations around the number of
/// calls that end within that share. For example, two standard deviations of 200 calls are 28 calls, or 14%. At a limit
/// that is higher by 14%, a call ends within four fifths of its deadline (0.7 * 1.14). The last fifth is left for the
/// variation of the latency.
const SHARE: f64 = 0.7;
/// The default deadline of calls without one.
const DEADLINE: Duration = Duration::from_secs(1);

/// Configures a [`Limiter`]: made by [`Limiter::adaptive`] and [`Limiter::at_most`].
#[derive(Debug)]
#[must_use]
pub struct LimiterBuilder {
    /// For an adaptive limit, its ceiling.
    limit: usize,
    /// `None` for a fixed limit.
    adapts: Option<Adapts>,
    class_shares: Option<[f64; 4]>,
    guarantees: Vec<(Criticality, f64)>,
    fair_share: Option<f64>,
    tenant_seed: Option<u64>,
    signals: Vec<Watched>,
    shadow: bool,
}

/// The options of an adaptive limit.
#[derive(Debug)]
struct Adapts {
    floor: usize,
    initial: usize,
    share: f64,
    deadline: Duration,
    algorithm: Option<Box<dyn Algorithm>>,
}

impl LimiterBuilder {
    pub(super) fn fixed(limit: usize) -> Self {
        Self {
            limit,
            adapts: None,
            class_shares: None,
            guarantees: Vec::new(),
            fair_share: None,
            tenant_seed: None,
            signals: Vec::new(),
            shadow: false,
        }
    }

    pub(super) fn adaptive() -> Self {
        let adapts = Adapts { floor: 1, initial: INITIAL, share: SHARE, deadline: DEADLINE, algorithm: None };
        Self { adapts: Some(adapts), ..Self::fixed(CEILING) }
    }

    /// Sets the upper bound of an adaptive limit. Default: 10,000, which bounds the memory of the calls in flight. For
    /// a fixed limit, replaces the limit itself.
    pub fn ceiling(self, ceiling: usize) -> Self {
        Self { limit: ceiling, ..self }
    }

    /// Sets the lower bound of an adaptive limit. Default: 1, so that a call still passes if the algorithm computes a
    /// limit of 0. Has no effect on a fixed limit.
    pub fn floor(self, floor: usize) -> Self {
        self.adapting(|adapts| adapts.floor = floor)
    }

    /// Sets the limit of an adaptive limiter until it has learned, which takes about ten answers. Default: 100. Raise
    /// it for a service with more calls in flight in its first second. Has no effect on a fixed limit, or with an
    /// [algorithm](Self::algorithm) that begins with a limit of its own, as [`Aimd`](super::Aimd) and
    /// [`Gradient`](super::Gradient) do.
    ///
    /// The limit learns from calls that overlap. A call that is alone in flight from start to end is no evidence,
    /// unless the limit is below 4. A quiet service therefore keeps its initial limit, and its
    /// [`Readings`](super::Readings) keep the reason [`Unknown`](super::LimitReason::Unknown).
    pub fn initial(self, initial: usize) -> Self {
        self.adapting(|adapts| adapts.initial = initial)
    }

    /// Sets the share of a call's remaining deadline within which the call should end. Default: 0.7. A smaller share
    /// sheds earlier and leaves more time for other layers and the network. Has no effect with another
    /// [`algorithm`](Self::algorithm) or a fixed limit.
    pub fn share(self, share: f64) -> Self {
        self.adapting(|adapts| adapts.share = share)
    }

    /// Sets the deadline of calls whose [context](crate::CallContext) has none. Default: one second. Has no effect on a
    /// fixed limit.
    pub fn deadline(self, deadline: Duration) -> Self {
        self.adapting(|adapts| adapts.deadline = deadline)
    }

    /// Adapts the limit by this [`Algorithm`]: [`Aimd`](super::Aimd), [`Gradient`](super::Gradient), or your own.
    /// Default: [`Little`](super::Little). Has no effect on a fixed limit.
    pub fn algorithm(self, algorithm: impl Algorithm) -> Self {
        self.adapting(|adapts| adapts.algorithm = Some(Box::new(algorithm)))
    }

    /// Gives less critical calls a lower limit: 50% of the limit for [`Sheddable`](Criticality::Sheddable), 70% for
    /// [`SheddablePlus`](Criticality::SheddablePlus), 90% for [`Critical`](Criticality::Critical), 100% for
    /// [`CriticalPlus`](Criticality::CriticalPlus). The calls in flight of all classes count toward each of these.
    /// Default: all classes see the whole limit.
    pub fn by_criticality(self) -> Self {
        self.class_shares(Classes::BY_CRITICALITY)
    }

    /// Gives each class this share of the limit, in order from the least critical to the most critical class. Each
    /// class sees at least one place. Otherwise as [`by_criticality`](Self::by_criticality).
    pub fn class_shares(self, shares: [f64; 4]) -> Self {
        Self { class_shares: Some(shares), ..self }
    }

    /// Reserves this share of the limit for one class. No other class can use it, even while it is free, except by
    /// [exempt](super::LoadShed::exempt) calls. If this method is called again for the same class, the later share
    /// replaces the earlier one. Default: none.
    ///
    /// The class has its guaranteed places even above its [class share](Self::class_shares). It shares all other places
    /// with the other classes. The guarantee is rounded down to whole places: 0.1 of a limit of 9 guarantees nothing.
    ///
    /// With a guarantee the limit is at most 65,535, and at most 65,535 calls of each class are counted by class.
    /// Exempt calls and calls in shadow mode beyond that are still admitted. They count toward the limit, but not
    /// toward the share of their class.
    pub fn guarantee(mut self, class: Criticality, share: f64) -> Self {
        self.guarantees.push((class, share));
        self
    }

    /// Refuses a call of a tenant whose calls in flight are at least this share of the free places. Default: tenants
    /// are not distinguished. Use 1, unless sudden bursts need more free places.
    ///
    /// Of a limit of 600, with a share of 1, one tenant with unlimited demand gets 300 places, and five get 100 each.
    /// The last sixth stays free for tenants with less demand. A tenant without a call in flight is admitted while any
    /// place is free for the class of the call. A share below 1 leaves more places free for sudden bursts, and fewer
    /// for large tenants.
    ///
    /// [`LoadShed::tenant`](super::LoadShed::tenant) derives the tenant from the request;
    /// [`Limiter::try_acquire_for`] takes it as an argument. This rule refuses no call without a tenant.
    ///
    /// # Cost
    ///
    /// 16 KiB for any number of tenants. To admit, six more loads, three more additions and one more compare-and-swap.
    /// To release, four more subtractions. To refuse, four more loads. Tenants are hashed with a secret seed into a
    /// count-min sketch. A tenant that shares all four of its cells with tenants that have calls in flight counts as
    /// larger than it is.
    #[doc(alias("bulkhead per tenant"))]
    pub fn fair_share(self, share: f64) -> Self {
        Self { fair_share: Some(share), ..self }
    }

    /// Hashes tenants with this seed, so that a simulation can be repeated. Default: a secret seed. With a known seed,
    /// a caller that chooses its own key can choose with which tenants it shares cells of the sketch that
    /// [`fair_share`](Self::fair_share) describes.
    pub fn tenant_seed(self, seed: u64) -> Self {
        Self { tenant_seed: Some(seed), ..self }
    }

    /// Lowers the limit while this [`Signal`] reports overload: to the calls in flight, and then by 2% every 10 ms,
    /// down to the floor. The floor of a fixed limit is 1. When no signal reports overload any more, the limit grows by
    /// 1% every 10 ms. Default: no signal.
    ///
    /// [`Readings`](super::Readings) show the `name`. Arriving calls read the signal: at most one call every 10 ms.
    ///
    /// ```
    /// use std::time::Duration;
    /// use steadfast::load_shed::{Hysteresis, Limiter, RuntimeLag};
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), steadfast::ConfigError> {
    /// let lag = RuntimeLag::above(Duration::from_millis(50))?;
    /// tokio::spawn(lag.measure());
    /// let limiter = Limiter::at_most(500).signal("runtime lag", lag, Hysteresis::default()).build()?;
    /// assert_eq!(limiter.limit(), 500);
    /// # Ok(())
    /// # }
    /// ```
    pub fn signal(mut self, name: &'static str, signal: impl Signal + 'static, bounds: Hysteresis) -> Self {
        self.signals.push(Watched { name, signal: Box::new(signal), bounds });
        self
    }

    /// Starts in [shadow mode](Limiter#shadow-mode). Default: the limit is enforced.
    pub fn shadow(self) -> Self {
        Self { shadow: true, ..self }
    }

    /// Builds the limiter, with no call in flight.
    ///
    /// # Errors
    ///
    /// - The limit, the floor and the initial limit must be at least 1, and the floor at most the ceiling.
    /// - The share and the fair share must be above 0 and at most 1.
    /// - The deadline must be longer than zero and at most 366 days.
    /// - The shares of the classes must be above 0 and at most 1. No class may have a smaller share than a less
    ///   critical class.
    /// - The guarantees must be from 0 to 1, together at most 1. With a guarantee the limit must be at most 65,535.
    /// - There may be at most 64 signals, each with a unique name.
    pub fn build(self) -> Result<Limiter, ConfigError> {
        check(self.limit)?;
        let mut classes = Classes::default();
        if let Some(shares) = self.class_shares {
            classes.set_visible(shares)?;
        }
        for (class, share) in &self.guarantees {
            classes.guarantee(*class, *share)?;
        }
        let floor = self.adapts.as_ref().map_or(1, |adapts| adapts.floor);
        if floor == 0 {
            return Err(ConfigError::new("load_shed.floor", floor, "must be at least 1"));
        }
        let adaptive = self.adapts.map(Adapts::build).transpose()?;
        let share = self.fair_share.map(Share::of).transpose()?;
        let tenants = share.map(|share| Tenants::new(share, self.tenant_seed));
        let signals = (!self.signals.is_empty()).then(|| Signals::new(self.signals, Instant::now())).transpose()?;
        if adaptive.is_none() && tenants.is_none() && signals.is_none() && classes == Classes::default() {
            let limiter = Limiter::of(self.limit, None);
            limiter.set_shadow(self.shadow);
            return Ok(limiter);
        }
        let terms =
            AdmissionTerms { adaptive, floor: floor as u64, classes, refusals: Default::default(), tenants, signals };
        terms.check(self.limit)?;
        let limiter = Limiter::of(self.limit, Some(terms));
        limiter.set_shadow(self.shadow);
        Ok(limiter)
    }

    fn adapting(mut self, change: impl FnOnce(&mut Adapts)) -> Self {
        if let Some(adapts) = &mut self.adapts {
            change(adapts);
        }
        self
    }
}

impl Adapts {
    fn build(self) -> Result<Adaptive, ConfigError> {
        if !(self.share > 0.0 && self.share <= 1.0) {
            return Err(ConfigError::new("load_shed.share", self.share, "must be above 0 and at most 1"));
        }
        if self.initial == 0 {
            return Err(ConfigError::new("load_shed.initial", self.initial, "must be at least 1"));
        }
        check_duration("load_shed.deadline", self.deadline)?;
        let algorithm = self.algorithm.unwrap_or_else(|| Box::new(Little::new(self.share)));
        Ok(Adaptive::new(algorithm, self.deadline, self.initial as u64, Instant::now()))
    }
}
