use super::{
    explain::{Describe, Explanation},
    service::Shared,
};
use std::sync::Arc;

/// The shared part of each handle of a stack: a layer, a service, a control.
///
/// With the `load` feature, an inner `Arc` of its own counts the calls in flight. The handles share an outer `Arc`,
/// which holds one reference to the inner one. Each response future holds one more reference to the inner `Arc`. The
/// inner count less one is therefore the number of calls in flight.
///
/// Without the feature there is only one `Arc`. Threads that clone a handle for each call contend for one cache line
/// per `Arc`.
pub(crate) struct Root<St, X> {
    #[cfg(not(feature = "load"))]
    shared: Arc<Shared<St, X>>,
    /// The outer `Arc`, which all handles share, holds the inner one once. Each response future holds the inner one,
    /// too.
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

    /// Returns the number of response futures that exist.
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
