//! What the tests of borders, stamps, replays and observers share: user code that takes its time, panics on demand, or
//! notes what it sees.

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
    shell::{DescribeGate, Ending, Explanation, Frame, Gate},
};
use tokio::time::{Instant, advance};

/// Lets virtual time pass without waiting: what user code does that takes its time.
pub fn take(time: Duration) {
    // The clock is advanced in the first poll.
    let _ = pin!(advance(time)).poll(&mut Context::from_waker(Waker::noop()));
}

/// Polls once, and nobody is woken.
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

/// What happened, in order.
#[derive(Clone, Debug, Default)]
pub struct Events(Arc<Mutex<Vec<String>>>);

impl Events {
    pub fn add(&self, event: impl Into<String>) {
        self.0.lock().unwrap().push(event.into());
    }

    /// What happened since this was asked for last.
    pub fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

/// How many values were made and dropped.
#[derive(Clone, Debug, Default)]
pub struct Census(Arc<[AtomicUsize; 2]>);

impl Census {
    /// One more that is counted.
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

/// A gate that finds the time of its frame to be that of the clock, whenever it is asked, and counts how often it was.
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

/// What is held by calls: places of a limiter, and futures of a backend.
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
