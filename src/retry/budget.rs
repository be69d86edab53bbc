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

/// One retry. The balance counts in units of 2^-32 of a retry.
const RETRY: u64 = 1 << 32;

/// A retry budget: bounds retries to a share of the traffic. Calls earn retries, and retries spend them. All clones
/// share one budget.
///
/// Retries help while few calls fail. While all calls fail, three attempts per call triple the load on a service
/// without spare capacity. A budget bounds the load of retries to a fixed share of the calls, at any failure rate.
///
/// Every call that reaches the service deposits `ratio`, up to a balance of `cap`. Every retry withdraws 1 from the
/// balance. If the balance is below 1, the retry comes from the `floor`. Each new budget starts with its own random
/// fraction of one retry. The fraction and the first deposits make a whole retry after a different number of calls in
/// each client. After a deployment, quiet clients therefore do not all retry at once.
/// [`initial`](RetryBudgetBuilder::initial) gives a short-lived program its retries at once.
///
/// The `floor` adds a slow trickle of retries for clients with little traffic. At most one of these retries can be
/// saved up. The first one comes at a random instant within the time that the floor takes for one retry.
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
/// with almost no traffic. In the long run, the floors of 1,000 clients allow at most 10 retries per second.
#[doc(alias("TpsBudget", "retry quota", "retry throttling"))]
#[derive(Clone)]
pub struct RetryBudget {
    shared: Arc<BudgetShared>,
}

struct BudgetShared {
    /// At most `cap`, except for a moment while `configure` lowers the cap. Relaxed, because the balance guards no
    /// other memory and each change is one atomic step. Only `configure` and `add_up_to_cap` use acquire and release: a
    /// deposit after a lowered cap must see the new cap.
    balance: AtomicU64,
    /// The deposit of one call, in units of the balance.
    deposit: AtomicU64,
    /// The most that the balance can be, in its units.
    cap: AtomicU64,
    /// The floor's bucket. Without a floor no call takes from it; a refund may still reach it.
    floor: TokenBucket,
    /// When the floor starts, in nanoseconds since the origin; `NO_FLOOR` for never.
    floor_starts_at: AtomicU64,
    origin: Origin,
    /// The configuration. Every change holds this lock. Its initial retries are those of `build`.
    configuration: Mutex<RetryBudgetBuilder>,
}

const NO_FLOOR: u64 = u64::MAX;

/// One retry that was withdrawn from a [`RetryBudget`]. It states whether it came from the balance or from the floor,
/// so that [`RetryBudget::refund`] returns it there.
///
/// Plain data: dropping it spends the retry.
#[derive(Debug)]
#[must_use = "a withdrawal that is not used for a retry should be refunded"]
pub struct Withdrawal(WithdrawnFrom);

