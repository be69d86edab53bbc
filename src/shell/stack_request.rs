use super::{Border, ResponseFuture, Stack, Stage};
use tower::Service;

/// A request that a stack accepts: the stages of the stack implement [`Stage`], and its border [`Border`], for the
/// request. The trait is implemented for all such requests.
///
/// The `Service` of [`Stack`] requires this trait instead of those two, to keep compile times short. While rustc does
/// not know the type of a request, it proves the bounds of an `impl` once per mention, without a cache. A stack
/// mentions its service about ten times, so each stack around another one made rustc ten times slower: six nested
/// stacks took minutes. A bound on an unknown type is deferred until the type is known, and then proved once.
pub trait StackRequest<St, X, S>: Sized
where
    S: Service<Self>,
{
    /// The response of the stack.
    type Response;

    /// The error of the stack.
    type Error;

    /// The future of a call.
    type Future: Future<Output = Result<Self::Response, Self::Error>>;

    /// Makes the future of a call. The call begins in the first poll of that future.
    fn pass(self, stack: &Stack<St, X, S>) -> Self::Future;
}

impl<St, X, S, Request> StackRequest<St, X, S> for Request
where
    St: Stage<S, Request>,
    X: Border<Request, S::Response, S::Error>,
    S: Service<Request> + Clone,
{
    type Response = X::Response;
    type Error = X::Error;
    type Future = ResponseFuture<St, X, S, Request>;

    #[inline]
    fn pass(self, stack: &Stack<St, X, S>) -> Self::Future {
        ResponseFuture::new(self, stack.get_ref().clone(), stack.root.shared().clone())
    }
}
