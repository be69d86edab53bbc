use super::health::StoreHealth;

/// The state of a limit, as `readings()` returns it.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Readings {
    /// The health of the store, and any concern about its configuration.
    pub store: StoreHealth,
    /// The number of keys in memory.
    pub keys: usize,
    /// The tokens of all keys that this process admitted by itself, and that the store has not confirmed. In an outage
    /// the number grows by all admitted tokens, although the process later reports only those that have not drained.
    pub unflushed: u64,
    /// The most tokens by which any key in memory was above its burst, its debt included, by the answers of the store.
    /// After an outage it shows the largest [debt](crate::rate_limit::distributed::ExactBuilder::max_debt) of a key.
    /// Always 0 for [`Leased`](crate::rate_limit::distributed::Leased).
    pub overshoot: u64,
}
