use super::{Backend, BackendService};
use crate::{Random, error::ConfigError};
use futures_util::stream::{FuturesUnordered, StreamExt};
use rand::{Rng, SeedableRng, rngs::Xoshiro256PlusPlus};
use std::{
    cell::{Cell, RefCell},
    cmp::Reverse,
    collections::BinaryHeap,
    pin::Pin,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};
use tokio::time::Instant;

type Task = Pin<Box<dyn Future<Output = ()>>>;

/// The simulated world: its clock, its random numbers, its tasks. A handle; clones are the same world.
///
/// Its clock is tokio's, paused: [`Instant::now`] and every timer of every layer follow it. Waits of the simulation
/// itself are exact to the nanosecond; tokio's timers fire at whole milliseconds, here as in production.
#[derive(Clone)]
pub struct Sim(Rc<Kernel>);

struct Kernel {
    start: Instant,
    /// The time since the start, as last read: the clock moves nowhere but in [`Sim::run`], and to read it is slow.
    elapsed: Cell<Duration>,
    length: Duration,
    random: RefCell<Xoshiro256PlusPlus>,
    /// Who wants to be woken, by instant, then by order of asking.
    sleepers: RefCell<BinaryHeap<Reverse<Sleeper>>>,
    asked: Cell<u64>,
    spawned: RefCell<Vec<Task>>,
    /// Calls that have not ended: the run waits for them.
    calls: Cell<u64>,
    /// Tasks that have not ended and in which timers of layers may be running: calls and whatever else runs services.
    timed: Cell<u64>,
    most_tasks: Cell<u64>,
    pub(super) backends: RefCell<Vec<BackendService>>,
    /// Why the first part of this world that cannot work was refused.
    refused: RefCell<Option<ConfigError>>,
}

struct Sleeper {
    at: Duration,
    order: u64,
    waker: Waker,
}

impl PartialEq for Sleeper {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Sleeper {}

impl PartialOrd for Sleeper {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Sleeper {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.order).cmp(&(other.at, other.order))
    }
}

impl Sim {
    pub(super) fn new(seed: u64, length: Duration) -> Self {
        Self(Rc::new(Kernel {
            start: Instant::now(),
            elapsed: Cell::new(Duration::ZERO),
            length,
            random: RefCell::new(Xoshiro256PlusPlus::seed_from_u64(seed)),
            sleepers: RefCell::default(),
            asked: Cell::new(0),
            spawned: RefCell::default(),
            calls: Cell::new(0),
            timed: Cell::new(0),
            most_tasks: Cell::new(0),
            backends: RefCell::default(),
            refused: RefCell::new(None),
        }))
    }

    /// A backend in this world. One that cannot work makes the run fail.
    pub fn backend(&self, spec: Backend) -> BackendService {
        self.expect(spec.check(self.0.length));
        let backend = BackendService::new(self.clone(), spec);
        self.0.backends.borrow_mut().push(backend.clone());
        backend
    }

    /// A generator for a layer, which draws the same numbers for the same seed of the run.
    pub fn random(&self) -> Random {
        Random::seeded(self.draw(|random| random.next_u64()))
    }

    /// The time since the start of the run.
    pub fn elapsed(&self) -> Duration {
        self.0.elapsed.get()
    }

    fn read_clock(&self) {
        self.0.elapsed.set(Instant::now().saturating_duration_since(self.0.start));
    }

    /// Waits, exactly.
    pub fn sleep(&self, duration: Duration) -> Sleep {
        Sleep { sim: self.clone(), until: self.elapsed().saturating_add(duration) }
    }

    /// Runs a future beside all others, until its end or that of the run.
    pub fn spawn(&self, future: impl Future<Output = ()> + 'static) {
        self.0.timed.set(self.0.timed.get() + 1);
        let sim = self.clone();
        self.spawn_untimed(async move {
            future.await;
            sim.0.timed.set(sim.0.timed.get() - 1);
        });
    }

    /// Runs a future that has no timers but [`sleep`](Self::sleep): the clock may jump from one of those to the next.
    pub(super) fn spawn_untimed(&self, future: impl Future<Output = ()> + 'static) {
        self.0.spawned.borrow_mut().push(Box::pin(future));
    }

