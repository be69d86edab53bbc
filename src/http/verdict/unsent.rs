/// Knows which errors leave the service provably untouched.
pub trait Unsent<E> {
    fn is_unsent(&self, error: &E) -> bool;
}

/// No error is known to leave the service untouched.
#[derive(Clone, Copy, Debug)]
pub struct NoneUnsent;

impl<E> Unsent<E> for NoneUnsent {
    #[inline]
    fn is_unsent(&self, _error: &E) -> bool {
        false
    }
}

impl<E, F: Fn(&E) -> bool> Unsent<E> for F {
    #[inline]
    fn is_unsent(&self, error: &E) -> bool {
        self(error)
    }
}
