//! The configuration of rate limits that can change while calls pass.

use super::{
    layer::RateLimit,
    limit::{Both, LiveLimit, Shadow},
    quota::Quota,
};
use crate::{
    error::ConfigError,
    shell::{Course, Reconfigure},
};

/// The configuration of a rate limit.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(deny_unknown_fields))]
pub struct RateLimitConfig {
    /// One quota for each tier that was built, or a single quota if there are no tiers. The quota of a
    /// [`SlidingWindow`](crate::rate_limit::SlidingWindow) is its limit per window, and its burst equals its count.
    pub quotas: Vec<Quota>,
    /// If true, the limit only counts the calls that it would refuse. If combined limits are in shadow as a whole, each
    /// of them has `true` here. Once a configuration puts one of them in force, the whole is no longer in shadow. Each
    /// limit then has its own mode, and its own [count](crate::rate_limit::RateLimit::refused) of calls that pass in
    /// shadow.
    #[cfg_attr(feature = "serde", serde(default))]
    pub shadow: bool,
}

impl RateLimitConfig {
    /// Makes a configuration with these quotas, not in shadow.
    pub fn new(quotas: impl Into<Vec<Quota>>) -> Self {
        Self { quotas: quotas.into(), shadow: false }
    }
}

/// A rate limit that consists of one or several [`LiveLimit`]s, each with its shadow mode.
pub trait LiveLimits {
    /// Adds each limit to `handle`, in order. `outer` are the modes of the limits that contain this one, from the
    /// innermost to the outermost.
    #[doc(hidden)]
    fn add_to(&self, outer: &[Shadow], handle: &mut LimitsHandle);
}

/// Handles that read and change the quotas and the shadow modes of a rate limit.
#[doc(hidden)]
#[derive(Default)]
pub struct LimitsHandle(Vec<LimitHandle>);

struct LimitHandle {
    limit: Box<dyn LiveLimit + Send + Sync>,
    /// First the limit's own mode, then the modes of the limits that contain it, the innermost first. The limit is in
    /// shadow if any of these modes is on.
    modes: Vec<Shadow>,
}

impl LimitHandle {
    fn is_shadow(&self) -> bool {
        self.modes.iter().any(Shadow::is_on)
    }

    /// Puts the limit in force, and with it all limits that contain it.
    fn put_in_force(&self) {
        self.modes.iter().for_each(|mode| mode.set(false));
    }

    /// Turns the limit's own mode on, unless one of its modes is on already and stays on. `stays` returns whether the
    /// present change leaves a mode on.
    fn put_in_shadow(&self, stays: impl Fn(&Shadow) -> bool) {
        if let (false, Some(own)) = (self.modes.iter().any(|mode| mode.is_on() && stays(mode)), self.modes.first()) {
            own.set(true);
        }
    }

    /// Returns the configuration that admits only what both `now` and `to` admit, if there is one.
    fn strictest(&self, now: &RateLimitConfig, to: &RateLimitConfig) -> Option<RateLimitConfig> {
        Some(match (now.shadow, to.shadow) {
            // A limit in shadow refuses no call, so the other configuration is at least as strict.
            (true, _) => to.clone(),
            (false, true) => now.clone(),
            (false, false) if now == to => now.clone(),
            (false, false) => RateLimitConfig::new(self.limit.strictest(&now.quotas, &to.quotas)?),
        })
    }
}

impl<L: LiveLimit, C, J> LiveLimits for RateLimit<L, C, J> {
    fn add_to(&self, outer: &[Shadow], handle: &mut LimitsHandle) {
        handle.0.push(LimitHandle { limit: self.limit.handle(), modes: with(&self.shadow, outer) });
    }
}

impl<A: LiveLimits, B: LiveLimits, C, J> LiveLimits for RateLimit<Both<A, B>, C, J> {
    fn add_to(&self, outer: &[Shadow], handle: &mut LimitsHandle) {
        let modes = with(&self.shadow, outer);
        self.limit.first.add_to(&modes, handle);
        self.limit.second.add_to(&modes, handle);
    }
}

fn with(own: &Shadow, outer: &[Shadow]) -> Vec<Shadow> {
    [std::slice::from_ref(own), outer].concat()
}

impl<L, C, J> RateLimit<L, C, J>
where
    Self: LiveLimits,
{
    /// Returns the handle that changes the quotas and modes.
    pub(crate) fn handle(&self) -> LimitsHandle {
        let mut handle = LimitsHandle::default();
        self.add_to(&[], &mut handle);
        handle
    }
}

/// Reads and applies one configuration for each limit, in order.
impl Reconfigure for LimitsHandle {
    type Config = Vec<RateLimitConfig>;

    fn read(&self) -> Vec<RateLimitConfig> {
        let read = |part: &LimitHandle| RateLimitConfig { quotas: part.limit.quotas(), shadow: part.is_shadow() };
        self.0.iter().map(read).collect()
    }

    fn check(&self, config: &Vec<RateLimitConfig>) -> Result<(), ConfigError> {
        self.0.iter().zip(config).enumerate().try_for_each(|(index, (part, given))| {
            part.limit.check_quotas(&given.quotas).map_err(|error| match config.len() {
                1 => error,
                _ => error.of(format_args!("in rate limit {index}")),
            })
        })
    }

    fn course(&self, now: &Vec<RateLimitConfig>, to: &Vec<RateLimitConfig>) -> Course<Vec<RateLimitConfig>> {
        let parts = self.0.iter().zip(now).zip(to);
        // If some limit has no strictest configuration, it changes at once if it is the only limit. Several limits
        // change one after another.
        match parts.map(|((part, now), to)| part.strictest(now, to)).collect() {
            Some(strictest) => Course::Strictest(strictest),
            None if self.0.len() == 1 => Course::AtOnce,
            None => Course::InSteps,
        }
    }

    /// Puts limits in shadow first, then changes quotas, then puts limits in force. Thus no call is refused by a quota
    /// that is meant only for shadow.
    fn apply(&self, config: &Vec<RateLimitConfig>) {
        let parts = || self.0.iter().zip(config);
        // Whether this configuration turns a mode off, because it puts a limit with that mode in force.
        let ends =
            |mode: &Shadow| parts().any(|(part, given)| !given.shadow && part.modes.iter().any(|other| other.is(mode)));
        for (part, _) in parts().filter(|(_, given)| given.shadow) {
            part.put_in_shadow(|mode| !ends(mode));
        }
        for (part, given) in parts() {
            part.limit.set_quotas(&given.quotas);
        }
        for (part, _) in parts().filter(|(_, given)| !given.shadow) {
            part.put_in_force();
        }
    }

    fn settle(&self) {
        self.0.iter().for_each(|part| part.limit.settle_quotas());
    }
}
