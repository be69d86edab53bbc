use crate::constant_work::{Source, SourceError};
use std::sync::Arc;

/// Returns the same bytes to every fetch: for tests, and for a snapshot that is part of the program, for example by
/// `include_bytes!`. Never fails.
///
/// A poller still refuses these bytes if their publication time is too far ahead of its clock.
#[derive(Clone, Debug)]
pub struct FixedSource {
    bytes: Arc<[u8]>,
}

impl FixedSource {
    /// Returns a source of these bytes.
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
