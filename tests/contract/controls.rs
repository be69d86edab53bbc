//! How a test tells the [fixture](crate::fixture) what to do, and asks what it saw.

use crate::task::advance_within;
use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::Waker,
    time::Duration,
};

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
pub struct State {
    pub seen: Seen,
    pub readiness: Script<Readiness>,
    pub acts: Script<Act>,
    pub unblocked: bool,
    pub answered: bool,
    pub wakers: BTreeMap<usize, Waker>,
    pub next_id: usize,
    pub breaches: Vec<&'static str>,
    pub called: Vec<usize>,
    pub when_dropped: Option<Box<dyn Fn() + Send>>,
    pub takes: Duration,
}

/// What comes next, and what comes when nothing was said.
pub struct Script<T> {
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
    pub fn take(&mut self) -> T {
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

    /// So much time passes in each clone, poll, call and drop of the fixture, and of its futures.
    pub fn takes(self, time: Duration) -> Self {
        self.lock().takes = time;
        self
    }

    /// Lets the time pass that the fixture takes.
    pub fn take_time(&self) {
        let time = self.lock().takes;
        if !time.is_zero() {
            advance_within(time);
        }
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

    pub fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn breach(&self, breach: &'static str) -> ! {
        self.lock().breaches.push(breach);
        panic!("{breach}")
    }
}
