use super::{outage::OnOutage, store::namespace::Namespace};
use crate::error::ConfigError;

/// The settings that all limits of many processes have: of a builder with the fields `max_keys`, `namespace` and `random`.
macro_rules! common_settings {
    () => {
        /// For how many keys there is room. Beyond that a new key takes the place of one that is idle. If there is none, the
        /// new keys of all processes share one more, as though they were one key. Default: 100,000.
        pub fn max_keys(self, max_keys: usize) -> Self {
            Self { max_keys, ..self }
        }

        /// Keeps the keys of this limit from those of other limits in the same store: two limits on the requests of a tenant,
        /// one per second and one per hour, need two namespaces. The same for all processes. At most 64 bytes. Default: none.
        pub fn namespace(self, namespace: impl Into<String>) -> Self {
            Self { namespace: Namespace(namespace.into()), ..self }
        }

        /// Draws phases and jitter from this generator.
        pub fn random(self, random: Random) -> Self {
            Self { random, ..self }
        }
    };
}
pub(super) use common_settings;

/// Checks what they all have.
pub(super) fn check(
    namespace: &Namespace,
    processes: Option<u64>,
    on_outage: &OnOutage,
    max_keys: usize,
) -> Result<(), ConfigError> {
    namespace.check()?;
    if let OnOutage::Local(quota) = on_outage {
        quota.check()?;
    }
    if processes == Some(0) {
        return Err(ConfigError::new("rate_limit.processes", 0, "must be at least 1"));
    }
    if max_keys == 0 {
        return Err(ConfigError::new("rate_limit.max_keys", 0, "must be at least 1"));
    }
    Ok(())
}
