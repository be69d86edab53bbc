//! Shared by the tests in `tests/mechanisms`: a scripted service, a stopwatch that reads virtual time, futures that a
//! test polls by hand, and the sizes of tests.

#![allow(dead_code, reason = "no test binary uses all of it")]

pub mod fleet;
pub mod quotas;

use std::{
    collections::VecDeque,
    error, fmt,
    future::pending,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};
use steadfast::Outcome;
use tokio::time::{Instant, sleep};
use tower::Service;

pub fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

pub fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

/// Reads the virtual time since its start.
#[derive(Clone, Copy, Debug)]
pub struct Stopwatch(Instant);

impl Stopwatch {
    pub fn start() -> Self {
        Self(Instant::now())
    }

    pub fn read(self) -> Duration {
        Instant::now().saturating_duration_since(self.0)
    }
}

/// The behaviour of a [`Backend`] in one call.
#[derive(Clone, Copy, Debug)]
pub struct Act {
    after: Duration,
    then: Then,
}

#[derive(Clone, Copy, Debug)]
enum Then {
    Answer(u16),
    Fail,
    Hang,
    Panic,
    PanicAtOnce,
}

impl Act {
    /// Answers with this status.
    pub const fn answer(status: u16) -> Self {
        Self { after: Duration::ZERO, then: Then::Answer(status) }
    }

    /// Ends with an error.
    pub const fn fail() -> Self {
        Self { after: Duration::ZERO, then: Then::Fail }
    }

    /// Never answers.
    pub const fn hang() -> Self {
        Self { after: Duration::ZERO, then: Then::Hang }
    }

    /// Panics in the poll of its future.
    pub const fn panic() -> Self {
        Self { after: Duration::ZERO, then: Then::Panic }
    }

    /// Panics in `call`.
    pub const fn panic_at_once() -> Self {
        Self { after: Duration::ZERO, then: Then::PanicAtOnce }
    }

    /// Acts after this delay.
    pub const fn after(self, after: Duration) -> Self {
        Self { after, ..self }
    }
}

/// The error of a [`Backend`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failed;

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the backend failed")
    }
}

impl error::Error for Failed {}

/// A classifier for the statuses of a [`Backend`].
pub fn by_status(result: Result<&u16, &Failed>) -> Outcome {
    match result {
        Ok(404) => Outcome::Ignored,
        Ok(429) => Outcome::Overloaded { retry_after: None },
        Ok(503) => Outcome::Overloaded { retry_after: Some(secs(1)) },
        Ok(400..=499) => Outcome::Permanent,
        Ok(500..) | Err(Failed) => Outcome::Failure,
        Ok(_) => Outcome::Success,
    }
}

/// A scripted service that records its requests. Clones share one backend.
#[derive(Clone, Debug)]
pub struct Backend {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    script: Mutex<Script>,
    in_flight: AtomicUsize,
    most_in_flight: AtomicUsize,
    polls: AtomicUsize,
    since: Stopwatch,
}

#[derive(Debug)]
struct Script {
    /// The acts for the next calls, and for all calls after these.
    next: VecDeque<Act>,
    then: Act,
    /// The number of further calls it is ready for, and whether its readiness then fails or stays pending.
    ready_for: usize,
    then_broken: bool,
    waiting: Vec<Waker>,
    arrivals: Vec<Duration>,
}

impl Backend {
    /// Creates a backend that acts in the same way for every call.
    pub fn always(act: Act) -> Self {
        Self::script([], act)
    }

