/// Recognizes errors after which the service provably did not process the request.
pub trait Unsent<E> {
    fn is_unsent(&self, error: &E) -> bool;
}

/// Recognizes no error.
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
