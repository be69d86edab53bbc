//! Changes the common configuration of all keys while calls pass.

use super::{handle::PerKey, keys::Keys, mechanism::Mechanism};
use crate::{
    circuit_breaker::Breaker,
    error::ConfigError,
    load_shed::{Limiter, LoadShed},
    shell::{Course, Reconfigure},
};
use std::sync::Arc;

/// The handle of all keys for a live stack.
pub(crate) struct AllKeys<T: Mechanism, K> {
    keys: Arc<Keys<T, K>>,
    /// The overflow mechanism, which has the configuration of all keys.
    overflow: T,
}

impl<T: Mechanism, K, F> PerKey<T, K, F> {
    /// Returns the handle of all keys. `None` if [`with`](Self::with) makes the mechanisms: they have no configuration
    /// in common.
    pub(crate) fn all_keys(&self) -> Option<AllKeys<T, K>> {
        let overflow = self.overflow().filter(|_| self.keys.has_one_config())?;
        Some(AllKeys { keys: self.keys.clone(), overflow })
    }
}

impl<T, K> Reconfigure for AllKeys<T, K>
where
    T: Mechanism + Reconfigure<Config = <T as Mechanism>::Config>,
{
    type Config = <T as Mechanism>::Config;

    fn read(&self) -> Self::Config {
        // The configuration that was last applied to all keys. Before any was applied, the configuration of the
        // overflow mechanism. A single key does not show the common configuration: that of the key may have been
        // changed by hand.
        self.keys.config().unwrap_or_else(|| self.overflow.read())
    }

    fn check(&self, config: &Self::Config) -> Result<(), ConfigError> {
        self.overflow.check(config)
    }

    fn course(&self, now: &Self::Config, to: &Self::Config) -> Course<Self::Config> {
        self.overflow.course(now, to)
    }

    fn apply(&self, config: &Self::Config) {
        self.keys.follow_all(config);
    }

    fn settle(&self) {
        self.keys.all().iter().for_each(|entry| entry.handle.settle());
        self.overflow.settle();
    }
}

/// A type that may fill the slot of the mechanism `T` in a stack: `T` itself, a `PerKey` of `T`, or a `LoadShed` for a
/// limiter.
pub trait OneOrPerKey<T> {}

impl OneOrPerKey<Breaker> for Breaker {}

impl OneOrPerKey<Limiter> for Limiter {}

impl<K, C, E> OneOrPerKey<Limiter> for LoadShed<K, C, E> {}

impl<T: Mechanism, K, F> OneOrPerKey<T> for PerKey<T, K, F> {}
