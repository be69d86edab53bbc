//! Measures contestants side by side: the cost of an operation on one thread, and on two threads that share one object.
//!
//! All contestants of a row take turns in one process, so that a slow period of the machine affects all of them. A turn
//! makes a new object, starts its threads together on a core each, warms up, and then counts operations until its time
//! is over. Every operation returns whether its result was as expected, and an unexpected result ends the run. The
//! compiler therefore cannot remove a loop, and an empty bucket is noticed.

use crate::{
    allocations,
    tally::Turn,
    turn::{in_tasks, on_threads},
};
use std::time::Duration;
use tower::Service;

/// The request of every measured call, and the answer of the service behind it.
pub const REQUEST: u64 = 7;

/// How often a turn is repeated if other processes had the cores.
const RETRIES: usize = 20;

/// How thoroughly to measure.
#[derive(Clone, Copy)]
pub struct Effort {
    pub repetitions: usize,
    pub warm_up: Duration,
    pub measured: Duration,
}

/// The role of a contestant in its row.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Role {
    Ours,
    Peer,
    /// The lowest cost of the same work: hand-written for this row.
    Floor,
    /// The service that the others wrap.
    Bare,
}

/// One contestant of a row.
pub struct Contestant {
    pub name: &'static str,
    pub role: Role,
    /// For objects that two threads cannot share.
    pub alone: bool,
    /// Why its time is not comparable, if it does other work.
    pub other_work: Option<&'static str>,
    turn: Box<dyn Fn(usize, Effort) -> Turn>,
}

/// One operation, and all contestants that perform it.
pub struct Row {
    pub name: String,
    /// Why the row is informational only, if it compares nothing.
    pub informational: Option<&'static str>,
    pub contestants: Vec<Contestant>,
}

impl Row {
    pub fn new(name: impl Into<String>, contestants: Vec<Contestant>) -> Self {
        Self { name: name.into(), informational: None, contestants }
    }

    pub fn informational(self, why: &'static str) -> Self {
        Self { informational: Some(why), ..self }
    }
}

impl Contestant {
    /// A synchronous operation, on plain threads with a tokio runtime entered. Each thread gets a clone of the value
    /// that `make` returned. The operation returns whether its result was as expected.
    pub fn on_threads<T, Make, Operation>(role: Role, name: &'static str, make: Make, operation: Operation) -> Self
    where
        T: Clone + Send,
        Make: Fn() -> T + 'static,
        Operation: Fn(&mut T) -> bool + Sync + 'static,
    {
        let turn = move |threads: usize, effort: Effort| {
            let shared = make();
            on_threads((0..threads).map(|_| shared.clone()).collect(), effort, &operation)
        };
        Self { name, role, alone: false, other_work: None, turn: Box::new(turn) }
    }

    /// A call of a service, in one task per thread. One thread is a current-thread runtime; two threads are the workers
    /// of a multi-thread runtime. Each task gets a clone of the value that `make` returned, and calls it repeatedly.
    pub fn in_runtime<S, Make>(
        role: Role,
        name: &'static str,
        make: Make,
        expected: fn(&Result<S::Response, S::Error>) -> bool,
    ) -> Self
    where
        S: Service<u64> + Clone + Send + 'static,
        S::Future: Send,
        S::Response: Send,
        S::Error: Send,
        Make: Fn() -> S + 'static,
    {
        let turn = move |threads: usize, effort: Effort| {
            in_tasks(threads, effort, expected, || {
                let shared = make();
                (0..threads).map(|_| shared.clone()).collect()
            })
        };
        Self { name, role, alone: false, other_work: None, turn: Box::new(turn) }
    }

    /// Like [`in_runtime`](Self::in_runtime), for a service that is not `Clone`: on one thread only.
    pub fn in_runtime_alone<S, Make>(
        role: Role,
        name: &'static str,
        make: Make,
        expected: fn(&Result<S::Response, S::Error>) -> bool,
    ) -> Self
    where
        S: Service<u64> + Send + 'static,
        S::Future: Send,
        S::Response: Send,
        S::Error: Send,
        Make: Fn() -> S + 'static,
    {
        let turn = move |threads: usize, effort: Effort| in_tasks(threads, effort, expected, || vec![make()]);
        Self { name, role, alone: true, other_work: None, turn: Box::new(turn) }
    }

    /// Custom turns, on this number of threads, with this effort.
    pub fn by_turns(role: Role, name: &'static str, turn: impl Fn(usize, Effort) -> Turn + 'static) -> Self {
        Self { name, role, alone: false, other_work: None, turn: Box::new(turn) }
    }

    /// Restricts the contestant to one thread.
    pub fn alone(self) -> Self {
        Self { alone: true, ..self }
    }

    /// Marks the contestant as informational: it does other work, for this reason.
    pub fn other_work(self, why: &'static str) -> Self {
        Self { other_work: Some(why), ..self }
    }

    /// Takes one turn, and one more to count allocations if `counted`.
    pub fn turn(&self, threads: usize, effort: Effort, counted: bool) -> Turn {
        let mut turn = (self.turn)(threads, effort);
        for _ in 0..RETRIES {
            if turn.nanos.is_none() {
                turn = (self.turn)(threads, effort);
            }
        }
        if counted {
            let short = Effort { measured: effort.measured / 8, ..effort };
            let short = allocations::counted(|| (self.turn)(threads, short));
            turn = Turn { allocations: short.allocations, wrong: turn.wrong + short.wrong, ..turn };
        }
        turn
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        hint::black_box,
        sync::{
            Arc,
            atomic::{AtomicUsize, Ordering},
        },
    };

    const EFFORT: Effort =
        Effort { repetitions: 1, warm_up: Duration::from_millis(1), measured: Duration::from_millis(2) };

    #[test]
    fn a_wrong_answer_is_seen() {
        let right = Contestant::on_threads(Role::Peer, "right", || (), |_| true);
        assert_eq!(right.turn(1, EFFORT, false).wrong, 0);
        let wrong = Contestant::on_threads(Role::Peer, "wrong", || (), |_| black_box(false));
        assert!(wrong.turn(1, EFFORT, false).wrong > 0);
    }

    #[test]
    fn two_threads_share_what_was_made_once() {
        let counter = Arc::new(AtomicUsize::new(0));
        let made = counter.clone();
        let make = move || {
            made.fetch_add(1, Ordering::Relaxed);
            Arc::new(AtomicUsize::new(0))
        };
        let shared = Contestant::on_threads(Role::Peer, "shared", make, |hits| {
            hits.fetch_add(1, Ordering::Relaxed) < usize::MAX
        });
        // One turn only: on a busy machine `Contestant::turn` takes another.
        (shared.turn)(2, EFFORT);
        assert_eq!(counter.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn allocations_are_per_operation() {
        let boxed = Contestant::on_threads(Role::Peer, "boxed", || (), |_| *black_box(Box::new(1)) == 1);
        let allocations = boxed.turn(1, EFFORT, true).allocations;
        assert!((allocations - 1.0).abs() < 0.1, "{allocations}");
    }
}