#[derive(Debug)]
#[repr(u64)]
enum WithdrawnFrom {
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
        let balance = configuration.initial_balance()?;
        Ok(Self {
            shared: Arc::new(BudgetShared {
                balance: AtomicU64::new(balance),
                deposit: AtomicU64::new(configuration.deposit()),
                cap: AtomicU64::new(configuration.cap_in_units()),
                floor: bucket,
                floor_starts_at: AtomicU64::new(if floor.is_some() { 0 } else { NO_FLOOR }),
                origin: Origin::at(Instant::now()),
                configuration: Mutex::new(configuration),
            }),
        })
    }

    /// Changes the configuration while calls pass.
    ///
    /// - The balance stays, up to the new cap. Earlier withdrawals can still be refunded. The
    ///   [`initial`](RetryBudgetBuilder::initial) retries in `to` are ignored.
    /// - The floor's saved retry stays. A floor that is added gives its first retry at a random instant, as in a new
    ///   budget. The instant lies within the time that the floor takes for one retry. 1,000 clients that are
    ///   reconfigured at once therefore do not retry at once. `configure` draws this instant from the generator in
    ///   `to`. For everything else the budget keeps its own generator.
    /// - A deposit during the change may use the old ratio with the new cap, or the new ratio with the old cap. The
    ///   budget removes any excess over the new cap at once.
    ///
    /// A call with the configuration that is already in force changes nothing and takes one lock.
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
    /// The errors of [`build`](RetryBudgetBuilder::build), except for the initial retries, which are ignored. After an
    /// error the old configuration stays.
    pub fn configure(&self, to: RetryBudgetBuilder) -> Result<(), ConfigError> {
        let floor = to.check()?;
        let shared = &*self.shared;
        let mut configuration = lock(&shared.configuration);
        if *configuration == to {
            return Ok(());
        }
        match floor {
            None => shared.floor_starts_at.store(NO_FLOOR, Ordering::Relaxed),
            Some(quota) => {
                let now = Instant::now();
                shared.floor.set_quota_at(quota, now)?;
                if configuration.floor.is_none() {
                    // The floor gives nothing before `from`. If its bucket is full at `from`, the first retry is due at
                    // `from`. The next one is due as soon as the bucket has filled again.
                    let wait = to.random.with(|random| random.random_range(0..=Nanos::of(quota.time_to_fill()).0));
                    let from = shared.origin.to(now).saturating_add(Nanos(wait)).0.min(NO_FLOOR - 1);
                    shared.floor_starts_at.store(from, Ordering::Relaxed);
                }
            }
        }
        // A deposit reads `deposit` and `cap` one after the other, so it may read them from two configurations. Each
        // value was in force at some moment of the change.
        shared.deposit.store(to.deposit(), Ordering::Relaxed);
        shared.cap.store(to.cap_in_units(), Ordering::Relaxed);
        // A deposit that changes the balance after this `fetch_min` acquires the new cap: see `add_up_to_cap`.
        shared.balance.fetch_min(to.cap_in_units(), Ordering::AcqRel);
        *configuration =
            RetryBudgetBuilder { initial: configuration.initial, random: configuration.random.clone(), ..to };
        Ok(())
    }

    /// Returns the configuration in force: that of [`build`](RetryBudgetBuilder::build) or of the last
    /// [`configure`](Self::configure). The initial retries and the generator are always those of `build`. If the cap is
    /// now below the initial retries, the result has `cap` as its initial retries, because `build` refuses more.
    pub fn configuration(&self) -> RetryBudgetBuilder {
        let configuration = lock(&self.shared.configuration).clone();
        RetryBudgetBuilder { initial: configuration.initial_up_to_cap(), ..configuration }
    }

    /// Records one call that has reached the service. It earns the [`ratio`](RetryBudgetBuilder::ratio) of a retry.
    #[inline]
    pub fn deposit(&self) {
        self.add_up_to_cap(self.shared.deposit.load(Ordering::Relaxed));
    }

    /// Withdraws one retry now, by tokio's clock, if there is one: from the balance, or else from the floor.
    pub fn withdraw(&self) -> Option<Withdrawal> {
        self.withdraw_by(Instant::now)
    }

    /// Withdraws one retry at `now`, if there is one: from the balance, or else from the floor.
    #[inline]
    pub fn withdraw_at(&self, now: Instant) -> Option<Withdrawal> {
        self.withdraw_by(|| now)
    }

    /// Withdraws one retry. Reads the clock only if the balance has no whole retry, and there is a floor.
    #[inline]
    fn withdraw_by(&self, now: impl FnOnce() -> Instant) -> Option<Withdrawal> {
        let shared = &*self.shared;
        let minus_one = |balance: u64| balance.checked_sub(RETRY);
        if shared.balance.fetch_update(Ordering::Relaxed, Ordering::Relaxed, minus_one).is_ok() {
            return Some(Withdrawal(WithdrawnFrom::Balance));
        }
        let starts_at = shared.floor_starts_at.load(Ordering::Relaxed);
        if starts_at == NO_FLOOR {
            return None;
        }
        let now = now();
        if shared.origin.to(now).0 < starts_at {
            return None;
        }
        shared.floor.try_acquire_at(1, now).ok().map(|()| Withdrawal(WithdrawnFrom::Floor))
    }

    /// Refunds a retry that did not reach the service.
    pub fn refund(&self, withdrawal: Withdrawal) {
        match withdrawal.0 {
            // Refunds even if the floor was removed. No call can take the retry until a floor is added again.
            WithdrawnFrom::Floor => self.shared.floor.refund(1),
            WithdrawnFrom::Balance => self.add_up_to_cap(RETRY),
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

    /// Returns whether no new budget of this configuration could start with a higher balance. A new budget starts with
    /// its initial retries. If they are not set, it starts with a random fraction of one retry, so this balance must be
    /// at least 1.
    pub(crate) fn is_as_good_as_new(&self) -> bool {
        let initial = lock(&self.shared.configuration).initial_up_to_cap().unwrap_or(1);
        self.shared.balance.load(Ordering::Relaxed) >= u64::from(initial) * RETRY
    }

    /// Returns the balance: the earned and initial retries that are left, with their fraction, without the floor's
    /// retry.
    pub fn balance(&self) -> f64 {
        self.shared.balance.load(Ordering::Relaxed) as f64 / RETRY as f64
    }

    #[inline]
    fn add_up_to_cap(&self, amount: u64) {
        let BudgetShared { balance, cap, .. } = &*self.shared;
        let first_cap = cap.load(Ordering::Relaxed);
        let mut present = balance.load(Ordering::Relaxed);
        while present < first_cap {
            let raised = present.saturating_add(amount).min(first_cap);
            match balance.compare_exchange_weak(present, raised, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) => {
                    // `configure` stores a lower cap, then lowers the balance. If it lowered the balance before this
                    // deposit, the load below sees the new cap. If it lowers the balance later, it lowers this deposit
                    // too.
                    let current_cap = cap.load(Ordering::Relaxed);
                    if raised > current_cap {
                        balance.fetch_min(current_cap, Ordering::AcqRel);
                    }
                    return;
                }
                Err(current_balance) => present = current_balance,
            }
        }
    }
}

impl fmt::Debug for RetryBudget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RetryBudget").field("balance", &self.balance()).finish_non_exhaustive()
    }
}
