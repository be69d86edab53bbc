use std::ops::Deref;

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
