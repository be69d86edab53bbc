use arc_swap::{ArcSwap, Guard};
use std::{fmt, ops::Deref, sync::Arc};

/// The value in force, for those who use it. Clones share it.
///
/// Reading takes no lock and never waits for a tick. It outlives the poller, whose last value then stays.
pub struct Current<V>(Arc<ArcSwap<V>>);

impl<V> Current<V> {
    pub(super) fn new(value: V) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(value)))
    }

    /// The value, borrowed: no reference is counted as long as a thread has few at once. For a use that ends soon; one
    /// that goes on across an `.await` should [`get`](Self::get) it.
    #[inline]
    pub fn load(&self) -> Loaded<V> {
        Loaded(self.0.load())
    }

    /// The value, shared. The poller itself holds each value until the tick after the one that replaced it; a reader
    /// that holds one for longer is the one that drops it.
    #[inline]
    pub fn get(&self) -> Arc<V> {
        self.0.load_full()
    }

    /// Replaces the value, and returns the one before.
    pub(super) fn replace(&self, value: V) -> Arc<V> {
        self.0.swap(Arc::new(value))
    }
}

impl<V> Clone for Current<V> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<V: fmt::Debug> fmt::Debug for Current<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Current").field(&*self.load()).finish()
    }
}

/// A value that was in force when it was loaded.
pub struct Loaded<V>(Guard<Arc<V>>);

impl<V> Deref for Loaded<V> {
    type Target = V;

    #[inline]
    fn deref(&self) -> &V {
        &self.0
    }
}

impl<V: fmt::Debug> fmt::Debug for Loaded<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Loaded").field(&**self).finish()
    }
}
