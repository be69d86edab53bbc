use super::{Border, ResponseFuture, Stack, Stage};
use tower::Service;

/// A request that a stack takes: one for which the stages are a [`Stage`] and the border is a [`Border`]. There is
/// nothing to implement here.
///
/// [`Stack`]'s `Service` asks for this instead of those two, for the sake of compile times. While rustc does not know
/// the type of a request, it proves the bounds of an `impl` once for each mention, and keeps no answer. A stack
/// mentions its service about ten times. So each further stack around another took rustc ten times as long, and six
/// took minutes. A bound on a type that is not known yet waits until it is, and is then proved once.
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

    /// Starts a call.
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
