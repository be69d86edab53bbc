//! A service that does what a test tells it, and insists on the contract of `Service`.

use std::{
    collections::{BTreeMap, VecDeque},
    fmt,
    marker::PhantomData,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
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

/// What is behind [`Fault::Failed`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the disk is full")]
pub struct Cause;

/// An application's error, as users write it.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    #[error("not now")]
    Rejected(#[from] Rejection),
    #[error("it did not work")]
    Fault(#[from] Fault),
}

/// What an instance does when it is polled ready. A new instance takes it up when it is first polled; after a call it
/// takes up the next one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Readiness {
    Ready,
    /// Ready after so many pending polls, each of which wakes its task.
    After(u32),
    /// Not ready before [`Controls::unblock`].
    Blocked,
    Fails,
    Panics,
}

/// What a call does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    Answer,
    /// Answers after so many pending polls, each of which wakes its task.
    AnswerAfter(u32),
    FailAfter(u32),
    /// Waits for [`Controls::answer`].
    Wait,
    PanicInCall,
    PanicInPollAfter(u32),
    /// Answers, and panics when the future is dropped after that.
    AnswerThenPanicInDrop,
    /// Waits, and panics when the future is dropped.
    WaitThenPanicInDrop,
}

/// What the fixture saw.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    pub instances_made: usize,
    pub instances_alive: usize,
    pub ready_polls: usize,
    pub calls: usize,
    pub future_polls: usize,
    pub futures_alive: usize,
}

/// The handle by which a test tells the fixture what to do, and asks what it saw.
#[derive(Clone, Default)]
pub struct Controls(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    seen: Seen,
    readiness: Script<Readiness>,
    acts: Script<Act>,
    unblocked: bool,
    answered: bool,
    wakers: BTreeMap<usize, Waker>,
    next_id: usize,
    breaches: Vec<&'static str>,
    called: Vec<usize>,
    when_dropped: Option<Box<dyn Fn() + Send>>,
}

/// What comes next, and what comes when nothing was said.
struct Script<T> {
    next: VecDeque<T>,
    else_: T,
}

impl Default for Script<Readiness> {
    fn default() -> Self {
        Self { next: VecDeque::new(), else_: Readiness::Ready }
    }
}

impl Default for Script<Act> {
    fn default() -> Self {
        Self { next: VecDeque::new(), else_: Act::Answer }
    }
}

impl<T: Copy> Script<T> {
    fn take(&mut self) -> T {
        self.next.pop_front().unwrap_or(self.else_)
    }
}

impl Controls {
    pub fn new() -> Self {
        Self::default()
    }

    /// All instances from here on are like this.
    pub fn readiness(self, readiness: Readiness) -> Self {
        self.lock().readiness.else_ = readiness;
        self
    }

    /// The next instances are like this, one after the other.
    pub fn next_readiness(self, readiness: impl IntoIterator<Item = Readiness>) -> Self {
        self.lock().readiness.next.extend(readiness);
        self
    }

    /// All calls from here on do this.
    pub fn act(self, act: Act) -> Self {
        self.lock().acts.else_ = act;
        self
    }

    /// The next calls do this, one after the other.
    pub fn next_acts(self, acts: impl IntoIterator<Item = Act>) -> Self {
        self.lock().acts.next.extend(acts);
        self
    }

    /// Runs whenever a future of the fixture is dropped.
    pub fn when_dropped(&self, hook: impl Fn() + Send + 'static) {
        self.lock().when_dropped = Some(Box::new(hook));
    }

    /// From here on blocked instances are ready.
    pub fn unblock(&self) {
        let mut state = self.lock();
        state.unblocked = true;
        let wakers = std::mem::take(&mut state.wakers);
        drop(state);
        wakers.into_values().for_each(Waker::wake);
    }

    /// From here on calls that wait are answered.
    pub fn answer(&self) {
        let mut state = self.lock();
        state.answered = true;
        let wakers = std::mem::take(&mut state.wakers);
        drop(state);
        wakers.into_values().for_each(Waker::wake);
    }

    pub fn seen(&self) -> Seen {
        self.lock().seen
    }

    /// The instances that were called, in order.
    pub fn called(&self) -> Vec<usize> {
        self.lock().called.clone()
    }

    /// Whoever called the fixture kept the contract: also where the panic at a breach was lost in another task.
    pub fn assert_contract_kept(&self) {
        assert_eq!(self.lock().breaches, [""; 0]);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn breach(&self, breach: &'static str) -> ! {
        self.lock().breaches.push(breach);
        panic!("{breach}")
    }
}

/// A service that does what its [`Controls`] say, with errors of type `E`.
pub struct Fixture<E> {
    controls: Controls,
    id: usize,
    grant: Grant,
    error: PhantomData<fn() -> E>,
}

/// What `poll_ready` has said about an instance since it was made or called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Grant {
    /// Nobody has asked.
    Unasked,
    /// Pending, and what is left to do.
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
