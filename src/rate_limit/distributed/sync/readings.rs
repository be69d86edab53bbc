use super::health::StoreHealth;

/// How a limit is doing.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Readings {
    /// How the store answers, and what an operator should know of it.
    pub store: StoreHealth,
    /// The number of keys in memory.
    pub keys: usize,
    /// The tokens of all keys that were admitted without asking and that the store has not confirmed to have counted.
    /// In an outage it grows by all that is admitted, although the store is later told only the part that has not
    /// drained.
    pub unflushed: u64,
    /// The most tokens that any key had above its burst, its debt included, by the answers of the store. After an
    /// outage it shows the largest [debt](crate::rate_limit::distributed::ExactBuilder::max_debt) of a key.
    pub overshoot: u64,
}
