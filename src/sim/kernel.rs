//! The simulated world and its run. The run polls tasks until none can make progress, then advances the clock, and so
//! on.

mod sleep;
mod streams;

pub use sleep::Sleep;
pub use streams::SeededHasher;
pub(super) use streams::{Draws, Stream};

use super::{Backend, BackendService};
use crate::{error::ConfigError, random::Random};
use futures_util::stream::{FuturesUnordered, StreamExt};
use sleep::Sleeper;
use std::{
    cell::{Cell, RefCell},
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap, HashMap},
    ops::Range,
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

/// The simulated world: its clock, its random numbers, its tasks. A handle: clones share one world.
///
/// Its clock is tokio's, paused: [`Instant::now`] and every timer of every layer follow it. Waits of the simulation
/// itself are exact to the nanosecond; tokio's timers fire at whole milliseconds, as in production.
#[derive(Clone)]
pub struct Sim(Rc<Kernel>);

struct Kernel {
    start: Instant,
    /// The time since the start, at the last clock reading. The clock is slow to read. It moves only in [`Sim::run`]
    /// and [`Sim::idle_until`], which read it after each move.
    elapsed: Cell<Duration>,
    /// From the end of the warm-up to the end of the run.
    counted: Range<Duration>,
    /// The largest number of keys of a load.
    keys: u64,
    seed: u64,
    /// The number of streams of each kind that were created so far.
    streams: RefCell<HashMap<Draws, u64>>,
    /// The tasks to wake, by instant, then by registration.
    sleepers: RefCell<BinaryHeap<Reverse<Sleeper>>>,
    /// The number of sleepers registered so far. It orders the sleepers of one instant.
    registered: Cell<u64>,
    /// The tasks that were spawned and that the run has not polled yet.
    spawned: RefCell<Vec<Task>>,
    /// The calls that have not ended. The run waits for them.
    calls: Cell<u64>,
    /// The tasks that have not ended and that may have timers of layers: calls, and other tasks that run services.
    timed: Cell<u64>,
    /// The largest value that `timed` had.
    most_tasks: Cell<u64>,
    backends: RefCell<Vec<BackendService>>,
    /// The watches: each has a name, and a function that returns how many permits, places or probes are still held.
    watched: RefCell<Vec<(String, Box<dyn Fn() -> u64>)>>,
    /// The error of the first invalid part of this world.
    invalid: RefCell<Option<ConfigError>>,
}

impl Sim {
    pub(super) fn new(seed: u64, counted: Range<Duration>, keys: u64) -> Self {
        Self(Rc::new(Kernel {
            start: Instant::now(),
            elapsed: Cell::new(Duration::ZERO),
            counted,
            keys,
            seed,
            streams: RefCell::default(),
            sleepers: RefCell::default(),
            registered: Cell::new(0),
            spawned: RefCell::default(),
            calls: Cell::new(0),
            timed: Cell::new(0),
            most_tasks: Cell::new(0),
            backends: RefCell::default(),
            watched: RefCell::default(),
            invalid: RefCell::new(None),
        }))
    }

    /// Creates a backend in this world. Call it in the closure that builds the clients, such as that of
    /// [`Scenario::run`](super::Scenario::run). The run then returns an error if the settings are invalid.
    pub fn backend(&self, spec: Backend) -> BackendService {
        self.expect(spec.check(self.0.counted.end, self.0.keys));
        let backend = BackendService::new(self.clone(), spec);
        self.0.backends.borrow_mut().push(backend.clone());
        backend
    }

    /// Returns a random generator for a layer. It follows the seed of the run, and draws other numbers than any other
    /// part of this world.
    pub fn random(&self) -> Random {
        Random::seeded(self.stream(Draws::Layer).draw(|random| random.next_u64()))
    }

    /// Returns a hasher for [`KeyedBuilder::hasher`](crate::rate_limit::KeyedBuilder::hasher) of a keyed limit. The
    /// standard hasher has another seed in each run. With the standard hasher, two runs with one seed would put keys
    /// into different slots. In a full table, other keys would then find no slot.
    pub fn hasher(&self) -> SeededHasher {
        SeededHasher::new(&self.stream(Draws::Hasher))
    }

    /// Calls `held` at the end of the run, to find permits, places or probes that were taken and not returned. The
    /// report shows the number under this name in [`held`](super::Report::held), and
    /// [`assert_nothing_held`](super::Report::assert_nothing_held) requires zero for all names. Several handles may
    /// share a name: their numbers add up.
    ///
    /// A run with a watch also waits for the tasks of [`spawn`](Self::spawn) and of links, within
    /// [`settle_within`](super::Scenario::settle_within). It needs to, because the far side of a [`Link`](super::Link)
    /// may still have a permit after its caller has gone.
    ///
    /// ```
    /// # fn main() -> Result<(), steadfast::ConfigError> {
    /// use std::time::Duration;
    /// use steadfast::load_shed::Limiter;
    /// use steadfast::sim::{Backend, Latency, Load, Scenario};
    ///
    /// let report = Scenario::new(Load::poisson(100.0)).run(|sim| {
    ///     let (limiter, backend) = (Limiter::fixed(4)?, Backend::new(Latency::fixed(Duration::from_millis(20))));
    ///     let watched = limiter.clone();
    ///     sim.watch("permits", move || watched.in_flight() as u64);
    ///     steadfast::server().load_shed(limiter).service(sim.backend(backend))
    /// })?;
    /// report.assert_nothing_held();
    /// # Ok(())
    /// # }
    /// ```
    pub fn watch(&self, what: impl Into<String>, held: impl Fn() -> u64 + 'static) {
        self.0.watched.borrow_mut().push((what.into(), Box::new(held)));
    }

