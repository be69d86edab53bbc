//! A service that a test controls, and that insists on the contract of `Service`.

use crate::controls::{Act, Controls, Readiness};
use std::{
    fmt,
    marker::PhantomData,
    pin::Pin,
    task::{Context, Poll},
};
use steadfast::Rejection;
use tower::Service;

/// The error of the fixture.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// From `poll_ready`.
    #[error("the service will never be ready")]
    NotReady,
    /// From the service's future.
    #[error("the service failed")]
    Failed(#[source] Cause),
    /// From a tower service between the subject and the fixture.
    #[error("{0}")]
    Foreign(String),
}

/// The source of [`Fault::Failed`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the disk is full")]
pub struct Cause;

/// An error enum of an application, as users write it.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    #[error("not now")]
    Rejected(#[from] Rejection),
    #[error("it did not work")]
    Fault(#[from] Fault),
}

/// A service that follows its [`Controls`], with errors of type `E`.
pub struct Fixture<E> {
    controls: Controls,
    id: usize,
    grant: Grant,
    error: PhantomData<fn() -> E>,
}

/// The last result of an instance's `poll_ready` since it was made or called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Grant {
    /// Not polled yet.
    Unasked,
    /// Pending. The next poll behaves like this.
    Pending(Readiness),
    Ready,
    Failed,
}

impl<E> Fixture<E> {
    pub fn new(controls: &Controls) -> Self {
        let mut state = controls.lock();
        let id = state.next_id;
        state.next_id += 1;
        state.seen.instances_made += 1;
        state.seen.instances_alive += 1;
        drop(state);
        Self { controls: controls.clone(), id, grant: Grant::Unasked, error: PhantomData }
    }
}

/// A clone starts unready.
impl<E> Clone for Fixture<E> {
    fn clone(&self) -> Self {
        self.controls.take_time();
        Self::new(&self.controls)
    }
}

impl<E> fmt::Debug for Fixture<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fixture").field("id", &self.id).finish_non_exhaustive()
    }
}

impl<E> Drop for Fixture<E> {
    fn drop(&mut self) {
        self.controls.take_time();
        let mut state = self.controls.lock();
        state.seen.instances_alive -= 1;
        state.wakers.remove(&self.id);
    }
}

impl<E: From<Fault>> Service<u32> for Fixture<E> {
    type Response = u32;
    type Error = E;
    type Future = Answer<E>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), E>> {
        self.controls.take_time();
        let mut state = self.controls.lock();
        state.seen.ready_polls += 1;
        let readiness = match self.grant {
            Grant::Unasked => state.readiness.take(),
            Grant::Pending(readiness) => readiness,
            Grant::Ready => return Poll::Ready(Ok(())),
            Grant::Failed => {
                drop(state);
                self.controls.breach("an instance was polled ready after its readiness had failed");
            }
        };
        match readiness {
            Readiness::Ready | Readiness::After(0) => self.grant = Grant::Ready,
            Readiness::Blocked if state.unblocked => self.grant = Grant::Ready,
            Readiness::After(polls) => {
                self.grant = Grant::Pending(Readiness::After(polls - 1));
                drop(state);
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            Readiness::Blocked => {
                self.grant = Grant::Pending(readiness);
                state.wakers.insert(self.id, cx.waker().clone());
                return Poll::Pending;
            }
            Readiness::Fails => {
                self.grant = Grant::Failed;
                return Poll::Ready(Err(Fault::NotReady.into()));
            }
            Readiness::Panics => {
                self.grant = Grant::Failed;
                drop(state);
                panic!("a panic in poll_ready, as the test wants it");
            }
        }
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: u32) -> Answer<E> {
        self.controls.take_time();
        if self.grant != Grant::Ready {
            self.controls.breach("an instance was called that was not polled ready before");
        }
        self.grant = Grant::Unasked;
        let mut state = self.controls.lock();
        state.seen.calls += 1;
        state.called.push(self.id);
        let act = state.acts.take();
        if act == Act::PanicInCall {
            drop(state);
            panic!("a panic in call, as the test wants it");
        }
        state.seen.futures_alive += 1;
        let id = state.next_id;
        state.next_id += 1;
        drop(state);
        Answer { controls: self.controls.clone(), id, act, request, answered: false, error: PhantomData }
    }
}

/// The future of the fixture.
pub struct Answer<E> {
    controls: Controls,
    id: usize,
    act: Act,
    request: u32,
    answered: bool,
    error: PhantomData<fn() -> E>,
}

impl<E: From<Fault>> Future for Answer<E> {
    type Output = Result<u32, E>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if self.answered {
            self.controls.breach("the service's future was polled after its answer");
        }
        self.controls.take_time();
        let mut state = self.controls.lock();
        state.seen.future_polls += 1;
        let later = match self.act {
            Act::Wait | Act::WaitThenPanicInDrop if !state.answered => {
                state.wakers.insert(self.id, cx.waker().clone());
                return Poll::Pending;
            }
            Act::AnswerAfter(polls @ 1..) => Some(Act::AnswerAfter(polls - 1)),
            Act::FailAfter(polls @ 1..) => Some(Act::FailAfter(polls - 1)),
            Act::PanicInPollAfter(polls @ 1..) => Some(Act::PanicInPollAfter(polls - 1)),
            _ => None,
        };
        drop(state);
        if let Some(act) = later {
            self.act = act;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.answered = true;
        match self.act {
            Act::FailAfter(_) => Poll::Ready(Err(Fault::Failed(Cause).into())),
            Act::PanicInPollAfter(_) => panic!("a panic in a poll, as the test wants it"),
            _ => Poll::Ready(Ok(self.request)),
        }
    }
}

impl<E> Drop for Answer<E> {
    fn drop(&mut self) {
        self.controls.take_time();
        let mut state = self.controls.lock();
        state.seen.futures_alive -= 1;
        state.wakers.remove(&self.id);
        let hook = state.when_dropped.take();
        drop(state);
        if let Some(hook) = hook {
            hook();
            self.controls.lock().when_dropped = Some(hook);
        }
        if matches!(self.act, Act::AnswerThenPanicInDrop | Act::WaitThenPanicInDrop) && !std::thread::panicking() {
            panic!("a panic in drop, as the test wants it");
        }
    }
}
