use super::{
    Limiter,
    adaptive::{Adaptive, Algorithm, Little},
    classes::Classes,
    fair::{Share, Tenants},
    limiter::check,
    signal::{Hysteresis, Signal, Signals, Watched},
    terms::Terms,
};
use crate::{
    context::Criticality,
    error::{ConfigError, check_duration},
};
use std::time::Duration;
use tokio::time::Instant;

/// The ceiling by default: a bound on memory for the time in which nothing is known.
const CEILING: usize = 10_000;
/// The limit while nothing is known, by default: more than most services have in flight when they start, and little
/// enough to be worked off soon.
const INITIAL: usize = 100;
/// The share of the remaining deadline by default. With the slack of two standard deviations a call then ends within
/// about four fifths of its deadline at the limit, and the rest is for the variation of the latency.
const SHARE: f64 = 0.7;
/// The deadline of calls that state none, by default.
const DEADLINE: Duration = Duration::from_secs(1);

/// Configures a [`Limiter`]: made by [`Limiter::adaptive`] and [`Limiter::at_most`].
#[derive(Debug)]
#[must_use]
pub struct LimiterBuilder {
    limit: usize,
    adapts: Option<Adapts>,
    class_shares: Option<[f64; 4]>,
    guarantees: Vec<(Criticality, f64)>,
    fair_share: Option<f64>,
    tenant_seed: Option<u64>,
    signals: Vec<Watched>,
    shadow: bool,
}

/// How a limit finds itself.
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

    /// The most calls in flight, whatever an adaptive limit finds. Default: 10,000, as a bound on memory.
    pub fn ceiling(self, ceiling: usize) -> Self {
        Self { limit: ceiling, ..self }
    }

    /// The least that an adaptive limit is. Default: 1, so that a service that stands still is asked one call at a
    /// time. Without effect on a fixed limit.
    pub fn floor(self, floor: usize) -> Self {
        self.adapting(|adapts| adapts.floor = floor)
    }

    /// The limit of an adaptive limiter until something is known, which takes about ten answers. Default: 100. A service
    /// that has more in flight from its first second on needs more. Without effect on a fixed limit.
    pub fn initial(self, initial: usize) -> Self {
        self.adapting(|adapts| adapts.initial = initial)
    }

    /// The share of its remaining deadline within which a call is to end. Default: 0.7. A smaller one sheds earlier, and
    /// leaves more time for what comes after: other layers, the network. Without effect where another
    /// [`algorithm`](Self::algorithm) finds the limit, or the limit is fixed.
    pub fn share(self, share: f64) -> Self {
        self.adapting(|adapts| adapts.share = share)
    }

    /// The deadline of calls whose [context](crate::CallContext) has none. Default: a second. Without effect on a fixed
    /// limit.
    pub fn deadline(self, deadline: Duration) -> Self {
        self.adapting(|adapts| adapts.deadline = deadline)
    }

    /// Finds the limit by this [`Algorithm`]: [`Aimd`](super::Aimd), [`Gradient`](super::Gradient), or one of your own.
    /// Default: [`Little`](super::Little). Without effect on a fixed limit.
    pub fn algorithm(self, algorithm: impl Algorithm) -> Self {
        self.adapting(|adapts| adapts.algorithm = Some(Box::new(algorithm)))
    }

    /// Lets less critical calls see a lower limit: 50% of it for [`Sheddable`](Criticality::Sheddable), 70% for
    /// [`SheddablePlus`](Criticality::SheddablePlus), 90% for [`Critical`](Criticality::Critical), all of it for
    /// [`CriticalPlus`](Criticality::CriticalPlus). All calls in flight count, of whatever class. Default: all classes
    /// see the same limit.
    pub fn by_criticality(self) -> Self {
        self.class_shares(Classes::BY_CRITICALITY)
    }

    /// Lets each class see this share of the limit, from the least critical to the most critical one. Otherwise as
    /// [`by_criticality`](Self::by_criticality).
    pub fn class_shares(self, shares: [f64; 4]) -> Self {
        Self { class_shares: Some(shares), ..self }
    }

    /// Keeps this share of the limit for one class: no other class fills it, even while it is idle. Default: none.
    ///
    /// With a guarantee the limit is at most 65,535, and up to 65,535 calls of each class are counted by class. Exempt
    /// calls and calls in shadow beyond that are let in. They count toward the limit, but not toward the share of their
    /// class.
    pub fn guarantee(mut self, class: Criticality, share: f64) -> Self {
        self.guarantees.push((class, share));
        self
    }

    /// Refuses a call of a tenant that has at least this share of the places that are free. Default: tenants are not
    /// told apart. Use 1 unless tenants are few.
    ///
    /// Of a limit of 600, one tenant that sends all it can has 300 places with a share of 1, and five have 100 each. The
    /// last sixth is free for tenants that ask for less. A tenant without a call in flight is let in while a place is
    /// free. So a share below 1 leaves more places free for sudden bursts, and less for large tenants.
    ///
    /// The tenant of a call is what [`LoadShed::tenant`](super::LoadShed::tenant) says of the request, or what
    /// [`Limiter::try_acquire_for`] is given. Calls without a tenant are not refused by this rule.
    ///
    /// # Cost
    ///
    /// 16 KiB, for any number of tenants. Four additions more to admit, four subtractions to give back, and four loads
    /// to refuse. The keys are hashed with a secret seed. Where all four cells of a small tenant are shared with others,
    /// it counts as larger than it is.
    pub fn fair_share(self, share: f64) -> Self {
        Self { fair_share: Some(share), ..self }
    }

    /// Hashes tenants by this seed, so that a simulation repeats itself. Default: a secret one. With a seed that is
    /// known, a caller that chooses its own key can choose whose cells it shares.
    pub fn tenant_seed(self, seed: u64) -> Self {
        Self { tenant_seed: Some(seed), ..self }
    }

    /// Lowers the limit while this [`Signal`] says that there is overload: to what is in flight, and by 2% of that every
    /// 10 ms, down to the floor. When no signal says so any more, the limit grows by 1% every 10 ms. Default: no signal.
    ///
    /// `name` is for [`Readings`](super::Readings). The signal is read by a call that arrives, at most every 10 ms.
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

    /// Begins in [shadow](Limiter#shadow-mode). Default: in force.
    pub fn shadow(self) -> Self {
        Self { shadow: true, ..self }
    }

    /// The limiter, with no call in flight.
    ///
    /// # Errors
    ///
    /// The limit, the floor and the initial limit must be at least 1, and the floor at most the ceiling; the share above 0 and at most 1;
    /// the deadline longer than zero and at most 366 days; the shares of the classes above 0 and at most 1, and none
    /// below that of a less critical class; the guarantees from 0 to 1, and together at most 1; the fair
    /// share above 0 and at most 1.
    pub fn build(self) -> Result<Limiter, ConfigError> {
        check(self.limit)?;
        let mut classes = Classes::default();
        if let Some(shares) = self.class_shares {
            classes.see(shares)?;
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
        let terms = Terms { adaptive, floor: floor as u64, classes, refusals: Default::default(), tenants, signals };
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