    /// Returns the permits, places and probes that are still held, by name.
    pub(super) fn held(&self) -> BTreeMap<String, u64> {
        let mut all = BTreeMap::new();
        for (what, held) in &*self.0.watched.borrow() {
            *all.entry(what.clone()).or_default() += held();
        }
        all
    }

    /// Returns the time from the end of the warm-up to the end of the run.
    pub(super) fn counted(&self) -> Range<Duration> {
        self.0.counted.clone()
    }

    /// Returns the next stream of a kind.
    pub(super) fn stream(&self, draws: Draws) -> Stream {
        let mut streams = self.0.streams.borrow_mut();
        let number = streams.entry(draws).or_default();
        *number += 1;
        Stream::new(self.0.seed, draws, *number - 1)
    }

    /// Returns the time since the start of the run.
    pub fn elapsed(&self) -> Duration {
        self.0.elapsed.get()
    }

    fn read_clock(&self) {
        self.0.elapsed.set(Instant::now().saturating_duration_since(self.0.start));
    }

    /// Waits exactly this time.
    pub fn sleep(&self, duration: Duration) -> Sleep {
        Sleep::new(self.clone(), self.elapsed().saturating_add(duration))
    }

    /// Runs a future concurrently, until its end or that of the run.
    pub fn spawn(&self, future: impl Future<Output = ()> + 'static) {
        self.0.timed.set(self.0.timed.get() + 1);
        self.0.most_tasks.set(self.0.most_tasks.get().max(self.0.timed.get()));
        let sim = self.clone();
        self.spawn_untimed(async move {
            future.await;
            sim.0.timed.set(sim.0.timed.get() - 1);
        });
    }

    /// Runs a future that has no timers other than [`sleep`](Self::sleep). While all tasks are of this kind, the clock
    /// jumps from one sleep to the next.
    pub(super) fn spawn_untimed(&self, future: impl Future<Output = ()> + 'static) {
        self.0.spawned.borrow_mut().push(Box::pin(future));
    }

    /// Keeps the first error, for [`check`](Self::check).
    pub(super) fn expect(&self, checked: Result<(), ConfigError>) {
        if let Err(error) = checked {
            self.0.invalid.borrow_mut().get_or_insert(error);
        }
    }

    pub(super) fn backends(&self) -> Vec<BackendService> {
        self.0.backends.borrow().clone()
    }

    /// Returns the first error that [`expect`](Self::expect) received.
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        self.0.invalid.borrow_mut().take().map_or(Ok(()), Err)
    }

    pub(super) fn most_tasks(&self) -> u64 {
        self.0.most_tasks.get()
    }

    /// Runs a call: like [`spawn`](Self::spawn), but the run waits for its end.
    pub(super) fn spawn_call(&self, call: impl Future<Output = ()> + 'static) {
        self.0.calls.set(self.0.calls.get() + 1);
        let sim = self.clone();
        self.spawn(async move {
            call.await;
            sim.0.calls.set(sim.0.calls.get() - 1);
        });
    }

    /// Runs the world. The run ends when no call is in flight and the next jump of the clock would go beyond `end`. If
    /// something is watched, the run waits for the tasks of [`spawn`](Self::spawn) as it does for calls. In any case it
    /// ends when the next jump would go beyond `limit`.
    ///
    /// When no task can make progress, the clock jumps. The timers of layers fire at whole milliseconds.
    ///
    /// | sleepers | tasks with timers of layers | the clock goes to |
    /// |---|---|---|
    /// | some | none | the first sleeper |
    /// | some | some | the first sleeper, or the next whole millisecond if that is earlier |
    /// | none | some | the next whole millisecond |
    /// | none | none | nowhere: the run ends |
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
            let next = match next {
                Some(at) if !timed => at,
                Some(at) => at.min(next_milli(now)),
                None if timed => next_milli(now),
                None => return,
            };
            let under_way = self.0.calls.get() > 0 || timed && !self.0.watched.borrow().is_empty();
            if next > limit || next > end && !under_way {
                return;
            }
            if next > now {
                tokio::time::advance(next - now).await;
                self.read_clock();
            }
            self.wake_sleepers(next);
        }
    }

    /// Advances the clock to `end`, unless `end` has passed. No task runs.
    pub(super) async fn idle_until(&self, end: Duration) {
        let left = end.saturating_sub(self.elapsed());
        if !left.is_zero() {
            tokio::time::advance(left).await;
            self.read_clock();
        }
    }

    /// Polls all tasks that can make progress, until none can.
    fn run_tasks(&self, tasks: &mut FuturesUnordered<Task>, woken: &Woken, cx: &mut Context<'_>) {
        loop {
            for task in self.0.spawned.take() {
                tasks.push(task);
            }
            // After a pending poll, some tasks may still be able to make progress. `woken` is then set.
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

/// Ends a world when dropped, however its run ends. Backends and tasks refer to their world, and the world to them, so
/// without this none of them would be freed.
pub(super) struct Ending(pub(super) Sim);

impl Drop for Ending {
    fn drop(&mut self) {
        let kernel = &self.0.0;
        drop(kernel.backends.take());
        drop(kernel.watched.take());
        drop(kernel.spawned.take());
        drop(kernel.sleepers.take());
    }
}

fn next_milli(now: Duration) -> Duration {
    Duration::from_millis(u64::try_from(now.as_millis()).unwrap_or(u64::MAX).saturating_add(1))
}

/// Records that a task was woken.
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}
