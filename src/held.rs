use crate::sync::{Ordering, fence};
use std::{ops::Deref, sync::Arc};

/// The handle that a permit belongs to: borrowed, or a clone that the permit owns.
#[derive(Debug)]
pub(crate) enum Held<'handle, T> {
    Borrowed(&'handle T),
    Owned(T),
}

impl<T> Deref for Held<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        match self {
            Self::Borrowed(handle) => handle,
            Self::Owned(handle) => handle,
        }
    }
}

/// Whether there is another handle of what this one shares. If not, all that was done by others is seen.
pub(crate) fn is_held<T>(shared: &Arc<T>) -> bool {
    let is_held = Arc::strong_count(shared) > 1;
    // The last other handle was dropped with release.
    fence(Ordering::Acquire);
    is_held
}

/// The address of what all handles of one mechanism share.
pub(crate) fn address<T>(shared: &Arc<T>) -> usize {
    Arc::as_ptr(shared) as usize
}
