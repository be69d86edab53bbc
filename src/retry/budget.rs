mod builder;

pub use builder::RetryBudgetBuilder;

use crate::{
    clock::{Nanos, Origin},
    error::ConfigError,
    held::is_held,
    rate_limit::TokenBucket,
    sync::{AtomicU64, Mutex, Ordering, lock},
};
use builder::{DEFAULT_FLOOR, quota};
use rand::RngExt;
use std::{fmt, sync::Arc};
use tokio::time::Instant;

/// One retry, in the unit of the balance: 2^-32 of a retry.
const RETRY: u64 = 1 << 32;

/// A retry budget: bounds retries to a share of the traffic. Calls earn retries, and retries spend them. All clones
/// share one budget.
///
/// Retries help while few calls fail. While all calls fail, three attempts per call triple the load on a service
/// without spare capacity. A budget bounds the load of retries to a fixed share of the calls, at any failure rate.
///
/// Every call that reaches the service deposits `ratio`, every retry withdraws 1, and the balance never exceeds `cap`.
/// A new budget starts with a random fraction of one retry: of many quiet clients with a budget each, a share can retry
/// their first failure, neither all nor none. [`initial`](RetryBudgetBuilder::initial) gives a short-lived program its
/// retries at once. The `floor` adds a slow trickle of retries for clients with little traffic, and saves at most one
/// of them. The floor's first retry comes at a random instant of the first period.
///
/// The balance is one atomic integer, so no two callers get the same retry. A deposit into a full budget writes
/// nothing. The budget can be [reconfigured](Self::configure) while calls pass.
///
/// ```
/// use std::time::Duration;
/// use steadfast::retry::RetryBudget;
/// use tokio::time::Instant;
///
/// # fn main() -> Result<(), steadfast::ConfigError> {
/// let budget = RetryBudget::builder().ratio(0.5).no_floor().build()?;
/// let now = Instant::now();
/// while budget.withdraw_at(now).is_some() {}
///
/// budget.deposit();
/// budget.deposit();
/// assert!(budget.withdraw_at(now).is_some());
/// # Ok(())
/// # }
/// ```
///
/// # Defaults
///
/// A ratio of 0.1, as in the "Site Reliability Engineering" book (chapter 21): a service that fails all calls gets 10%
/// more load. A cap of 10 retries, the credit of 100 calls. A floor of one retry in 100 seconds: enough for a client
/// with almost no traffic, and in the long run at most 10 calls per second from 1,000 clients.
#[doc(alias("TpsBudget", "retry quota", "retry throttling"))]
#[derive(Clone)]
pub struct RetryBudget {
    shared: Arc<BudgetShared>,
}

struct BudgetShared {
    /// At most `cap`. Relaxed, except where a lower cap must be seen: the balance and the values that change it guard
    /// no other memory, and each change is one atomic step.
    balance: AtomicU64,
    /// The deposit of one call.
    deposit: AtomicU64,
    cap: AtomicU64,
    /// The bucket of the floor. Without a floor, a default bucket that no call uses.
    floor: TokenBucket,
    /// When the floor starts, in nanoseconds since the origin; `NO_FLOOR` for never.
    floor_from: AtomicU64,
    origin: Origin,
    /// The configuration. Every change holds this lock.
    configuration: Mutex<RetryBudgetBuilder>,
}

const NO_FLOOR: u64 = u64::MAX;

/// One retry that was withdrawn from a [`RetryBudget`], and its origin, for [`RetryBudget::refund`].
///
/// Plain data: dropping it spends the retry.
#[derive(Debug)]
#[must_use = "a withdrawal that is not used for a retry should be refunded"]
pub struct Withdrawal(Source);

#[derive(Debug)]
#[repr(u64)]
enum Source {
    Balance,
    Floor,
}

impl RetryBudget {
    /// Returns a builder.
    pub fn builder() -> RetryBudgetBuilder {
        RetryBudgetBuilder::default()
    }

    fn new(configuration: RetryBudgetBuilder) -> Result<Self, ConfigError> {
        let floor = configuration.check()?;
        let bucket = TokenBucket::with_quota(floor.unwrap_or(quota(DEFAULT_FLOOR.0, DEFAULT_FLOOR.1))).build()?;
        if floor.is_some() {
            bucket.spend_a_fraction(&configuration.random);
        }
        let balance = configuration.balance_at_first()?;
        Ok(Self {
            shared: Arc::new(BudgetShared {
                balance: AtomicU64::new(balance),
                deposit: AtomicU64::new(configuration.deposit()),
                cap: AtomicU64::new(configuration.most()),
                floor: bucket,
                floor_from: AtomicU64::new(if floor.is_some() { 0 } else { NO_FLOOR }),
                origin: Origin::at(Instant::now()),
                configuration: Mutex::new(configuration),
            }),
        })
    }

