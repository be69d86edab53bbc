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

/// One retry, in the units of the balance: fractions of 2^-32.
const RETRY: u64 = 1 << 32;

/// A share of the traffic that may be retries: earned by calls, spent by retries, shared by all clones.
///
/// Retries are useful while few calls fail, and the end of a service when all do: three tries per call are three times
/// the load, exactly when there is no room for it. A budget bounds the load that retries add to a fixed share of the
/// calls, however many fail.
///
/// Every call that is brought to the service deposits `ratio`; every retry withdraws 1; the balance never exceeds
/// `cap`. It starts at a random fraction of one retry, so that many quiet clients with a budget each start neither with
/// a retry for everyone nor with none; [`initial`](RetryBudgetBuilder::initial) gives a program that lives for few
/// calls its retries at once. Beside what is earned there is a `floor`: a slow trickle of retries for clients with
/// hardly any traffic, of which one is saved at the most. The first comes at a random instant of the first period.
///
/// All in integers on one atomic: no two callers get the same earned retry. A deposit into a full budget writes
/// nothing. It can be [reconfigured](Self::configure) while calls pass.
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
/// A ratio of 0.1, as in the "Site Reliability Engineering" book (chapter 21): a service that fails altogether sees 10%
/// more load. A cap of 10 retries, the credit of 100 calls. A floor of one retry in 100 seconds: enough for a client
/// with next to no traffic, and in the long run no more than 10 calls per second from a thousand of them.
#[derive(Clone)]
pub struct RetryBudget {
    shared: Arc<BudgetShared>,
}

struct BudgetShared {
    /// At most `cap`. It and what it is changed by guard no other memory, and each change is one atomic step: all is
    /// relaxed but where a cap that falls has to be seen.
    balance: AtomicU64,
    /// What a call earns.
    deposit: AtomicU64,
    cap: AtomicU64,
    /// The bucket of the floor; of the default one, which no call asks, while there is none.
    floor: TokenBucket,
    /// From when on the floor is asked, in nanoseconds since the origin; `NO_FLOOR` for never.
    floor_from: AtomicU64,
    origin: Origin,
    /// The configuration. Its lock is held to change it.
    configuration: Mutex<RetryBudgetBuilder>,
}

const NO_FLOOR: u64 = u64::MAX;

/// One retry that was withdrawn from a [`RetryBudget`]: where it came from, for [`RetryBudget::refund`].
///
/// Plain data: dropping it spends it.
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
    /// A budget to configure.
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

    /// Follows another configuration from now on, while calls pass.
    ///
    /// - The balance stays, up to the new cap. What was withdrawn can still be refunded. The
    ///   [`initial`](RetryBudgetBuilder::initial) retries in `to` are ignored.
    /// - What the floor has saved stays. A floor that is added gives its first retry at a random instant of its first
    ///   period, as in a new budget: a thousand clients that are reconfigured at once do not retry at once. The instant
    ///   is drawn from the generator in `to`, which is not used otherwise: the budget keeps its own.
    /// - A call that is recorded meanwhile may deposit the old share up to the new cap, or the new share up to the old
    ///   cap; what exceeds the new one is taken away at once.
    ///
    /// The same configuration again changes nothing, costs one lock, and disturbs no call.
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
    /// As [`build`](RetryBudgetBuilder::build); the old configuration stays.
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
                    // By then the bucket may be full: that is the first retry, and the next one comes a period later.
                    let wait = to.random.with(|random| random.random_range(0..=Nanos::of(quota.time_to_fill()).0));
                    let from = shared.origin.to(now).saturating_add(Nanos(wait)).0.min(NO_FLOOR - 1);
                    shared.floor_from.store(from, Ordering::Relaxed);
                }
            }
        }
        // A deposit reads two words, which may be of two configurations: each is right at one moment of the change.
        shared.deposit.store(to.deposit(), Ordering::Relaxed);
        shared.cap.store(to.most(), Ordering::Relaxed);
        // A deposit that comes after this one in the order of the balance acquires the cap with it, see `add`.
        shared.balance.fetch_min(to.most(), Ordering::AcqRel);
        *configuration =
            RetryBudgetBuilder { initial: configuration.initial, random: configuration.random.clone(), ..to };
        Ok(())
    }

    /// The configuration in force: the one given to [`build`](RetryBudgetBuilder::build), or last to
    /// [`configure`](Self::configure), with the initial retries and the generator of the former.
    pub fn configuration(&self) -> RetryBudgetBuilder {
        lock(&self.shared.configuration).clone()
    }

    /// Records one call.
    #[inline]
    pub fn deposit(&self) {
        self.add(self.shared.deposit.load(Ordering::Relaxed));
    }

    /// Takes one retry now, by tokio's clock, if there is one: an earned one first, then one of the floor's.
    pub fn withdraw(&self) -> Option<Withdrawal> {
        self.withdraw_by(Instant::now)
    }

    /// Takes one retry at `now`, if there is one: an earned one first, then one of the floor's.
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

    /// Gives back a retry that was not sent to the service.
    pub fn refund(&self, withdrawal: Withdrawal) {
        match withdrawal.0 {
            // Also of a floor that there is no more: no call has it unless one is added again.
            Source::Floor => self.shared.floor.refund(1),
            Source::Balance => self.add(RETRY),
        }
    }

    /// The address of what all its handles share.
    pub(crate) fn address(&self) -> usize {
        crate::held::address(&self.shared)
    }

    /// Whether there is another handle of it.
    pub(crate) fn is_shared(&self) -> bool {
        is_held(&self.shared)
    }

    /// Whether it holds at least what a new one begins with: its owner would gain nothing by a new one.
    pub(crate) fn is_as_good_as_new(&self) -> bool {
        let initial = lock(&self.shared.configuration).initial.unwrap_or(1);
        self.shared.balance.load(Ordering::Relaxed) >= u64::from(initial) * RETRY
    }

    /// The earned retries at hand, with their fraction. The floor's are not in it.
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
                    // A thread that lowers the cap meanwhile lowers the balance after it: before this deposit, which
                    // then has acquired the new cap, or after it.
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