    /// Creates a backend that performs the acts of `next` in order, and then always `then`.
    pub fn script(next: impl IntoIterator<Item = Act>, then: Act) -> Self {
        let script = Script {
            next: next.into_iter().collect(),
            then,
            ready_for: usize::MAX,
            then_broken: false,
            waiting: Vec::new(),
            arrivals: Vec::new(),
        };
        let shared = Shared {
            script: Mutex::new(script),
            in_flight: AtomicUsize::new(0),
            most_in_flight: AtomicUsize::new(0),
            polls: AtomicUsize::new(0),
            since: Stopwatch::start(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Makes it act in this way for every later call.
    pub fn becomes(&self, act: Act) {
        let mut script = self.locked();
        script.next.clear();
        script.then = act;
    }

    /// Makes it ready for this many more calls; others wait.
    pub fn ready_for(self, calls: usize) -> Self {
        self.set_ready_for(calls);
        self
    }

    /// Makes it ready for this many more calls; others wait.
    pub fn set_ready_for(&self, calls: usize) {
        let mut script = self.locked();
        script.ready_for = calls;
        script.waiting.drain(..).for_each(Waker::wake);
    }

    /// Makes its readiness fail.
    pub fn broken(self) -> Self {
        self.locked().then_broken = true;
        self.ready_for(0)
    }

    /// Returns the number of calls that reached it.
    pub fn calls(&self) -> usize {
        self.locked().arrivals.len()
    }

    /// Returns when each call reached it, since its creation.
    pub fn arrivals(&self) -> Vec<Duration> {
        self.locked().arrivals.clone()
    }

    /// Returns the times between the calls that reached it.
    pub fn gaps(&self) -> Vec<Duration> {
        self.arrivals().windows(2).map(|pair| pair[1] - pair[0]).collect()
    }

    /// Returns the number of calls whose futures are alive.
    pub fn in_flight(&self) -> usize {
        self.shared.in_flight.load(Ordering::Relaxed)
    }

    /// Returns the most calls that were in flight at once.
    pub fn most_in_flight(&self) -> usize {
        self.shared.most_in_flight.load(Ordering::Relaxed)
    }

    /// Returns how often the futures of all calls were polled.
    pub fn polls(&self) -> usize {
        self.shared.polls.load(Ordering::Relaxed)
    }

    fn locked(&self) -> MutexGuard<'_, Script> {
        self.shared.script.lock().unwrap()
    }
}

impl<Request> Service<Request> for Backend {
    type Response = u16;
    type Error = Failed;
    type Future = Reply;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Failed>> {
        let mut script = self.locked();
        if script.ready_for > 0 {
            return Poll::Ready(Ok(()));
        }
        if script.then_broken {
            return Poll::Ready(Err(Failed));
        }
        script.waiting.push(cx.waker().clone());
        Poll::Pending
    }

    fn call(&mut self, _request: Request) -> Reply {
        let act = {
            let mut script = self.locked();
            script.ready_for -= 1;
            script.arrivals.push(self.shared.since.read());
            script.next.pop_front().unwrap_or(script.then)
        };
        if let Then::PanicAtOnce = act.then {
            panic!("the scripted panic, in `call`");
        }
        let guard = InFlight::enter(&self.shared);
        let work = async move {
            let _guard = guard;
            if !act.after.is_zero() {
                sleep(act.after).await;
            }
            match act.then {
                Then::Answer(status) => Ok(status),
                Then::Fail => Err(Failed),
                Then::Hang => pending().await,
                Then::Panic | Then::PanicAtOnce => panic!("the scripted panic, in `poll`"),
            }
        };
        Reply { work: Box::pin(work), shared: self.shared.clone() }
    }
}

/// The future of a call to a [`Backend`].
pub struct Reply {
    work: Pin<Box<dyn Future<Output = Result<u16, Failed>> + Send>>,
    shared: Arc<Shared>,
}

impl Future for Reply {
    type Output = Result<u16, Failed>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.shared.polls.fetch_add(1, Ordering::Relaxed);
        self.work.as_mut().poll(cx)
    }
}

struct InFlight(Arc<Shared>);

impl InFlight {
    fn enter(shared: &Arc<Shared>) -> Self {
        let now = shared.in_flight.fetch_add(1, Ordering::Relaxed) + 1;
        shared.most_in_flight.fetch_max(now, Ordering::Relaxed);
        Self(shared.clone())
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A future that returns its output with the number of its polls.
pub struct Counted<F> {
    inner: Pin<Box<F>>,
    polls: usize,
}

impl<F: Future> Counted<F> {
    pub fn new(inner: F) -> Self {
        Self { inner: Box::pin(inner), polls: 0 }
    }
}

impl<F: Future> Future for Counted<F> {
    type Output = (F::Output, usize);

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.polls += 1;
        let polls = self.polls;
        self.inner.as_mut().poll(cx).map(|output| (output, polls))
    }
}

/// A future that a test polls by hand, with a count of its wakes.
pub struct ByHand<F> {
    future: Pin<Box<F>>,
    wakes: Arc<Wakes>,
}

#[derive(Default)]
struct Wakes(AtomicUsize);

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

impl<F: Future> ByHand<F> {
    pub fn new(future: F) -> Self {
        Self { future: Box::pin(future), wakes: Arc::default() }
    }

    /// Polls a future once, and checks that it is pending.
    #[track_caller]
    pub fn pending(future: F) -> Self {
        let mut by_hand = Self::new(future);
        assert!(by_hand.poll().is_pending(), "it should not have ended");
        by_hand
    }

    pub fn poll(&mut self) -> Poll<F::Output> {
        let waker = Waker::from(self.wakes.clone());
        self.future.as_mut().poll(&mut Context::from_waker(&waker))
    }

    /// Returns the future itself, to read it.
    pub fn future(&self) -> &F {
        &self.future
    }

    /// Returns how often it was woken.
    pub fn wakes(&self) -> usize {
        self.wakes.0.load(Ordering::SeqCst)
    }

    /// Gives it another waker, with its own count. Returns a function that reads the count of the old waker.
    pub fn change_waker(&mut self) -> impl Fn() -> usize + use<F> {
        let old = std::mem::take(&mut self.wakes);
        move || old.0.load(Ordering::SeqCst)
    }
}

/// Returns the size of a test: `ordinary`, or `thorough` if the environment has `STEADFAST_TESTS=thorough`.
pub fn size<T>(ordinary: T, thorough: T) -> T {
    if std::env::var("STEADFAST_TESTS").is_ok_and(|size| size == "thorough") { thorough } else { ordinary }
}

/// Configures a property test with this many cases if it is thorough, and a fifth of them otherwise.
pub fn cases(thorough: u32) -> proptest::prelude::ProptestConfig {
    let cases = size(thorough / 5, thorough);
    proptest::prelude::ProptestConfig { cases, failure_persistence: None, ..Default::default() }
}