    /// Changes the configuration while calls pass.
    ///
    /// - The balance stays, up to the new cap. Earlier withdrawals can still be refunded. The
    ///   [`initial`](RetryBudgetBuilder::initial) retries in `to` are ignored.
    /// - The floor's saved retry stays. A floor that is added gives its first retry at a random instant of its first
    ///   period, as in a new budget. 1,000 clients that are reconfigured at once therefore do not retry at once. The
    ///   instant is drawn from the generator in `to`. Otherwise the budget keeps its own generator.
    /// - A call during the change may deposit the old share up to the new cap, or the new share up to the old cap. The
    ///   budget removes any excess over the new cap at once.
    ///
    /// Applying the configuration in force changes nothing and costs one lock.
    ///
    /// ```
    /// use steadfast::retry::RetryBudget;
    ///
    /// # fn main() -> Result<(), steadfast::ConfigError> {
    /// let budget = RetryBudget::builder().ratio(1.0).cap(10).no_floor().build()?;
    /// (0..20).for_each(|_| budget.deposit());
    /// assert_eq!(budget.balance(), 10.0);
    ///
    /// let smaller = budget.configuration().cap(4);
    /// budget.configure(smaller.clone())?;
    /// assert_eq!(budget.configuration(), smaller);
    /// assert_eq!(budget.balance(), 4.0);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// The errors of [`build`](RetryBudgetBuilder::build); the old configuration then stays.
    pub fn configure(&self, to: RetryBudgetBuilder) -> Result<(), ConfigError> {
        let floor = to.check()?;
        let shared = &*self.shared;
        let mut configuration = lock(&shared.configuration);
        if *configuration == to {
            return Ok(());
        }
        match floor {
            None => shared.floor_from.store(NO_FLOOR, Ordering::Relaxed),
            Some(quota) => {
                let now = Instant::now();
                shared.floor.set_quota_at(quota, now)?;
                if configuration.floor.is_none() {
                    // By then the bucket may be full: that is the first retry, and the next one follows a period later.
                    let wait = to.random.with(|random| random.random_range(0..=Nanos::of(quota.time_to_fill()).0));
                    let from = shared.origin.to(now).saturating_add(Nanos(wait)).0.min(NO_FLOOR - 1);
                    shared.floor_from.store(from, Ordering::Relaxed);
                }
            }
        }
        // A deposit reads two words, possibly of two configurations. Each was in force at one moment of the change.
        shared.deposit.store(to.deposit(), Ordering::Relaxed);
        shared.cap.store(to.most(), Ordering::Relaxed);
        // A deposit that follows this step in the order of the balance acquires the new cap with it, see `add`.
        shared.balance.fetch_min(to.most(), Ordering::AcqRel);
        *configuration =
            RetryBudgetBuilder { initial: configuration.initial, random: configuration.random.clone(), ..to };
        Ok(())
    }

    /// Returns the configuration in force: that of [`build`](RetryBudgetBuilder::build) or of the last
    /// [`configure`](Self::configure), with the initial retries and the generator of the former.
    pub fn configuration(&self) -> RetryBudgetBuilder {
        lock(&self.shared.configuration).clone()
    }

    /// Records one call.
    #[inline]
    pub fn deposit(&self) {
        self.add(self.shared.deposit.load(Ordering::Relaxed));
    }

    /// Withdraws one retry now, by tokio's clock, if there is one: an earned one first, then one of the floor.
    pub fn withdraw(&self) -> Option<Withdrawal> {
        self.withdraw_by(Instant::now)
    }

    /// Withdraws one retry at `now`, if there is one: an earned one first, then one of the floor.
    #[inline]
    pub fn withdraw_at(&self, now: Instant) -> Option<Withdrawal> {
        self.withdraw_by(|| now)
    }

    /// Reads the clock only for the floor.
    #[inline]
    fn withdraw_by(&self, now: impl FnOnce() -> Instant) -> Option<Withdrawal> {
        let shared = &*self.shared;
        let less = |balance: u64| balance.checked_sub(RETRY);
        if shared.balance.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).is_ok() {
            return Some(Withdrawal(Source::Balance));
        }
        let from = shared.floor_from.load(Ordering::Relaxed);
        if from == NO_FLOOR {
            return None;
        }
        let now = now();
        if shared.origin.to(now).0 < from {
            return None;
        }
        shared.floor.try_acquire_at(1, now).ok().map(|()| Withdrawal(Source::Floor))
    }

    /// Refunds a retry that did not reach the service.
    pub fn refund(&self, withdrawal: Withdrawal) {
        match withdrawal.0 {
            // Also if there is no floor any more: no call gets the retry unless a floor is added again.
            Source::Floor => self.shared.floor.refund(1),
            Source::Balance => self.add(RETRY),
        }
    }

    /// Returns the address of the state that all handles share.
    pub(crate) fn address(&self) -> usize {
        crate::held::address(&self.shared)
    }

    /// Returns whether there is another handle.
    pub(crate) fn is_shared(&self) -> bool {
        is_held(&self.shared)
    }

    /// Returns whether the balance is at least that of a new budget, so that its owner would gain nothing from a new
    /// one.
    pub(crate) fn is_as_good_as_new(&self) -> bool {
        let initial = lock(&self.shared.configuration).initial.unwrap_or(1);
        self.shared.balance.load(Ordering::Relaxed) >= u64::from(initial) * RETRY
    }

    /// Returns the balance: the earned retries with their fraction, without the floor's retry.
    pub fn balance(&self) -> f64 {
        self.shared.balance.load(Ordering::Relaxed) as f64 / RETRY as f64
    }

    #[inline]
    fn add(&self, amount: u64) {
        let BudgetShared { balance, cap, .. } = &*self.shared;
        let most = cap.load(Ordering::Relaxed);
        let mut present = balance.load(Ordering::Relaxed);
        while present < most {
            let more = present.saturating_add(amount).min(most);
            match balance.compare_exchange_weak(present, more, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) => {
                    // A thread that lowers the cap lowers the balance after it. If that is before this deposit, the
                    // deposit has acquired the new cap; if it is after, the thread lowers this deposit too.
                    let newer = cap.load(Ordering::Relaxed);
                    if more > newer {
                        balance.fetch_min(newer, Ordering::AcqRel);
                    }
                    return;
                }
                Err(newer) => present = newer,
            }
        }
    }
}

impl fmt::Debug for RetryBudget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RetryBudget").field("balance", &self.balance()).finish_non_exhaustive()
    }
}
