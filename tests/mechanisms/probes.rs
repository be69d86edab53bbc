//! Helpers for the tests of borders, stamps, replays and observers: user code that takes time, panics on demand, or
//! records its calls.

use crate::support::Backend;
use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    pin::{Pin, pin},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};
use steadfast::{
    Rejection,
    load_shed::Limiter,
    retry::{Backoff, Jitter, Retry},
    shell::{Begin, DescribeGate, End, Ending, Explanation, Frame, Gate, Observed, Observer, Retries},
};
use tokio::time::{Instant, advance};

/// Lets virtual time pass within one poll, like user code that takes time without waiting.
pub fn take(time: Duration) {
    // The clock is advanced in the first poll.
    let _ = pin!(advance(time)).poll(&mut Context::from_waker(Waker::noop()));
}

/// Polls once with a waker that wakes no task.
pub fn poll<F: Future + ?Sized>(future: &mut Pin<Box<F>>) -> Poll<F::Output> {
    future.as_mut().poll(&mut Context::from_waker(Waker::noop()))
}

/// Polls once, and expects a panic.
#[track_caller]
pub fn poll_panics<F: Future + ?Sized>(future: &mut Pin<Box<F>>) {
    assert!(catch_unwind(AssertUnwindSafe(|| poll(future).is_ready())).is_err(), "the poll did not panic");
}

/// Retries after a fixed wait, without a budget.
pub fn every(attempts: u32, wait: Duration) -> Retry {
    Retry::new(attempts).backoff(Backoff::exponential(wait, wait).jitter(Jitter::None)).without_budget()
}

/// The recorded events, in order.
#[derive(Clone, Debug, Default)]
pub struct Events(Arc<Mutex<Vec<String>>>);

impl Events {
    pub fn add(&self, event: impl Into<String>) {
        self.0.lock().unwrap().push(event.into());
    }

    /// Returns the events since the last call.
    pub fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

/// Counts the values that were made, and those that were dropped.
#[derive(Clone, Debug, Default)]
pub struct Census(Arc<[AtomicUsize; 2]>);

impl Census {
    /// Makes one more counted value.
    pub fn one(&self) -> Counted {
        self.0[0].fetch_add(1, Relaxed);
        Counted(self.clone())
    }

    pub fn made(&self) -> usize {
        self.0[0].load(Relaxed)
    }

    pub fn alive(&self) -> usize {
        self.made() - self.0[1].load(Relaxed)
    }
}

/// A value whose clones and drops are counted.
#[derive(Debug)]
pub struct Counted(Census);

impl Clone for Counted {
    fn clone(&self) -> Self {
        self.0.one()
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.0[1].fetch_add(1, Relaxed);
    }
}

/// A gate that asserts that the time of its frame is that of the clock, and counts its checks.
#[derive(Clone, Debug, Default)]
pub struct OnTime(pub Arc<AtomicUsize>);

impl OnTime {
    #[track_caller]
    fn check(&self, frame: &mut Frame) {
        self.0.fetch_add(1, Relaxed);
        assert_eq!(frame.now(), Instant::now());
    }
}

impl<Request> Gate<Request> for OnTime {
    type Permit = ();

    fn admit(&self, _: &Request, frame: &mut Frame) -> Result<(), Rejection> {
        self.check(frame);
        Ok(())
    }

    fn under_way(&self, _: &mut (), frame: &mut Frame) {
        self.check(frame);
    }

    fn settle(&self, (): (), _: Ending, frame: &mut Frame) {
        self.check(frame);
    }
}

impl DescribeGate for OnTime {
    fn describe(&self, explanation: &mut Explanation) {
        explanation.layer("on time", "reads the clock");
    }
}

/// The resources that calls hold: places of a limiter, and futures of a backend.
#[derive(Clone, Debug)]
pub struct Holds {
    pub limiter: Limiter,
    pub backend: Backend,
}

impl Holds {
    pub fn new(backend: Backend) -> Self {
        Self { limiter: Limiter::fixed(1).unwrap(), backend }
    }

    pub fn nothing(&self) -> bool {
        self.limiter.in_flight() == 0 && self.backend.in_flight() == 0
    }
}

/// An observer that records each beginning and end, and on request each poll. A watch that is dropped before its end is
/// recorded as lost.
#[derive(Clone, Debug, Default)]
pub struct Recorder<const QUICK: bool = false> {
    pub events: Events,
    /// The watches in progress.
    pub open: Census,
    pub notes_polls: bool,
    /// The time that passes in `begin`, on each side of `poll`, and in `end`.
    pub takes: Duration,
    /// The place that panics, such as `begin call`. See [`panics_at`](Self::panics_at).
    pub panics: Arc<Mutex<Option<&'static str>>>,
    pub name: Option<&'static str>,
}

impl<const QUICK: bool> Recorder<QUICK> {
    /// Makes the observer panic at this place from now on. The place is `begin`, `enter`, `leave` or `end`, and then
    /// `call` or `attempt`. `enter` is before a poll, and `leave` after it.
    pub fn panics_at(&self, at: &'static str) {
        *self.panics.lock().unwrap() = Some(at);
    }

    fn passes(&self, what: &str, place: &str) {
        take(self.takes);
        let place = format!("{place} {what}");
        let panics = self.panics.lock().unwrap().is_some_and(|at| at == place);
        assert!(!panics, "the observer, as the test wants it: {place}");
    }
}

/// A watch in progress.
#[derive(Debug)]
pub struct UnderWay {
    what: &'static str,
    events: Events,
    ended: bool,
    _counted: Counted,
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        if !self.ended {
            self.events.add(format!("{} lost", self.what));
        }
    }
}

impl<const QUICK: bool> Observer for Recorder<QUICK> {
    const IS_QUICK: bool = QUICK;

    type Watch = UnderWay;

    fn watches(&mut self, stack: &'static str) {
        assert_eq!(self.name.replace(stack), None);
        self.events.add(format!("watches {stack}"));
    }

    fn begin(&self, begin: &Begin) -> UnderWay {
        assert_eq!(self.name, Some(begin.stack()));
        let what = match begin.observed() {
            Observed::Call => "call",
            Observed::Attempt => "attempt",
        };
        self.passes(what, "begin");
        self.events.add(format!("{what} {} begins", begin.context().attempt()));
        UnderWay { what, events: self.events.clone(), ended: false, _counted: self.open.one() }
    }

    fn poll<T>(&self, watch: &mut UnderWay, poll: impl FnOnce() -> T) -> T {
        self.passes(watch.what, "enter");
        if self.notes_polls {
            self.events.add(format!("enter {}", watch.what));
        }
        let polled = poll();
        if self.notes_polls {
            self.events.add(format!("leave {}", watch.what));
        }
        self.passes(watch.what, "leave");
        polled
    }

    fn end(&self, mut watch: UnderWay, end: &End<'_>) {
        watch.ended = true;
        let rejection = end.rejection().map_or(String::new(), |rejection| format!(", {}", rejection.mechanism()));
        let took = end.took().as_millis();
        self.events.add(format!("{} ends in {took} ms: {:?}{rejection}", watch.what, end.ending()));
        let retries = end.retries();
        if retries != Retries::default() {
            let (attempts, waited) = (retries.attempts(), retries.waited().as_millis());
            self.events.add(format!("{attempts} attempts, waited {waited} ms, denied: {:?}", retries.denied()));
        }
        self.passes(watch.what, "end");
    }
}
