//! Rate limits that are told other quotas while calls pass.

use super::both::Both;
use crate::{
    error::ConfigError,
    rate_limit::{
        bucket::{InLine, Owing, TokenBucket},
        distributed::{DistributedByKey, Exact, Leased, WriteBehind},
        keyed::{ByKey, check_tiers},
        layer::RateLimit,
        quota::Quota,
        stage::RateLimitStage,
        window::{SlidingWindow, check_limit},
    },
    stack::live::{Configure, Mechanisms, RateLimitConfig, StackConfig},
};
use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

/// A limit whose quotas can be changed while calls pass: one, or one for each tier. For a [`Limit`](crate::rate_limit::Limit) of your
/// own in a [live stack](crate::stack::live).
pub trait LiveLimit {
    /// The quotas in force.
    fn quotas(&self) -> Vec<Quota>;

    /// Whether it can go by these. Nothing changes.
    ///
    /// # Errors
    ///
    /// What is wrong with them.
    fn check_quotas(&self, quotas: &[Quota]) -> Result<(), ConfigError>;

    /// Goes by these, which were found to be right. No call passes meanwhile, and so it must be short.
    fn set_quotas(&self, quotas: &[Quota]);

    /// Does what is left to do after a change, and may take longer, while calls pass.
    fn settle_quotas(&self) {}
}

/// A limit that is made of one or several [`LiveLimit`]s, each with its shadow mode.
pub trait LiveLimits {
    /// Shows each of them, in order. `outer`: the mode of the whole that it is a part of.
    fn each(&self, outer: Option<&Mode<'_>>, visit: &mut dyn FnMut(&dyn LiveLimit, &Mode<'_>));
}

/// Whether a limit, or the whole that it is a part of, only counts what it would refuse.
#[derive(Debug)]
pub struct Mode<'limit> {
    own: &'limit Shadow,
    outer: Option<&'limit Mode<'limit>>,
}

impl Mode<'_> {
    fn is_shadow(&self) -> bool {
        self.own.is_on() || self.outer.is_some_and(Self::is_shadow)
    }

    /// It refuses from now on, and so the whole has to.
    fn put_in_force(&self) {
        self.own.set(false);
        if let Some(outer) = self.outer {
            outer.put_in_force();
        }
    }

    /// It only counts from now on, as it may do already by the mode of the whole, which then stays.
    fn put_in_shadow(&self) {
        if !self.is_shadow() {
            self.own.set(true);
        }
    }
}

/// Whether a limit only counts what it would refuse.
#[derive(Clone, Debug, Default)]
pub struct Shadow(Arc<AtomicBool>);

impl Shadow {
    /// Relaxed, here and below: it guards no other memory.
    #[inline]
    pub(in crate::rate_limit) fn is_on(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    pub(in crate::rate_limit) fn set(&self, is_on: bool) {
        self.0.store(is_on, Ordering::Relaxed);
    }
}

impl<L: LiveLimit, C, J> LiveLimits for RateLimit<L, C, J> {
    fn each(&self, outer: Option<&Mode<'_>>, visit: &mut dyn FnMut(&dyn LiveLimit, &Mode<'_>)) {
        visit(&self.limit, &Mode { own: &self.shadow, outer });
    }
}

impl<A: LiveLimits, B: LiveLimits, C, J> LiveLimits for RateLimit<Both<A, B>, C, J> {
    fn each(&self, outer: Option<&Mode<'_>>, visit: &mut dyn FnMut(&dyn LiveLimit, &Mode<'_>)) {
        let mode = Mode { own: &self.shadow, outer };
        self.limit.first.each(Some(&mode), visit);
        self.limit.second.each(Some(&mode), visit);
    }
}

/// The limits by their order.
impl<R: LiveLimits, Next> Configure for RateLimitStage<R, Next> {
    fn read(&self, config: &mut StackConfig) {
        self.limit.each(None, &mut |limit, mode| {
            config.rate_limit.push(RateLimitConfig { quotas: limit.quotas(), shadow: mode.is_shadow() });
        });
    }

    fn check(&self, config: &StackConfig) -> Result<(), ConfigError> {
        let (mut given, mut checked) = (config.rate_limit.iter().enumerate(), Ok(()));
        self.limit.each(None, &mut |limit, _| {
            if let (Ok(()), Some((index, given))) = (&checked, given.next()) {
                checked = limit.check_quotas(&given.quotas).map_err(|error| match config.rate_limit.len() {
                    1 => error,
                    _ => error.of(format_args!("in rate limit {index}")),
                });
            }
        });
        checked
    }

