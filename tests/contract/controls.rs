//! The controls of the [fixture](crate::fixture), and the record of its calls.

use crate::task::advance_within;
use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::Waker,
    time::Duration,
};

/// The behaviour of an instance when it is polled ready. An instance takes the next behaviour of the script at its
/// first poll, and again at its first poll after each call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Readiness {
    Ready,
    /// Ready after this number of pending polls, each of which wakes its task.
    After(u32),
    /// Not ready before [`Controls::unblock`].
    Blocked,
    Fails,
    Panics,
}

/// The behaviour of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    Answer,
    /// Answers after this number of pending polls, each of which wakes its task.
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

/// The record of the fixture.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    pub instances_made: usize,
    pub instances_alive: usize,
    pub ready_polls: usize,
    pub calls: usize,
    pub future_polls: usize,
    pub futures_alive: usize,
}

/// The handle by which a test controls the fixture and reads its record.
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

/// The next values, and the value after them.
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

    /// Sets the readiness that instances take after those of [`next_readiness`](Self::next_readiness).
    pub fn readiness(self, readiness: Readiness) -> Self {
        self.lock().readiness.else_ = readiness;
        self
    }

    /// Sets the next values of the readiness. Instances take them one after the other.
    pub fn next_readiness(self, readiness: impl IntoIterator<Item = Readiness>) -> Self {
        self.lock().readiness.next.extend(readiness);
        self
    }

    /// Sets the behaviour of all calls after those of [`next_acts`](Self::next_acts).
    pub fn act(self, act: Act) -> Self {
        self.lock().acts.else_ = act;
        self
    }

    /// Sets the behaviour of the next calls, one after the other.
    pub fn next_acts(self, acts: impl IntoIterator<Item = Act>) -> Self {
        self.lock().acts.next.extend(acts);
        self
    }

    /// Sets the time that each clone, poll, call and drop of the fixture and of its futures takes.
    pub fn takes(self, time: Duration) -> Self {
        self.lock().takes = time;
        self
    }

    /// Advances the clock by the time that [`takes`](Self::takes) has set.
    pub fn take_time(&self) {
        let time = self.lock().takes;
        if !time.is_zero() {
            advance_within(time);
        }
    }

    /// Runs `hook` whenever a future of the fixture is dropped.
    pub fn when_dropped(&self, hook: impl Fn() + Send + 'static) {
        self.lock().when_dropped = Some(Box::new(hook));
    }

    /// Makes blocked instances ready from here on.
    pub fn unblock(&self) {
        let mut state = self.lock();
        state.unblocked = true;
        let wakers = std::mem::take(&mut state.wakers);
        drop(state);
        wakers.into_values().for_each(Waker::wake);
    }

    /// Answers waiting calls from here on.
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

    /// Returns the instances that were called, in order.
    pub fn called(&self) -> Vec<usize> {
        self.lock().called.clone()
    }

    /// Asserts that all callers of the fixture kept the contract. A breach also panics, but that panic may be lost in
    /// another task.
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
