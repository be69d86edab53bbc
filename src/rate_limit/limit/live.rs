//! Limits whose quotas can change while calls pass.

use crate::{
    error::ConfigError,
    rate_limit::{
        bucket::{InLine, Owing, TokenBucket},
        distributed::{DistributedByKey, Exact, Leased, WriteBehind},
        keyed::{ByKey, Keyed, check_tiers},
        quota::Quota,
        window::{SlidingWindow, check_limit},
    },
};
use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

/// A limit whose quotas can change while calls pass: a single quota, or one for each tier. A
/// [`Limit`](crate::rate_limit::Limit) of your own implements it to be part of a [live stack](crate::stack::live).
pub trait LiveLimit {
    /// Returns a handle that shares the state of this limit: a clone, without the functions that read requests.
    /// Allocates one box.
    fn handle(&self) -> Box<dyn LiveLimit + Send + Sync>;

    /// Returns the quotas in force.
    fn quotas(&self) -> Vec<Quota>;

    /// Checks whether the limit can change to these quotas. Changes nothing.
    ///
    /// # Errors
    ///
    /// The error names the rule and the wrong field: `rate_limit.count`, `rate_limit.period` or `rate_limit.burst`. If
    /// there are too many or too few quotas, or if the quotas of the limit cannot change, it names `rate_limit.quotas`.
    fn check_quotas(&self, quotas: &[Quota]) -> Result<(), ConfigError>;

    /// Returns the quotas that admit only what both `now` and `to` admit. Both are checked and have one quota for each
    /// tier. `None` if the limit changes in one step.
    #[doc(hidden)]
    fn strictest(&self, _now: &[Quota], _to: &[Quota]) -> Option<Vec<Quota>> {
        None
    }

    /// Changes to these quotas, which were checked. Calls pass during the change: the limit must decide each of them by
    /// the old quotas or by the new ones. The method must return soon, because a reload may wait for it.
    fn set_quotas(&self, quotas: &[Quota]);

    /// Finishes a change, while calls pass. It may take longer than [`set_quotas`](Self::set_quotas).
    fn settle_quotas(&self) {}
}

/// The shadow mode: whether a limit only counts the calls that it would refuse.
#[doc(hidden)]
#[derive(Clone, Debug, Default)]
pub struct Shadow(Arc<AtomicBool>);

