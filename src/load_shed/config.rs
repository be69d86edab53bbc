//! The configuration of a limit on calls in flight that can change while calls pass.

use super::limiter::Limiter;
use crate::{
    error::ConfigError,
    shell::{Course, Reconfigure},
};

/// The configuration of a [`Limiter`] that can change while calls pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(deny_unknown_fields))]
pub struct LoadShedConfig {
    /// The most calls in flight, at least 1. For an adaptive limiter, its ceiling.
    pub limit: usize,
    /// Whether the limiter is in [shadow mode](Limiter#shadow-mode): it admits calls over the limit and counts them.
    #[cfg_attr(feature = "serde", serde(default))]
    pub shadow: bool,
}

impl LoadShedConfig {
    /// Enforces this limit.
    pub const fn new(limit: usize) -> Self {
        Self { limit, shadow: false }
    }
}

impl Reconfigure for Limiter {
    type Config = LoadShedConfig;

    fn read(&self) -> LoadShedConfig {
        let (limit, shadow) = self.configuration();
        LoadShedConfig { limit, shadow }
    }

    fn check(&self, config: &LoadShedConfig) -> Result<(), ConfigError> {
        Limiter::check(self, config.limit)
    }

    fn course(&self, now: &LoadShedConfig, to: &LoadShedConfig) -> Course<LoadShedConfig> {
        // A limiter in shadow refuses no call, so of two configurations one that is not in shadow is the stricter.
        Course::Strictest(match (now.shadow, to.shadow) {
            (true, _) => *to,
            (false, true) => *now,
            (false, false) => LoadShedConfig::new(now.limit.min(to.limit)),
        })
    }

    fn apply(&self, config: &LoadShedConfig) {
        // The configuration was checked before.
        let _ = self.configure(config.limit, config.shadow);
    }
}
