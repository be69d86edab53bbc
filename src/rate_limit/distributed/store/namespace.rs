use crate::error::ConfigError;
use std::sync::Arc;

/// The longest namespace, in bytes.
const LONGEST: usize = 64;

/// The longest key with its namespace, in bytes. Before the key are the length of the namespace, the namespace, and a
/// colon after each: at most 68 bytes.
pub const LONGEST_NAME: usize = LONGEST_KEY + 68;

/// The longest key, in bytes.
pub const LONGEST_KEY: usize = 1024;

/// Separates the keys of one limit from those of all others in a store.
#[derive(Clone, Debug, Default)]
pub(crate) struct Namespace(pub(crate) String);

impl Namespace {
    /// Returns the name of a key in the store. It begins with the length of the namespace. So no name in one namespace
    /// equals a name in another, whatever bytes the keys have.
    pub(crate) fn name(&self, key: &[u8]) -> Arc<[u8]> {
        [format!("{}:{}:", self.0.len(), self.0).as_bytes(), key].concat().into()
    }

    /// Returns the name of the overflow key. It equals no other name, since it does not begin with a number.
    pub(crate) fn shared_name(&self) -> Arc<[u8]> {
        [b"shared:", self.0.as_bytes()].concat().into()
    }

    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        if self.0.len() > LONGEST {
            return Err(ConfigError::new("rate_limit.namespace", &self.0, "must be at most 64 bytes"));
        }
        Ok(())
    }
}