impl Shadow {
    /// Relaxed, here and below: the flag guards no other memory.
    #[inline]
    pub(in crate::rate_limit) fn is_on(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    pub(in crate::rate_limit) fn set(&self, is_on: bool) {
        self.0.store(is_on, Ordering::Relaxed);
    }

    /// Returns whether both are handles of one flag.
    pub(in crate::rate_limit) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

/// Returns the single quota of a limit without tiers.
fn single_quota(quotas: &[Quota]) -> Result<Quota, ConfigError> {
    match quotas {
        [quota] => Ok(*quota),
        _ => {
            Err(ConfigError::new("rate_limit.quotas", quotas.len(), "must be 1 quota, because the limit has no tiers"))
        }
    }
}

/// Returns for each tier the quota that admits only what both the tier's quota in `now` and its quota in `to` admit.
fn strictest(now: &[Quota], to: &[Quota]) -> Option<Vec<Quota>> {
    Some(now.iter().zip(to).map(|(now, to)| now.strictest(*to)).collect())
}

impl LiveLimit for TokenBucket {
    fn handle(&self) -> Box<dyn LiveLimit + Send + Sync> {
        Box::new(self.clone())
    }

    fn quotas(&self) -> Vec<Quota> {
        vec![self.quota()]
    }

    fn check_quotas(&self, quotas: &[Quota]) -> Result<(), ConfigError> {
        single_quota(quotas)?.check()
    }

    fn strictest(&self, now: &[Quota], to: &[Quota]) -> Option<Vec<Quota>> {
        strictest(now, to)
    }

    fn set_quotas(&self, quotas: &[Quota]) {
        // The caller has checked the quotas.
        if let Ok(quota) = single_quota(quotas) {
            self.set_quota_quietly(quota);
        }
    }

    fn settle_quotas(&self) {
        self.wake_pending();
    }
}

/// Implements [`LiveLimit`] for a distributed limit with one quota. Such a limit changes in one step.
macro_rules! live_with_one_quota {
    ($($limit:ty),*) => {
        $(impl LiveLimit for $limit {
            fn handle(&self) -> Box<dyn LiveLimit + Send + Sync> {
                Box::new(self.clone())
            }

            fn quotas(&self) -> Vec<Quota> {
                vec![self.quota()]
            }

            fn check_quotas(&self, quotas: &[Quota]) -> Result<(), ConfigError> {
                single_quota(quotas)?.check()
            }

            fn set_quotas(&self, quotas: &[Quota]) {
                // The caller has checked the quotas.
                let _ = single_quota(quotas).and_then(|quota| self.set_quota(quota));
            }
        })*
    };
}

live_with_one_quota!(Exact, WriteBehind);

/// Implements [`LiveLimit`] for a wrapper around another limit.
macro_rules! live_as_inside {
    ($([$($generics:tt)*] $limit:ty, $inside:tt;)*) => {
        $(impl<$($generics)*> LiveLimit for $limit {
            fn handle(&self) -> Box<dyn LiveLimit + Send + Sync> {
                self.$inside.handle()
            }

            fn quotas(&self) -> Vec<Quota> {
                self.$inside.quotas()
            }

            fn check_quotas(&self, quotas: &[Quota]) -> Result<(), ConfigError> {
                self.$inside.check_quotas(quotas)
            }

            fn strictest(&self, now: &[Quota], to: &[Quota]) -> Option<Vec<Quota>> {
                self.$inside.strictest(now, to)
            }

            fn set_quotas(&self, quotas: &[Quota]) {
                self.$inside.set_quotas(quotas);
            }

            fn settle_quotas(&self) {
                self.$inside.settle_quotas();
            }
        })*
    };
}

live_as_inside! {
    [] Owing, 0;
    [] InLine, 0;
    [D: LiveLimit, F] DistributedByKey<D, F>, limit;
    [K: ?Sized + 'static, T: Send + Sync + 'static, S: Send + Sync + 'static, F] ByKey<K, T, S, F>, keyed;
}

impl LiveLimit for SlidingWindow {
    fn handle(&self) -> Box<dyn LiveLimit + Send + Sync> {
        Box::new(self.clone())
    }

    /// Returns the limit as the count, and the window as the period.
    fn quotas(&self) -> Vec<Quota> {
        vec![Quota::new(self.limit(), self.window())]
    }

    fn check_quotas(&self, quotas: &[Quota]) -> Result<(), ConfigError> {
        let quota = single_quota(quotas)?;
        check_limit("rate_limit.count", quota.count())?;
        check_fixed_window(quota, self.window())
    }

    fn strictest(&self, now: &[Quota], to: &[Quota]) -> Option<Vec<Quota>> {
        strictest(now, to)
    }

    fn set_quotas(&self, quotas: &[Quota]) {
        let _ = single_quota(quotas).and_then(|quota| self.set_limit(quota.count()));
    }
}

/// Checks that a quota of a sliding window has the window as its period, and its count as its burst.
fn check_fixed_window(quota: Quota, window: std::time::Duration) -> Result<(), ConfigError> {
    if quota.period() != window {
        let rule = format!("must stay {window:?}, the window that was built");
        return Err(ConfigError::new("rate_limit.period", quota.period(), rule));
    }
    if quota.burst() != quota.count() {
        let rule = format!("must equal the count of {}, because a sliding window has no other burst", quota.count());
        return Err(ConfigError::new("rate_limit.burst", quota.burst(), rule));
    }
    Ok(())
}

impl<K: ?Sized + 'static, T: Send + Sync + 'static, S: Send + Sync + 'static> LiveLimit for Keyed<K, T, S> {
    fn handle(&self) -> Box<dyn LiveLimit + Send + Sync> {
        Box::new(self.clone())
    }

    fn quotas(&self) -> Vec<Quota> {
        (0..self.tiers()).map(|tier| self.quota(tier)).collect()
    }

    fn check_quotas(&self, quotas: &[Quota]) -> Result<(), ConfigError> {
        if quotas.len() != self.tiers() {
            let rule = format!("must be {}: one quota for each tier that was built", self.tiers());
            return Err(ConfigError::new("rate_limit.quotas", quotas.len(), rule));
        }
        check_tiers(quotas)
    }

    /// Returns `None` unless `now` or `to` is itself the strictest. A change by way of a third set of quotas is two
    /// changes. The second [`set_quotas`](LiveLimit::set_quotas) first converts all buckets that the first one left
    /// unconverted, so it would not return soon.
    fn strictest(&self, now: &[Quota], to: &[Quota]) -> Option<Vec<Quota>> {
        strictest(now, to).filter(|strictest| strictest == now || strictest == to)
    }

    fn set_quotas(&self, quotas: &[Quota]) {
        self.switch_quotas(quotas);
    }

    fn settle_quotas(&self) {
        self.convert_all();
    }
}

impl LiveLimit for Leased {
    fn handle(&self) -> Box<dyn LiveLimit + Send + Sync> {
        Box::new(self.clone())
    }

    /// Returns the limit as the count, and the window as the period.
    fn quotas(&self) -> Vec<Quota> {
        let (limit, window) = self.terms();
        vec![Quota::new(limit, window)]
    }

    fn check_quotas(&self, quotas: &[Quota]) -> Result<(), ConfigError> {
        if quotas != self.quotas() {
            return Err(ConfigError::new(
                "rate_limit.quotas",
                quotas,
                "must stay as built, because leases were granted by these quotas",
            ));
        }
        Ok(())
    }

    fn set_quotas(&self, _quotas: &[Quota]) {}
}
