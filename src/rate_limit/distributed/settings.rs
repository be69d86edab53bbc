use super::{
    outage::OnOutage,
    store::{Store, namespace::Namespace},
};
use crate::{error::ConfigError, random::Random};
use std::sync::Arc;

/// The settings that every distributed limit has.
pub(crate) struct Settings {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) namespace: Namespace,
    pub(crate) on_outage: OnOutage,
    pub(crate) max_keys: usize,
    pub(crate) random: Random,
}

impl Settings {
    pub(crate) fn new(store: impl Store) -> Self {
        Self {
            store: Arc::new(store),
            namespace: Namespace::default(),
            on_outage: OnOutage::default(),
            max_keys: 100_000,
            random: Random::new(),
        }
    }

    /// Checks the settings and the number of processes.
    pub(crate) fn check(&self, processes: Option<u64>) -> Result<(), ConfigError> {
        self.namespace.check()?;
        if let OnOutage::Local(quota) = self.on_outage {
            quota.check()?;
        }
        if processes == Some(0) {
            return Err(ConfigError::new("rate_limit.processes", 0, "must be at least 1"));
        }
        if self.max_keys == 0 {
            return Err(ConfigError::new("rate_limit.max_keys", 0, "must be at least 1"));
        }
        Ok(())
    }
}

/// The setters of a builder with a field `settings`, except for `on_outage`, which each limit documents itself.
macro_rules! common_settings {
    () => {
        /// Sets the number of keys that the limit keeps in memory. Beyond that, a new key takes the place of an idle
        /// key. A key is idle if none of its spent tokens still count, the process holds none of its tokens, and no
        /// report about it is due. If no idle key is found, the new keys of all processes share one overflow key.
        /// Default: 100,000.
        pub fn max_keys(mut self, max_keys: usize) -> Self {
            self.settings.max_keys = max_keys;
            self
        }

        /// Separates the keys of this limit from those of other limits in the same store. Two limits on the requests of
        /// a tenant, one per second and one per hour, need two namespaces. All processes must use the same namespace,
        /// of at most 64 bytes. Default: none.
        pub fn namespace(mut self, namespace: impl Into<String>) -> Self {
            self.settings.namespace = Namespace(namespace.into());
            self
        }

        /// Draws the start of the first period, and the jitter of each period, from this generator. Both keep processes
        /// from asking the store at the same time.
        pub fn random(mut self, random: Random) -> Self {
            self.settings.random = random;
            self
        }
    };
}
pub(super) use common_settings;
