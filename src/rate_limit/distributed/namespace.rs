use crate::error::ConfigError;
use std::sync::Arc;

/// Keeps the keys of one limit from those of all others in a store.
#[derive(Clone, Debug, Default)]
pub(super) struct Namespace(pub(super) String);

impl Namespace {
    /// The name of a key in the store. It begins with the length of the namespace, so that no key of one limit, whoever chose
    /// it, is one of another.
    pub(super) fn name(&self, key: &[u8]) -> Arc<[u8]> {
        [format!("{}:{}:", self.0.len(), self.0).as_bytes(), key].concat().into()
    }

    /// The name of what keys share that have no place of their own: no key has it, since it begins with no number.
    pub(super) fn shared_name(&self) -> Arc<[u8]> {
        [b"shared:", self.0.as_bytes()].concat().into()
    }

    pub(super) fn check(&self) -> Result<(), ConfigError> {
        if self.0.len() > LONGEST {
            return Err(ConfigError::new("rate_limit.namespace", &self.0, "must be at most 64 bytes"));
        }
        Ok(())
    }
}

const LONGEST: usize = 64;
