use arc_swap::{ArcSwap, Guard};
use std::{fmt, ops::Deref, sync::Arc};

/// A handle to the value in force. Clones share it.
///
/// Reading takes no lock and never waits for a tick. The handle outlives the poller, and then returns the last value.
pub struct Current<V>(Arc<ArcSwap<V>>);

impl<V> Current<V> {
    pub(super) fn new(value: V) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(value)))
    }

    /// Returns the value, borrowed. The call does not touch the value's reference count while the thread holds only a
    /// few such borrows. Use it for short accesses, and [`get`](Self::get) for a value that is kept across an `.await`.
    #[inline]
    pub fn load(&self) -> Loaded<V> {
        Loaded(self.0.load())
    }

    /// Returns the value, shared. The poller keeps each value until the tick after its replacement. If readers keep a
    /// value for longer, the last of them runs its destructor.
    #[inline]
    pub fn get(&self) -> Arc<V> {
        self.0.load_full()
    }

    /// Replaces the value. Returns the previous one.
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
