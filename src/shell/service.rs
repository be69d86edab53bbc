use super::{BoxedError, Describe, Explanation, KeepError, Respond, StackRequest, TypedError, root::Root};
use crate::error::Rejection;
use std::{
    fmt,
    task::{Context, Poll},
};
use tower::{Layer, Service};

/// The state that all handles and calls of one stack share.
#[derive(Clone, Debug)]
pub(crate) struct Shared<St, X> {
    pub(super) stage: St,
    pub(super) border: X,
}

/// A tower layer of one or more stages.
///
/// All its clones, and all services that it makes, share one state. This matters because axum calls `layer()` once per
/// route, and again per connection.
pub struct StackLayer<St, X = TypedError> {
    root: Root<St, X>,
}

impl<St, X> StackLayer<St, X> {
    /// Makes a layer of these stages. The border converts rejections for the caller.
    pub fn from_stages(stage: St, border: X) -> Self {
        Self { root: Root::new(stage, border) }
    }

    /// Returns the stages and the border, which this layer shares with the services that it makes.
    pub(crate) fn root(&self) -> Root<St, X> {
        self.root.clone()
    }
}

impl<St: Clone, X: Clone> StackLayer<St, X> {
    /// Returns rejections as [`Error::Rejected`](crate::Error::Rejected), beside the service's own errors.
    pub fn typed_error(self) -> StackLayer<St, TypedError> {
        self.border(TypedError)
    }

    /// Keeps the service's error type, which must be `From<Rejection>`.
    pub fn keep_error(self) -> StackLayer<St, KeepError> {
        self.border(KeepError)
    }

    /// Boxes rejections and the service's errors, for functions that return a `BoxError`. `?` does not convert a
    /// `BoxError` into other error types; see [`Error`](crate::Error#passing-errors-on).
    ///
    /// A failed call allocates a box, except for an error of the service that is a `BoxError` already.
    pub fn boxed_error(self) -> StackLayer<St, BoxedError> {
        self.border(BoxedError)
    }

    /// Turns rejections into responses and keeps the service's error type, for servers, where errors close the
    /// connection.
    pub fn respond_with<F, Response>(self, respond: F) -> StackLayer<St, Respond<F>>
    where
        F: Fn(Rejection) -> Response,
    {
        self.border(Respond(respond))
    }

    /// Replaces the border.
    pub fn border<Y>(self, border: Y) -> StackLayer<St, Y> {
        StackLayer::from_stages(self.root.into_shared().stage, border)
    }

    /// Replaces the stages by the result of `change`: for example, by your own stage around them.
    ///
    /// The new layer shares the state of its gates and limits with the clones of this layer. The stages are cloned if
    /// other handles or calls share them.
    ///
    /// ```
    /// use steadfast::{load_shed::{Limiter, LoadShedLayer}, shell::GateStage};
    ///
    /// let (tenants, all) = (Limiter::fixed(8)?, Limiter::fixed(64)?);
    /// let layer = LoadShedLayer::new(all).map_stages(|stages| GateStage::new(tenants, stages));
    /// # let _ = layer;
    /// # Ok::<(), steadfast::error::ConfigError>(())
    /// ```
    pub fn map_stages<T>(self, change: impl FnOnce(St) -> T) -> StackLayer<T, X> {
        let Shared { stage, border } = self.root.into_shared();
        StackLayer::from_stages(change(stage), border)
    }
}

impl<St: Describe, X> StackLayer<St, X> {
    /// Explains what the stages do, in their order, and the resulting worst case.
    pub fn explain(&self) -> Explanation {
        Explanation::of(&self.root)
    }
}

impl<St, X> Clone for StackLayer<St, X> {
    fn clone(&self) -> Self {
        Self { root: self.root.clone() }
    }
}

impl<St: Describe, X> fmt::Debug for StackLayer<St, X> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StackLayer").field("stages", &self.explain()).finish_non_exhaustive()
    }
}

impl<St, X, S> Layer<S> for StackLayer<St, X> {
    type Service = Stack<St, X, S>;

    fn layer(&self, service: S) -> Stack<St, X, S> {
        Stack { root: self.root.clone(), service }
    }
}

/// A service behind one or more stages: the one tower `Service` around all stages.
///
/// It is always ready and reserves nothing: admission, and the readiness of the inner service, are part of the response
/// future. A tower `Balance` above it therefore does not see an unready service. With the `load` feature the `Balance`
/// sees which services refuse calls, and prefers the others. Clones are cheap and share all state.
///
/// It implements `Service<Request>` if the inner service does and is `Clone`. The stages must be a
/// [`Stage<S, Request>`](super::Stage), and the border a [`Border<Request, S::Response, S::Error>`](super::Border).
pub struct Stack<St, X, S> {
    pub(super) root: Root<St, X>,
    service: S,
}

impl<St, X, S> Stack<St, X, S> {
    /// Returns the inner service.
    pub fn get_ref(&self) -> &S {
        &self.service
    }

    /// Returns the inner service for changes.
    pub fn get_mut(&mut self) -> &mut S {
        &mut self.service
    }

    /// Returns the inner service without the stages.
    pub fn into_inner(self) -> S {
        self.service
    }
}

impl<St: Describe, X, S> Stack<St, X, S> {
    /// Explains what the stages do, in their order, and the resulting worst case.
    pub fn explain(&self) -> Explanation {
        Explanation::of(&self.root)
    }
}

impl<St, X, S: Clone> Clone for Stack<St, X, S> {
    fn clone(&self) -> Self {
        Self { root: self.root.clone(), service: self.service.clone() }
    }
}

impl<St: Describe, X, S: fmt::Debug> fmt::Debug for Stack<St, X, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stack").field("stages", &self.explain()).field("service", &self.service).finish_non_exhaustive()
    }
}

impl<St, X, S, Request> Service<Request> for Stack<St, X, S>
where
    S: Service<Request> + Clone,
    Request: StackRequest<St, X, S>,
{
    type Response = Request::Response;
    type Error = Request::Error;
    type Future = Request::Future;

    /// Always ready.
    #[inline]
    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Request::Error>> {
        Poll::Ready(Ok(()))
    }

    #[inline]
    fn call(&mut self, request: Request) -> Self::Future {
        request.pass(self)
    }
}
