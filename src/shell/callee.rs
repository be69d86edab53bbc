use pin_project_lite::pin_project;
use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll},
};
use tower::Service;

pin_project! {
    /// The call's own clone of the service, and the service's future while there is one.
    ///
    /// The service's future can be large. It is stored here once and the stages pass it by reference, so the state of
    /// each stage stays small.
    pub struct Callee<S, F> {
        // The first field, so that the future is dropped before the service.
        #[pin]
        future: Option<F>,
        service: S,
    }
}

impl<S, F> Callee<S, F> {
    /// Wraps a service that has not been called.
    #[inline]
    pub fn new(service: S) -> Self {
        Self { future: None, service }
    }

    /// Returns whether the service was called and its future still exists.
    #[inline]
    pub fn is_running(self: Pin<&mut Self>) -> bool {
        self.project().future.is_some()
    }

    /// Drops the service's future, if there is one. Runs user code.
    #[inline]
    pub fn stop(self: Pin<&mut Self>) {
        self.project().future.set(None);
    }

    /// Replaces the call's clone of the service with a fresh one, after an attempt has ended. Anything that the old
    /// clone reserved for its next call, such as a place in a queue, is returned. Runs user code.
    #[inline]
    pub fn refresh(self: Pin<&mut Self>)
    where
        S: Clone,
    {
        let this = self.project();
        let fresh = this.service.clone();
        *this.service = fresh;
    }

    /// Polls the readiness of the service. Runs user code.
    #[inline]
    pub fn poll_ready<Request>(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>>
    where
        S: Service<Request, Future = F>,
    {
        self.project().service.poll_ready(cx)
    }

    /// Calls the service, which must be ready, and stores its future. Runs user code.
    #[inline]
    pub fn call<Request>(self: Pin<&mut Self>, request: Request)
    where
        S: Service<Request, Future = F>,
    {
        let mut this = self.project();
        let future = this.service.call(request);
        this.future.set(Some(future));
    }

    /// Polls the service's future, and drops it once it has answered. Returns `None` if there is no future. Runs user
    /// code.
    #[inline]
    pub fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Option<Poll<F::Output>>
    where
        F: Future,
    {
        let mut future = self.project().future;
        let polled = future.as_mut().as_pin_mut()?.poll(cx);
        if polled.is_ready() {
            future.set(None);
        }
        Some(polled)
    }
}

impl<S, F> fmt::Debug for Callee<S, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Callee").field("is_running", &self.future.is_some()).finish_non_exhaustive()
    }
}
