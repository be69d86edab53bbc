use crate::{
    error::{ConfigError, check_duration},
    random::Random,
    rate_limit::TokenBucket,
    sync::{AtomicU64, Ordering},
};
use rand::RngExt;
use std::{fmt, sync::Arc, time::Duration};
use tokio::time::Instant;

/// One retry, in the units of the balance: fractions of 2^-32.
const RETRY: u64 = 1 << 32;

/// A share of the traffic that may be retries: earned by calls, spent by retries, shared by whoever holds a clone.
///
/// Retries are useful while few calls fail, and the end of a service when all do: three tries per call are three times
/// the load, exactly when there is no room for it. A budget bounds the load that retries add to a fixed share of the
/// calls, however many fail.
///
/// Every call that is brought to the service deposits `ratio`; every retry withdraws 1; the balance never exceeds
/// `cap`. It starts at a random fraction of one retry, so that many quiet clients with a budget each start neither with a
/// retry for everyone nor with none. Beside what is earned there is a `floor`: a slow trickle of retries for clients with
/// hardly any traffic, of which one is saved at the most. The first comes at a random instant of the first period.
///
/// All in integers on one atomic: no two callers get the same earned retry. A deposit into a full budget writes
/// nothing.
///
/// ```
/// use std::time::Duration;
/// use steadfast::retry::RetryBudget;
/// use tokio::time::Instant;
///
/// # fn main() -> Result<(), steadfast::ConfigError> {
/// let budget = RetryBudget::builder().ratio(0.5).no_floor().build()?;
/// let now = Instant::now();
/// while budget.withdraw(now).is_some() {}
///
/// budget.deposit();
/// budget.deposit();
/// assert!(budget.withdraw(now).is_some());
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
    shared: Arc<Shared>,
}

struct Shared {
    /// At most `cap`. Relaxed throughout: the balance guards no other memory, and each change is one atomic step.
    balance: AtomicU64,
    deposit: u64,
    cap: u64,
    floor: Option<TokenBucket>,
}

/// One retry that was withdrawn from a [`RetryBudget`]: where it came from, for [`RetryBudget::refund`].
///
/// Plain data: dropping it spends it.
#[derive(Debug)]
#[must_use = "a withdrawal that is not used for a retry should be refunded"]
pub struct Withdrawal(Source);

#[derive(Debug)]
enum Source {
    Balance,
    Floor,
}

impl RetryBudget {
    /// A budget to configure.
    pub fn builder() -> RetryBudgetBuilder {
        RetryBudgetBuilder::default()
    }

    /// Records one call.
    #[inline]
    pub fn deposit(&self) {
        self.add(self.shared.deposit);
    }

    /// Takes one retry, if there is one: an earned one first, then one of the floor's.
    #[inline]
    pub fn withdraw(&self, now: Instant) -> Option<Withdrawal> {
        let taken = self
            .shared
            .balance
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |balance| balance.checked_sub(RETRY));
        if taken.is_ok() {
            return Some(Withdrawal(Source::Balance));
        }
        let floor = self.shared.floor.as_ref()?;
        floor.try_acquire_at(1, now).ok().map(|()| Withdrawal(Source::Floor))
    }

    /// Gives back a retry that was not sent to the service.
    pub fn refund(&self, withdrawal: Withdrawal) {
        match (withdrawal.0, &self.shared.floor) {
            (Source::Floor, Some(floor)) => floor.refund(1),
            (Source::Balance, _) | (Source::Floor, None) => self.add(RETRY),
        }
    }

    /// The earned retries at hand, with their fraction. The floor's are not in it.
    pub fn balance(&self) -> f64 {
        self.shared.balance.load(Ordering::Relaxed) as f64 / RETRY as f64
    }

    #[inline]
    fn add(&self, amount: u64) {
        let cap = self.shared.cap;
        let mut balance = self.shared.balance.load(Ordering::Relaxed);
        while balance < cap {
            let more = balance.saturating_add(amount).min(cap);
            match self.shared.balance.compare_exchange_weak(balance, more, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return,
                Err(newer) => balance = newer,
            }
        }
    }
}

impl fmt::Debug for RetryBudget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RetryBudget").field("balance", &self.balance()).finish_non_exhaustive()
    }
}

/// Configures a [`RetryBudget`].
#[derive(Clone, Debug)]
#[must_use]
pub struct RetryBudgetBuilder {
    ratio: f64,
    cap: u32,
    floor: Option<(u64, Duration)>,
    random: Random,
}

impl Default for RetryBudgetBuilder {
    fn default() -> Self {
        Self { ratio: 0.1, cap: 10, floor: Some((1, Duration::from_secs(100))), random: Random::new() }
    }
}

impl RetryBudgetBuilder {
    /// How many retries each call earns: 0.1 allows one retry for every ten calls. From 0 to 100, exact to 1 in 10^9.
    pub fn ratio(self, ratio: f64) -> Self {
        Self { ratio, ..self }
    }

    /// The most retries that can be saved up. At least 1.
    pub fn cap(self, cap: u32) -> Self {
        Self { cap, ..self }
    }

    /// Allows `retries` per `period` beside what is earned.
    pub fn floor(self, retries: u64, period: Duration) -> Self {
        Self { floor: Some((retries, period)), ..self }
    }

    /// Allows only what is earned.
    pub fn no_floor(self) -> Self {
        Self { floor: None, ..self }
    }

    /// Draws the balance at the start from this generator.
    pub fn random(self, random: Random) -> Self {
        Self { random, ..self }
    }

    /// The budget.
    ///
    /// # Errors
    ///
    /// The ratio must be a number from 0 to 100, the cap at least 1, the floor's period within the bounds of all
    /// durations and its rate within those of a [`TokenBucket`].
    pub fn build(self) -> Result<RetryBudget, ConfigError> {
        if !(0.0..=100.0).contains(&self.ratio) {
            return Err(ConfigError::new("retry.budget.ratio", self.ratio, "must be a number from 0 to 100"));
        }
        if self.cap == 0 {
            return Err(ConfigError::new("retry.budget.cap", self.cap, "must be at least 1"));
        }
        let floor = match self.floor {
            None => None,
            Some((0, _)) => {
                return Err(ConfigError::new("retry.budget.floor", 0, "must be at least 1; `no_floor` has none"));
            }
            Some((retries, period)) => {
                check_duration("retry.budget.floor", period)?;
                let floor = TokenBucket::builder(retries, period).burst(1).build().map_err(|_| {
                    let rule = "must be at most one per nanosecond";
                    ConfigError::new("retry.budget.floor", retries, rule)
                })?;
                floor.spend_a_fraction(&self.random);
                Some(floor)
            }
        };
        Ok(RetryBudget {
            shared: Arc::new(Shared {
                balance: AtomicU64::new(self.random.with(|random| random.random_range(0..RETRY))),
                deposit: (self.ratio * RETRY as f64).round() as u64,
                cap: u64::from(self.cap) * RETRY,
                floor,
            }),
        })
    }
}
