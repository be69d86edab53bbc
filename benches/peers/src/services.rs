//! The services behind the layers, and ways to call them.

use crate::harness::REQUEST;
use std::{
    error::Error,
    fmt,
    future::{Future, Ready, ready},
    hint::black_box,
    marker::PhantomData,
    pin::{Pin, pin},
    task::{Context, Poll, Waker},
};
use tower::{BoxError, Service, ServiceExt, util::Oneshot};

/// The error of both services: a real error type, so that the compiler cannot remove a contestant's error handling.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault;

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the service failed")
    }
}

impl Error for Fault {}

/// The answer of all services: the request, or a fault for one request that is never sent.
fn answer<E: From<Fault>>(request: u64) -> Result<u64, E> {
    if request == u64::MAX { Err(Fault.into()) } else { Ok(request) }
}

/// Returns whether the service answered the call.
pub fn answered<E>(result: &Result<u64, E>) -> bool {
    matches!(result, Ok(REQUEST))
}

/// Returns whether the call was refused.
pub fn refused<T, E>(result: &Result<T, E>) -> bool {
    result.is_err()
}

/// A service that answers at once.
#[derive(Clone, Copy, Debug)]
pub struct AtOnce;

impl Service<u64> for AtOnce {
    type Response = u64;
    type Error = Fault;
    type Future = Ready<Result<u64, Fault>>;

    #[inline]
    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        Poll::Ready(Ok(()))
    }

    #[inline]
    fn call(&mut self, request: u64) -> Self::Future {
        ready(answer(request))
    }
}

/// A service whose answer is pending once.
#[derive(Clone, Copy, Debug)]
pub struct PendingOnce;

/// The future of [`PendingOnce`]: wakes its task at once, so that the next poll follows as soon as the runtime allows.
pub struct Once<E> {
    request: u64,
    polled: bool,
    error: PhantomData<fn() -> E>,
}

impl<E> Once<E> {
    #[inline]
    fn new(request: u64) -> Self {
        Self { request, polled: false, error: PhantomData }
    }
}

impl Service<u64> for PendingOnce {
    type Response = u64;
    type Error = Fault;
    type Future = Once<Fault>;

    #[inline]
    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        Poll::Ready(Ok(()))
    }

    #[inline]
    fn call(&mut self, request: u64) -> Self::Future {
        Once::new(request)
    }
}

impl<E: From<Fault>> Future for Once<E> {
    type Output = Result<u64, E>;

    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if self.polled {
            return Poll::Ready(answer(self.request));
        }
        self.polled = true;
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

/// The same services with a boxed error.
#[derive(Clone, Copy, Debug)]
pub struct Boxed<S>(pub S);

impl Service<u64> for Boxed<AtOnce> {
    type Response = u64;
    type Error = BoxError;
    type Future = Ready<Result<u64, BoxError>>;

    #[inline]
    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    #[inline]
    fn call(&mut self, request: u64) -> Self::Future {
        ready(answer(request))
    }
}

impl Service<u64> for Boxed<PendingOnce> {
    type Response = u64;
    type Error = BoxError;
    type Future = Once<BoxError>;

    #[inline]
    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    #[inline]
    fn call(&mut self, request: u64) -> Self::Future {
        Once::new(request)
    }
}

/// Calls a clone of the handle each time, as programs do that share one handle among many tasks.
#[derive(Clone, Debug)]
pub struct CloneEach<S>(pub S);

impl<S: Service<u64> + Clone> Service<u64> for CloneEach<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = Oneshot<S, u64>;

    #[inline]
    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        Poll::Ready(Ok(()))
    }

    #[inline]
    fn call(&mut self, request: u64) -> Self::Future {
        self.0.clone().oneshot(request)
    }
}

/// Polls one call by hand, without a scheduler. It must be ready after `pending` pending polls. Returns whether its
/// result is the expected one, without moving the result.
#[inline]
pub fn poll_by_hand<S: Service<u64>>(
    service: &mut S,
    pending: usize,
    expected: fn(&Result<S::Response, S::Error>) -> bool,
) -> bool {
    let mut cx = Context::from_waker(Waker::noop());
    assert!(service.poll_ready(&mut cx).is_ready(), "the service was not ready");
    let mut future = pin!(service.call(black_box(REQUEST)));
    for _ in 0..pending {
        assert!(future.as_mut().poll(&mut cx).is_pending(), "the call was not pending");
    }
    let polled = future.as_mut().poll(&mut cx);
    let Poll::Ready(result) = black_box(&polled) else { panic!("the call was still pending") };
    expected(result)
}
