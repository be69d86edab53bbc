use crate::sync::{Ordering, fence};
use std::{ops::Deref, sync::Arc};

/// The handle of a permit: borrowed, or a clone that the permit owns.
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

/// Returns whether another handle shares this state. If not, the caller sees all that former handles wrote to it.
pub(crate) fn is_held<T>(shared: &Arc<T>) -> bool {
    let is_held = Arc::strong_count(shared) > 1;
    // `Arc` drops each handle with release ordering. This fence pairs with the drop of the last other handle.
    fence(Ordering::Acquire);
    is_held
}

/// Returns the address of the state that all handles of one mechanism share.
pub(crate) fn address<T>(shared: &Arc<T>) -> usize {
    Arc::as_ptr(shared) as usize
}
