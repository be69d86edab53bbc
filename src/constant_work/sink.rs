use super::source::SourceError;
use std::future::Future;

/// The place to which a publisher writes its snapshot.
///
/// If a future is dropped at any point, the sink must stay usable. A dropped write may or may not have taken effect.
pub trait Sink: Send {
    /// Reads the published snapshot into the buffer, up to `at_most` bytes. Clears the buffer first. Returns
    /// `Ok(false)` if nothing is published.
    fn published(
        &mut self,
        into: &mut Vec<u8>,
        at_most: usize,
    ) -> impl Future<Output = Result<bool, SourceError>> + Send;

    /// Replaces the published snapshot atomically: a reader sees the old bytes or the new ones, never a mixture.
    fn publish(&mut self, snapshot: &[u8]) -> impl Future<Output = Result<(), SourceError>> + Send;
}
