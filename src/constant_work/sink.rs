use super::source::SourceError;
use std::future::Future;

/// Where a publisher puts its snapshot.
///
/// Dropped at any point, both operations must leave the sink usable. A write that was dropped may have happened or not.
pub trait Sink: Send {
    /// Reads what is published now into the buffer, which it clears first, but no more than `at_most` bytes.
    /// `Ok(false)` where nothing is published.
    fn published(
        &mut self,
        into: &mut Vec<u8>,
        at_most: usize,
    ) -> impl Future<Output = Result<bool, SourceError>> + Send;

    /// Replaces what is published as a whole: a reader sees the old bytes or the new, never a part of either.
    fn publish(&mut self, snapshot: &[u8]) -> impl Future<Output = Result<(), SourceError>> + Send;
}
