use super::{
    explain::{Describe, Explanation},
    service::Shared,
};
use std::sync::Arc;

/// The shared part of each handle of a stack: a layer, a service, a control.
///
/// With the `load` feature the handles share one `Arc` and the calls a second one. The second has one reference for
/// each call, and one more. Threads that clone one handle per call then contend for two cache lines instead of one, so
/// the second `Arc` exists only with the feature.
pub(crate) struct Root<St, X> {
    #[cfg(not(feature = "load"))]
    shared: Arc<Shared<St, X>>,
    /// The inner `Arc` is held here and by each response future.
    #[cfg(feature = "load")]
    #[allow(clippy::redundant_allocation, reason = "calls count in the inner one, handles in the outer one")]
    shared: Arc<Arc<Shared<St, X>>>,
}

impl<St, X> Root<St, X> {
    pub(super) fn new(stage: St, border: X) -> Self {
        let shared = Arc::new(Shared { stage, border });
        #[cfg(feature = "load")]
        let shared = Arc::new(shared);
        Self { shared }
    }

    /// Returns the part that calls share with this handle.
    #[inline]
    pub(super) fn shared(&self) -> &Arc<Shared<St, X>> {
        &self.shared
    }

    /// Returns the number of response futures.
    #[cfg(feature = "load")]
    pub(super) fn in_flight(&self) -> usize {
        Arc::strong_count(self.shared()).saturating_sub(1)
    }
}

impl<St: Clone, X: Clone> Root<St, X> {
    /// Takes the stages and the border, cloned if other handles or calls share them.
    pub(super) fn into_shared(self) -> Shared<St, X> {
        let shared = self.shared;
        #[cfg(feature = "load")]
        let shared = Arc::unwrap_or_clone(shared);
        Arc::unwrap_or_clone(shared)
    }
}

impl<St, X> Clone for Root<St, X> {
    fn clone(&self) -> Self {
        Self { shared: self.shared.clone() }
    }
}

impl<St: Describe, X> Describe for Root<St, X> {
    fn describe(&self, explanation: &mut Explanation) {
        self.shared.stage.describe(explanation);
    }
}