    fn apply(&self, config: &StackConfig) {
        let mut given = config.rate_limit.iter();
        self.limit.each(None, &mut |limit, mode| {
            if let Some(given) = given.next() {
                limit.set_quotas(&given.quotas);
                if !given.shadow {
                    mode.put_in_force();
                }
            }
        });
        // Once it is known whether the whole stays in shadow.
        let mut given = config.rate_limit.iter();
        self.limit.each(None, &mut |_, mode| {
            if given.next().is_some_and(|given| given.shadow) {
                mode.put_in_shadow();
            }
        });
    }

    fn settle(&self) {
        self.limit.each(None, &mut |limit, _| limit.settle_quotas());
    }
}

impl<R: LiveLimits, Next: Mechanisms> Mechanisms for RateLimitStage<R, Next> {
    fn each(&self, visit: &mut dyn FnMut(&dyn Configure)) {
        visit(self);
        self.next.each(visit);
    }
}

/// The one quota of a limit without tiers.
fn the_one(quotas: &[Quota]) -> Result<Quota, ConfigError> {
    match quotas {
        [quota] => Ok(*quota),
        _ => Err(ConfigError::new("rate_limit.quotas", quotas.len(), "must be one: the limit has no tiers")),
    }
}

/// A limit with one quota, which it can be told.
macro_rules! live_with_one_quota {
    ($($limit:ty),*) => {
        $(impl LiveLimit for $limit {
            fn quotas(&self) -> Vec<Quota> {
                vec![self.quota()]
            }

            fn check_quotas(&self, quotas: &[Quota]) -> Result<(), ConfigError> {
                the_one(quotas)?.check()
            }

            fn set_quotas(&self, quotas: &[Quota]) {
                // They were checked.
                let _ = the_one(quotas).and_then(|quota| self.set_quota(quota));
            }
        })*
    };
}

live_with_one_quota!(TokenBucket, Exact, WriteBehind);

/// A limit that is another one inside.
macro_rules! live_as_inside {
    ($([$($generics:tt)*] $limit:ty, $inside:tt;)*) => {
        $(impl<$($generics)*> LiveLimit for $limit {
            fn quotas(&self) -> Vec<Quota> {
                self.$inside.quotas()
            }

            fn check_quotas(&self, quotas: &[Quota]) -> Result<(), ConfigError> {
                self.$inside.check_quotas(quotas)
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
}

impl LiveLimit for SlidingWindow {
    /// The limit, in the window.
    fn quotas(&self) -> Vec<Quota> {
        vec![Quota::new(self.limit(), self.window())]
    }

    fn check_quotas(&self, quotas: &[Quota]) -> Result<(), ConfigError> {
        let quota = the_one(quotas)?;
        check_limit(quota.count())?;
        check_fixed_window(quota, self.window())
    }

    fn set_quotas(&self, quotas: &[Quota]) {
        let _ = the_one(quotas).and_then(|quota| self.set_limit(quota.count()));
    }
}

/// A limit in a window has no burst of its own, and its window stays.
fn check_fixed_window(quota: Quota, window: std::time::Duration) -> Result<(), ConfigError> {
    if quota.period() != window {
        return Err(ConfigError::new("rate_limit.period", quota.period(), "must be the window as it was built"));
    }
    if quota.burst() != quota.count() {
        return Err(ConfigError::new(
            "rate_limit.burst",
            quota.burst(),
            "must be the count, where a window is limited",
        ));
    }
    Ok(())
}

impl<K: ?Sized, T, S, F> LiveLimit for ByKey<K, T, S, F> {
    fn quotas(&self) -> Vec<Quota> {
        (0..self.keyed.tiers()).map(|tier| self.keyed.quota(tier)).collect()
    }

    fn check_quotas(&self, quotas: &[Quota]) -> Result<(), ConfigError> {
        if quotas.len() != self.keyed.tiers() {
            return Err(ConfigError::new(
                "rate_limit.quotas",
                quotas.len(),
                "must be one for each tier that was built",
            ));
        }
        check_tiers(quotas)
    }

    fn set_quotas(&self, quotas: &[Quota]) {
        self.keyed.switch_quotas(quotas);
    }

    fn settle_quotas(&self) {
        self.keyed.convert_all();
    }
}

impl LiveLimit for Leased {
    /// The limit, in the window.
    fn quotas(&self) -> Vec<Quota> {
        let (limit, window) = self.terms();
        vec![Quota::new(limit, window)]
    }

    fn check_quotas(&self, quotas: &[Quota]) -> Result<(), ConfigError> {
        if quotas != self.quotas() {
            return Err(ConfigError::new("rate_limit.quotas", quotas, "must be as built: leases are out by it"));
        }
        Ok(())
    }

    fn set_quotas(&self, _quotas: &[Quota]) {}
}