    /// Makes the run fail if this is an error.
    pub(super) fn expect(&self, checked: Result<(), ConfigError>) {
        if let Err(error) = checked {
            self.0.refused.borrow_mut().get_or_insert(error);
        }
    }

    pub(super) fn draw<T>(&self, draw: impl FnOnce(&mut dyn Rng) -> T) -> T {
        draw(&mut *self.0.random.borrow_mut())
    }

    pub(super) fn backends(&self) -> Vec<BackendService> {
        self.0.backends.borrow().clone()
    }

    /// Lets go of the backends, which hold on to this world.
    pub(super) fn end(&self) {
        self.0.backends.borrow_mut().clear();
        drop(self.0.spawned.take());
        drop(self.0.sleepers.take());
    }

    pub(super) fn refused(&self) -> Result<(), ConfigError> {
        self.0.refused.borrow_mut().take().map_or(Ok(()), Err)
    }

    pub(super) fn most_tasks(&self) -> u64 {
        self.0.most_tasks.get()
    }

    /// Runs a call: like [`spawn`](Self::spawn), and the run waits for its end.
    pub(super) fn spawn_call(&self, call: impl Future<Output = ()> + 'static) {
        self.0.calls.set(self.0.calls.get() + 1);
        let sim = self.clone();
        self.spawn(async move {
            call.await;
            sim.0.calls.set(sim.0.calls.get() - 1);
        });
    }

    /// Runs the world until no call is under way and nothing is to come before `end`, or until `limit`.
    pub(super) async fn run(&self, end: Duration, limit: Duration) {
        let mut tasks = FuturesUnordered::new();
        let woken = Arc::new(Woken(AtomicBool::new(false)));
        let waker = Waker::from(woken.clone());
        let mut cx = Context::from_waker(&waker);
        loop {
            self.run_tasks(&mut tasks, &woken, &mut cx);
            let now = self.elapsed();
            let next = self.0.sleepers.borrow().peek().map(|Reverse(sleeper)| sleeper.at);
            let timed = self.0.timed.get() > 0;
            // The timers of layers fire at whole milliseconds.
            let next = match next {
                Some(at) if !timed => at,
                Some(at) => at.min(next_milli(now)),
                None if timed => next_milli(now),
                None => return,
            };
            if next > limit || next > end && self.0.calls.get() == 0 {
                return;
            }
            if next > now {
                tokio::time::advance(next - now).await;
                self.read_clock();
            }
            self.wake_sleepers(next);
        }
    }

    /// Polls everything that can go on, until nothing can.
    fn run_tasks(&self, tasks: &mut FuturesUnordered<Task>, woken: &Woken, cx: &mut Context<'_>) {
        loop {
            for task in self.0.spawned.take() {
                tasks.push(task);
            }
            self.0.most_tasks.set(self.0.most_tasks.get().max(tasks.len() as u64));
            woken.0.store(false, Ordering::Relaxed);
            let ended = match tasks.poll_next_unpin(cx) {
                Poll::Ready(ended) => ended.is_some(),
                Poll::Pending => woken.0.load(Ordering::Relaxed),
            };
            if !ended && self.0.spawned.borrow().is_empty() {
                return;
            }
        }
    }

    fn wake_sleepers(&self, now: Duration) {
        let mut sleepers = self.0.sleepers.borrow_mut();
        while sleepers.peek().is_some_and(|Reverse(sleeper)| sleeper.at <= now) {
            if let Some(Reverse(sleeper)) = sleepers.pop() {
                sleeper.waker.wake();
            }
        }
    }
}

fn next_milli(now: Duration) -> Duration {
    Duration::from_millis(u64::try_from(now.as_millis()).unwrap_or(u64::MAX).saturating_add(1))
}

/// Notes that a task was woken.
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// The future of [`Sim::sleep`].
#[must_use = "futures do nothing unless polled"]
pub struct Sleep {
    sim: Sim,
    until: Duration,
}

impl Future for Sleep {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.sim.elapsed() >= self.until {
            return Poll::Ready(());
        }
        let kernel = &self.sim.0;
        let order = kernel.asked.get();
        kernel.asked.set(order + 1);
        let sleeper = Sleeper { at: self.until, order, waker: cx.waker().clone() };
        kernel.sleepers.borrow_mut().push(Reverse(sleeper));
        Poll::Pending
    }
}
