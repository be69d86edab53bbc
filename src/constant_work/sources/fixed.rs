use crate::constant_work::{Source, SourceError};
use std::sync::Arc;

/// The same bytes for ever: for tests, and for a snapshot that is part of the program, as by `include_bytes!`.
///
/// A reader that refuses what is too far behind or ahead of its clock does so with these, too. Never fails.
#[derive(Clone, Debug)]
pub struct FixedSource {
    bytes: Arc<[u8]>,
}

impl FixedSource {
    /// Answers every fetch with these bytes.
    pub fn new(bytes: impl Into<Arc<[u8]>>) -> Self {
        Self { bytes: bytes.into() }
    }
}

impl Source for FixedSource {
    async fn fetch(&mut self, into: &mut Vec<u8>, at_most: usize) -> Result<(), SourceError> {
        into.clear();
        into.extend_from_slice(&self.bytes[..self.bytes.len().min(at_most)]);
        Ok(())
    }
}
